// Package fail is the shop's one kind of error: what went wrong, why in a word
// that programs can read, and on which hop between the services.
package fail

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is a refused or failed call.
type Error struct {
	Code    codes.Code
	Reason  string   // "out_of_stock"; "" stands for the code's own word
	Message string   // one line for people
	Hops    []string // where it failed: the services behind this one, nearest first
	Pod     string   // the last pod on that way that still answered, "" when none did
	Err     error    // what caused it, nil when it was decided here
}

// New makes an error that was decided here.
func New(code codes.Code, reason, format string, args ...any) *Error {
	return &Error{Code: code, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// At wraps an error met when hop was asked to do something, and returns nil for
// nil. An error that is a *Error already gets the hop before its own.
func At(hop, doing string, err error) error {
	if err == nil {
		return nil
	}
	out := From(err)
	out.Hops = append([]string{hop}, out.Hops...)
	out.Message = doing + ": " + out.Message
	return out
}

// From returns err as an *Error of its own: a copy of the one in its chain, or
// one made from a gRPC status or a context's end. Other errors are Internal.
func From(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		out := *e
		if err != error(e) {
			out.Message, out.Err = err.Error(), err
		}
		return &out
	}
	out := &Error{Message: err.Error(), Err: err}
	if s, ok := status.FromError(err); ok {
		out.Code, out.Message = s.Code(), s.Message()
		return out
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		out.Code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		out.Code = codes.Canceled
	default:
		out.Code = codes.Internal
	}
	return out
}

// Code is the kind of an error, OK for nil.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return From(err).Code
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// GRPCStatus makes the error a gRPC status wherever grpc asks for one.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// Word is the machine-readable reason, never empty.
func (e *Error) Word() string {
	if e.Reason != "" {
		return e.Reason
	}
	return words[e.Code]
}

// Chain writes the way to the failure, beginning with the service asked.
func (e *Error) Chain(service string) string {
	return strings.Join(append([]string{service}, e.Hops...), ">")
}

// SplitChain is the inverse of Chain.
func SplitChain(chain string) []string {
	if chain == "" {
		return nil
	}
	return strings.Split(chain, ">")
}

// IsFailure tells a failure of the shop from an answer of its business (not
// found, refused, invalid).
func IsFailure(code codes.Code) bool {
	switch code {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition:
		return false
	}
	return true
}

var words = map[codes.Code]string{
	codes.Canceled:           "canceled",
	codes.Unknown:            "unknown",
	codes.InvalidArgument:    "invalid",
	codes.DeadlineExceeded:   "deadline_exceeded",
	codes.NotFound:           "not_found",
	codes.AlreadyExists:      "conflict",
	codes.PermissionDenied:   "permission_denied",
	codes.ResourceExhausted:  "overloaded",
	codes.FailedPrecondition: "refused",
	codes.Aborted:            "aborted",
	codes.OutOfRange:         "out_of_range",
	codes.Unimplemented:      "unimplemented",
	codes.Internal:           "internal",
	codes.Unavailable:        "unavailable",
	codes.DataLoss:           "data_loss",
	codes.Unauthenticated:    "unauthenticated",
}
