// Package fault gives errors their kind, so that one table can turn any of
// them into an exit code, and their mend: what the reader should do next.
package fault

import "errors"

// Kind says whose problem an error is.
type Kind int

const (
	// Invalid is wrong use or invalid input: exit code 2.
	Invalid Kind = iota + 1
	// Environment is an engine, cluster or install that failed: exit code 4.
	Environment
)

// Error is an error with a kind and a mend.
type Error struct {
	Kind Kind
	Err  error
	Mend string // one sentence, "" when there is nothing better to say
}

func (e *Error) Error() string {
	if e.Mend == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + "\n  mend: " + e.Mend
}

func (e *Error) Unwrap() error { return e.Err }

// NewInvalid marks err as caused by what the user wrote or typed.
func NewInvalid(err error, mend string) error {
	return &Error{Kind: Invalid, Err: err, Mend: mend}
}

// NewEnvironment marks err as caused by the machine, the engine or the cluster.
func NewEnvironment(err error, mend string) error {
	return &Error{Kind: Environment, Err: err, Mend: mend}
}

// KindOf returns the kind of the outermost fault in err's chain, or 0.
func KindOf(err error) Kind {
	if f, ok := errors.AsType[*Error](err); ok {
		return f.Kind
	}
	return 0
}
