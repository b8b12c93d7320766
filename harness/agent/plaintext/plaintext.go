// Package plaintext tries to call meshed servers without mTLS, as a stranger
// in the cluster would. A server that answers at all has let the call in.
package plaintext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Target is one server to try.
type Target struct {
	Name string
	Addr string // host:port
}

// Result counts the attempts. One without a clear answer is in neither count.
type Result struct {
	Attempts int      `json:"attempts"`
	Refused  int      `json:"refused"`
	Accepted int      `json:"accepted"`
	Evidence []string `json:"evidence"`
	// Exempt are calls to what may let them in; they are in no count.
	Exempt []Call `json:"exempt,omitempty"`
}

// Call is one attempt.
type Call struct {
	Name  string  `json:"name"`
	Addr  string  `json:"addr"`
	Proto string  `json:"proto"`
	Got   Outcome `json:"got"`
	Why   string  `json:"why"`
}

// Outcome is what became of an attempt.
type Outcome string

const (
	Refused  Outcome = "refused"
	Accepted Outcome = "accepted"
	Unknown  Outcome = "unknown" // no answer that says either
)

const timeout = 5 * time.Second

// ParseTargets reads NAME=HOST:PORT words.
func ParseTargets(words []string) ([]Target, error) {
	var targets []Target
	for _, w := range words {
		name, addr, ok := strings.Cut(w, "=")
		host, port, err := net.SplitHostPort(addr)
		if !ok || name == "" || err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("target %q is not NAME=HOST:PORT", w)
		}
		targets = append(targets, Target{Name: name, Addr: addr})
	}
	return targets, nil
}

// Try calls every target, and every exempt one, by gRPC and by HTTP/1.1, in
// plaintext.
func Try(ctx context.Context, targets, exempt []Target) Result {
	r := Result{Evidence: []string{}, Exempt: call(ctx, exempt)}
	for _, c := range call(ctx, targets) {
		r.Attempts++
		switch c.Got {
		case Refused:
			r.Refused++
		case Accepted:
			r.Accepted++
		}
		r.Evidence = append(r.Evidence, fmt.Sprintf("%s over %s: %s (%s)", c.Name, c.Proto, c.Got, c.Why))
	}
	return r
}

func call(ctx context.Context, targets []Target) (all []Call) {
	for _, t := range targets {
		for _, try := range []struct {
			proto string
			call  func(context.Context, string) (Outcome, string)
		}{{"gRPC", func(ctx context.Context, addr string) (Outcome, string) { return Knock(ctx, addr) }}, {"HTTP/1.1", tryHTTP}} {
			got, why := try.call(ctx, t.Addr)
			all = append(all, Call{t.Name, t.Addr, try.proto, got, why})
		}
	}
	return all
}

// Knock calls a gRPC method that no server has: a server that the call reaches
// says Unimplemented, a proxy that denies it says PermissionDenied. Options may
// bring another way to dial.
func Knock(ctx context.Context, addr string, options ...grpc.DialOption) (Outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)
	conn, err := grpc.NewClient(addr, options...)
	if err != nil {
		return Unknown, err.Error()
	}
	defer conn.Close()
	err = conn.Invoke(ctx, "/meshsim.agent.Stranger/Knock", &emptypb.Empty{}, &emptypb.Empty{})
	s := status.Convert(err)
	why := "grpc-status " + s.Code().String()
	switch {
	case s.Code() == codes.PermissionDenied:
		return Refused, why
	case s.Code() == codes.Unavailable && cutOff(s.Message()):
		return Refused, "connection cut"
	case s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded:
		return Unknown, why + ": " + s.Message()
	default:
		return Accepted, why
	}
}

// tryHTTP asks a gRPC port by HTTP/1.1. A proxy that denies it answers 403; a
// gRPC server that the call reaches hangs up or answers by its own protocol,
// so only the former is a clear answer, as is any other HTTP answer.
func tryHTTP(ctx context.Context, addr string) (Outcome, string) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return Unknown, err.Error()
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		if isReset(err) {
			return Unknown, "connection cut"
		}
		return Unknown, err.Error()
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // only the status matters
	if res.StatusCode == http.StatusForbidden {
		return Refused, res.Status
	}
	if res.StatusCode == http.StatusBadGateway || res.StatusCode == http.StatusServiceUnavailable {
		return Unknown, res.Status
	}
	return Accepted, res.Status
}

// cutOff tells a connection that was closed on us from one that never came up.
func cutOff(message string) bool {
	for _, word := range []string{"reset by peer", "EOF", "closed the connection", "broken pipe", "remote error: tls"} {
		if strings.Contains(message, word) {
			return true
		}
	}
	return false
}

func isReset(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrDeadlineExceeded)
}
