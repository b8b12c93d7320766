package command

import (
	"context"
	"strings"
	"sync"
)

// Fake is a Runner for tests: it records every call and answers from Respond.
type Fake struct {
	Respond func(c Cmd) (Output, error) // nil answers everything with nothing

	mu    sync.Mutex
	calls []Cmd
}

var _ Runner = (*Fake)(nil)

// Run implements Runner.
func (f *Fake) Run(ctx context.Context, c Cmd) (Output, error) {
	f.mu.Lock()
	f.calls = append(f.calls, c)
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Output{}, &Error{Argv: c.Argv, ExitCode: -1, Err: err}
	}
	if f.Respond == nil {
		return Output{}, nil
	}
	return f.Respond(c)
}

// Lines returns each recorded argv joined by spaces, in order.
func (f *Fake) Lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines := make([]string, len(f.calls))
	for i, c := range f.calls {
		lines[i] = strings.Join(c.Argv, " ")
	}
	return lines
}
