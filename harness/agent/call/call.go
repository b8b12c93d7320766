// Package call sends calls at a fixed rate, whatever becomes of the earlier
// ones, and tells of each how it ended. Time runs from the instant a call was
// due, so that a sender that is held up cannot hide it.
package call

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
)

// Options say whom to call and how.
type Options struct {
	// Target is a URL whose scheme is the protocol: http (HTTP/1.1), grpc (an
	// echo.Who call, or /CODE for a call that fails so), ws, tcp (the bytes must
	// come back) or greeting (the server speaks first).
	Target  string
	Method  string            // of http; "" is GET, or POST with a body
	Headers map[string]string // of http, and metadata of grpc
	Bytes   int               // of payload
	Rate    float64           // calls a second
	Count   int
	Timeout time.Duration // of one call, a held one apart from its hold
	// Hold keeps a ws, tcp or grpc connection busy for so long: a message and
	// its answer every PingEvery, a stream of echo.Watch for grpc. 0 is one
	// message.
	Hold time.Duration
	// Fresh makes a connection for each call; else http and grpc keep theirs.
	Fresh bool
	// Show keeps the headers of both ways.
	Show bool
}

// PingEvery is the pause between two messages on a held connection.
const PingEvery = 250 * time.Millisecond

// Result is one call. Times are milliseconds since the first call was due.
type Result struct {
	N      int     `json:"n"`
	Due    float64 `json:"dueMs"`
	Sent   float64 `json:"sentMs"`
	Done   float64 `json:"doneMs"`
	OK     bool    `json:"ok"`
	Status int     `json:"status,omitempty"`   // of HTTP, 0 when there was no answer
	Code   string  `json:"grpcCode,omitempty"` // name of the gRPC code
	Server string  `json:"server,omitempty"`   // the name of who answered, by its own account
	Pings  int     `json:"pings,omitempty"`    // answers on a held connection
	Error  string  `json:"error,omitempty"`

	Headers  http.Header         `json:"headers,omitempty"`  // of the request, as the server saw them
	Received map[string][]string `json:"received,omitempty"` // headers of an HTTP answer, trailers of a gRPC one
}

// caller makes one call and fills in how it ended. An error counts as a
// failed call.
type caller interface {
	call(ctx context.Context, into *Result) error
	close()
}

func newCaller(o Options) (caller, error) {
	u, err := url.Parse(o.Target)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	if u.Host == "" || u.Port() == "" {
		return nil, fmt.Errorf("target %q is not PROTOCOL://HOST:PORT", o.Target)
	}
	switch u.Scheme {
	case "http":
		return newHTTP(o), nil
	case "grpc":
		return newGRPC(o, u)
	case "ws":
		return &wsCaller{o: o}, nil
	case "tcp", "greeting":
		return &tcpCaller{o: o, addr: u.Host, greeted: u.Scheme == "greeting"}, nil
	}
	return nil, fmt.Errorf("target %q: protocols are http, grpc, ws, tcp and greeting", o.Target)
}

func (o Options) check() error {
	if o.Rate <= 0 || o.Count < 1 || o.Timeout <= 0 || o.Bytes < 0 || o.Hold < 0 {
		return errors.New("call needs --rate > 0, --count ≥ 1, --timeout > 0, --bytes ≥ 0 and --hold ≥ 0")
	}
	return nil
}

// Run makes the calls and returns them in the order in which they were due.
// When ctx ends no more are made, and those under way end with it.
func Run(ctx context.Context, o Options) ([]Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	c, err := newCaller(o)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var (
		mu    sync.Mutex
		all   []Result
		calls sync.WaitGroup
	)
	start := time.Now()
	for n := range o.Count {
		due := time.Duration(float64(n) / o.Rate * float64(time.Second))
		if pause.For(ctx, time.Until(start.Add(due))) != nil {
			break
		}
		calls.Go(func() {
			r := one(ctx, c, o, n, start, due)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, r)
		})
	}
	calls.Wait()
	slices.SortFunc(all, func(a, b Result) int { return a.N - b.N })
	return all, nil
}

func one(ctx context.Context, c caller, o Options, n int, start time.Time, due time.Duration) Result {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout+o.Hold)
	defer cancel()
	since := func() float64 { return milliseconds(time.Since(start)) }
	r := Result{N: n, Due: milliseconds(due), Sent: since()}
	err := c.call(ctx, &r)
	r.Done, r.OK = since(), err == nil
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// holding tells whether a connection is still to be held, and waits for the
// next message's time.
func holding(ctx context.Context, until time.Time) bool {
	next := time.Now().Add(PingEvery)
	return next.Before(until) && pause.For(ctx, time.Until(next)) == nil
}

// Decode reads what agent call printed: one Result a line.
func Decode(r io.Reader) ([]Result, error) {
	var all []Result
	for dec := json.NewDecoder(r); ; {
		var one Result
		err := dec.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read call %d: %w", len(all), err)
		}
		all = append(all, one)
	}
}
