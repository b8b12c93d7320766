// Package command is the one way meshsim runs other programs: an argv, never a
// shell line, with a context that ends the whole process group.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Cmd says what to run. Argv[0] is looked up on PATH.
type Cmd struct {
	Argv   []string
	Env    []string // added to this process's own environment
	Dir    string   // working directory; "" is the current one
	Stdin  io.Reader
	Stdout io.Writer // gets standard output as it comes; it is captured as well
	Stderr io.Writer // the same for standard error
}

// Output is what a program that ended wrote.
type Output struct {
	Stdout []byte
	Stderr []byte
}

// Runner runs programs. Tests give a fake one.
type Runner interface {
	// Run waits for the program. The error is an *Error when the program could
	// not be started or ended with a code other than 0.
	Run(ctx context.Context, c Cmd) (Output, error)
}

// Error tells which program failed and what it said last.
type Error struct {
	Argv     []string
	ExitCode int // -1 when the program did not start or was killed
	Stderr   []byte
	Err      error
}

func (e *Error) Error() string {
	msg := fmt.Sprintf("run %s: %v", strings.Join(e.Argv, " "), e.Err)
	if tail := lastLines(e.Stderr, 5); tail != "" {
		msg += ": " + tail
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// Exec runs programs on this machine.
type Exec struct{}

var _ Runner = Exec{}

// grace is how long a program gets between SIGTERM and SIGKILL when its context ends.
const grace = 5 * time.Second

// Run implements Runner.
func (Exec) Run(ctx context.Context, c Cmd) (Output, error) {
	if len(c.Argv) == 0 {
		return Output{}, errors.New("run: empty argv")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Dir = c.Dir
	cmd.Stdin = c.Stdin
	cmd.Stdout = tee(&stdout, c.Stdout)
	cmd.Stderr = tee(&stderr, c.Stderr)
	if len(c.Env) > 0 {
		cmd.Env = append(os.Environ(), c.Env...)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		// A child of the program may have outlived it.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	out := Output{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	if err == nil {
		return out, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	code := -1
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	}
	return out, &Error{Argv: c.Argv, ExitCode: code, Stderr: out.Stderr, Err: err}
}

func tee(buf *bytes.Buffer, w io.Writer) io.Writer {
	if w == nil {
		return buf
	}
	return io.MultiWriter(buf, w)
}

func lastLines(b []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
