// Package relay passes HTTP requests on: headers, bodies, trailers and upgrades
// as they come, without gathering them.
package relay

import (
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

// Route gives the next server to try for a request, nil at the end. What it
// returns was not tried before, or may be tried again by now.
type Route interface {
	// Next finds a server; its error is an *Error when the proxy must answer itself.
	Next(ctx context.Context) (Leg, error)
}

// Leg is one server to try.
type Leg interface {
	// Acquire gets a connection to it.
	Acquire(ctx context.Context) (*upstream.Conn, error)
	// Flow counts what is sent to it; nil counts nothing.
	Flow() *metrics.HTTP
	// Done tells how it went: the time to the response's head, or an error.
	Done(rtt time.Duration, err error)
}

// Error is an answer that the proxy makes itself.
type Error struct {
	Status int // HTTP; gRPC's code is made from it
	Kind   string
	Err    error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Relay passes one request on and answers it.
type Relay struct {
	W     http.ResponseWriter
	R     *http.Request
	Route Route
	// Fail is told of each answer that the proxy made itself.
	Fail func(*Error)
	// ClientID is who asks, for the server to know; "" when it is not proved.
	ClientID string
}

// clientIDHeader carries ClientID.
const clientIDHeader = "L5d-Client-Id"

// Run does it. It panics with http.ErrAbortHandler when the response broke off
// after its head was sent, as net/http wants it.
func (x *Relay) Run() {
	start := time.Now()
	if x.R.ProtoMajor == 1 {
		// Bodies may go both ways at once.
		_ = http.NewResponseController(x.W).EnableFullDuplex()
	}
	upgrade := stripHop(x.R.Header)
	if x.ClientID != "" {
		x.R.Header[clientIDHeader] = []string{x.ClientID}
	}
	var body *replayBody
	if x.R.Body != nil && x.R.Body != http.NoBody && x.R.ContentLength != 0 {
		body = newReplayBody(x.R.Body)
	}
	res, flow, err := x.send(body, upgrade)
	if err != nil {
		x.refuse(flow, err, time.Since(start))
		return
	}
	if body != nil {
		body.forget()
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.switchProtocols(res, flow, start)
		return
	}
	x.answer(res, flow, start)
}

// send tries one server after another until one has taken the request. The flow
// is the last one's that it was sent to, if it was sent at all.
func (x *Relay) send(body *replayBody, upgrade string) (*http.Response, *metrics.HTTP, error) {
	ctx := x.R.Context()
	var last error
	for {
		leg, err := x.Route.Next(ctx)
		if err != nil {
			return nil, nil, err
		}
		if leg == nil {
			return nil, nil, &Error{http.StatusBadGateway, "unavailable", last}
		}
		res, flow, err := x.try(ctx, leg, body, upgrade)
		if err == nil {
			return res, flow, nil
		}
		var unsent *upstream.UnsentError
		if !errors.As(err, &unsent) || ctx.Err() != nil {
			return nil, flow, err
		}
		last = err
	}
}

func (x *Relay) try(ctx context.Context, leg Leg, body *replayBody, upgrade string) (*http.Response, *metrics.HTTP, error) {
	begin := time.Now()
	conn, err := leg.Acquire(ctx)
	if err != nil {
		leg.Done(0, err)
		return nil, nil, err
	}
	// The transport may hold on to it for longer than RoundTrip takes.
	a := &attempt{out: *x.R}
	out := &a.out
	out.RequestURI = ""
	out.URL = a.target(x.R)
	out.Close = false
	if upgrade != "" {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", upgrade)
	}
	switch {
	case body == nil:
		out.Body, out.ContentLength = http.NoBody, 0
	case body.next(&a.body):
		out.Body = &a.body
	default:
		conn.Release()
		err := errors.New("the request's body is too long to send it again")
		leg.Done(0, err)
		return nil, nil, err
	}
	flow := leg.Flow()
	if flow != nil {
		flow.Request()
	}
	res, err := conn.RoundTrip(out)
	leg.Done(time.Since(begin), err)
	return res, flow, err
}

// attempt is what sending a request once takes, in one piece of memory.
type attempt struct {
	out  http.Request
	url  url.URL
	body attemptBody
}

// target keeps the request's target as the client wrote it.
func (a *attempt) target(r *http.Request) *url.URL {
	host := r.Host
	if host == "" {
		host = "unknown"
	}
	uri := r.RequestURI
	if len(uri) > 1 && uri[0] == '/' && uri[1] != '/' {
		a.url = url.URL{Scheme: "http", Host: host, Opaque: uri}
		return &a.url
	}
	a.url = *r.URL
	a.url.Scheme, a.url.Host = "http", host
	return &a.url
}

// stripHop takes away what is meant for one connection only, and returns the
// protocol that the client wants to upgrade to.
func stripHop(h http.Header) (upgrade string) {
	if headerHas(h["Connection"], "upgrade") {
		upgrade = h.Get("Upgrade")
	}
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	trailers := headerHas(h["Te"], "trailers")
	for _, name := range [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
	for name := range h {
		if strings.HasPrefix(name, "L5d-") {
			delete(h, name)
		}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http puts its own
	}
	return upgrade
}

func headerHas(lines []string, token string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(textproto.TrimString(item), token) {
				return true
			}
		}
		return false
	})
}
