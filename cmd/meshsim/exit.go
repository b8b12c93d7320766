package main

import (
	"context"
	"errors"
	"fmt"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
)

// The exit codes, one table for every command.
const (
	exitPass         = 0
	exitFail         = 1 // a budget is broken
	exitInvalid      = 2 // wrong use or invalid input
	exitInconclusive = 3 // too little was seen to say
	exitEnvironment  = 4 // engine, cluster or install failed
	exitInterrupted  = 130
)

// verdictError carries a verdict that is not "pass" out of a command. Its
// report has been printed already.
type verdictError struct{ verdict results.Judgement }

func (e *verdictError) Error() string { return "verdict: " + string(e.verdict) }

// usageError is a flag or argument that cobra refused.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitCode turns what a command returned into the table's number. A signal
// outranks whatever error it provoked.
func exitCode(ctx context.Context, err error) int {
	if ctx.Err() != nil {
		return exitInterrupted
	}
	if v, ok := errors.AsType[*verdictError](err); ok {
		if v.verdict == results.Fail {
			return exitFail
		}
		return exitInconclusive
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitInvalid
	}
	switch {
	case err == nil:
		return exitPass
	case fault.KindOf(err) == fault.Invalid:
		return exitInvalid
	default:
		return exitEnvironment
	}
}

// verdictResult is nil for a pass.
func verdictResult(verdict results.Judgement) error {
	if verdict == results.Pass {
		return nil
	}
	return &verdictError{verdict}
}

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}
