// Package relay passes HTTP requests on: headers, bodies, trailers and upgrades
// as they come, without gathering them.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

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

// answer passes a response on.
func (x *Relay) answer(res *http.Response, flow *metrics.HTTP, start time.Time) {
	defer res.Body.Close()
	announced := x.head(res)
	first, err := x.body(res)
	if first.IsZero() {
		first = time.Now()
	}
	if err != nil {
		x.brokeOff(err, res, flow, first.Sub(start))
		return
	}
	x.trailer(res, announced)
	whole(res, flow, first.Sub(start))
}

// body passes on what follows the head, and tells when the first of it was there.
func (x *Relay) body(res *http.Response) (first time.Time, err error) {
	// A length of 0 means that the head was the end as well, and it must be in
	// one frame again: gRPC knows by it that there are only trailers.
	if res.ContentLength == 0 {
		return first, nil
	}
	if err := http.NewResponseController(x.W).Flush(); err != nil {
		return first, fmt.Errorf("%w: %w", errClient, err)
	}
	return copyBody(x.W, res.Body)
}

func (x *Relay) trailer(res *http.Response, announced []string) {
	h := x.W.Header()
	for name, values := range res.Trailer {
		if !slices.Contains(announced, name) {
			name = http.TrailerPrefix + name
		}
		h[name] = values
	}
}

// whole counts a response that did not break off.
func whole(res *http.Response, flow *metrics.HTTP, took time.Duration) {
	end := metrics.Response{Status: res.StatusCode}
	if IsGRPC(res.Header) {
		end.GRPCStatus = grpcStatus(res)
	}
	count(flow, end, took)
}

func grpcStatus(res *http.Response) string {
	if s := res.Trailer.Get("Grpc-Status"); s != "" {
		return bounded(s)
	}
	if s := res.Header.Get("Grpc-Status"); s != "" {
		return bounded(s)
	}
	return "2"
}

// bounded keeps what a server may have made up out of the labels.
func bounded(s string) string {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= 16 {
		return s
	}
	return "2"
}

// head passes the head on, and tells which trailers it announced.
func (x *Relay) head(res *http.Response) (announced []string) {
	announced = slices.Collect(keys(res.Trailer))
	stripResponse(res.Header)
	h := x.W.Header()
	for name, values := range res.Header {
		h[name] = values
	}
	for _, name := range [...]string{"Date", "Content-Type"} {
		if _, ok := h[name]; !ok {
			h[name] = nil // or net/http puts its own
		}
	}
	if _, ok := h["Content-Length"]; !ok && x.R.ProtoMajor == 2 {
		h["Content-Length"] = nil // the same: a response of trailers only has none
	}
	if len(announced) > 0 {
		h["Trailer"] = []string{strings.Join(announced, ", ")}
	}
	x.W.WriteHeader(res.StatusCode)
	return announced
}

func stripResponse(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" && !strings.EqualFold(name, "close") {
				h.Del(name)
			}
		}
	}
	for _, name := range [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
}

func keys(t http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range t {
			if !yield(k) {
				return
			}
		}
	}
}

// errClient means that the client does not take the response.
var errClient = errors.New("write the response")

var buffers = sync.Pool{New: func() any { b := make([]byte, 16<<10); return &b }}

// copyBody passes each piece on as soon as it is there, and tells when the
// first was.
func copyBody(w http.ResponseWriter, body io.Reader) (first time.Time, err error) {
	buf, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	rc := http.NewResponseController(w)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			if first.IsZero() {
				first = time.Now()
			}
			if _, werr := w.Write((*buf)[:n]); werr != nil {
				return first, fmt.Errorf("%w: %w", errClient, werr)
			}
			if err == nil {
				if ferr := rc.Flush(); ferr != nil {
					return first, fmt.Errorf("%w: %w", errClient, ferr)
				}
			}
		}
		if err == io.EOF {
			return first, nil
		}
		if err != nil {
			return first, err
		}
	}
}

// brokeOff ends a response whose head is sent already.
func (x *Relay) brokeOff(err error, res *http.Response, flow *metrics.HTTP, took time.Duration) {
	end := metrics.Response{Status: res.StatusCode}
	isGRPC := IsGRPC(res.Header)
	gone := errors.Is(err, errClient) || errors.Is(x.R.Context().Err(), context.Canceled)
	if gone {
		if isGRPC {
			end.GRPCStatus = strconv.Itoa(codeCanceled)
			count(flow, end, took)
		}
		panic(http.ErrAbortHandler)
	}
	end.Error = "broken"
	if !isGRPC {
		count(flow, end, took)
		x.Fail(&Error{http.StatusBadGateway, end.Error, err})
		panic(http.ErrAbortHandler)
	}
	code := grpcFromReset(err)
	end.GRPCStatus = strconv.Itoa(code)
	h := x.W.Header()
	h[http.TrailerPrefix+"Grpc-Status"] = []string{end.GRPCStatus}
	h[http.TrailerPrefix+"Grpc-Message"] = []string{"the response broke off"}
	h[http.TrailerPrefix+"L5d-Proxy-Error"] = []string{"the response broke off"}
	count(flow, end, took)
	x.Fail(&Error{http.StatusBadGateway, end.Error, err})
}

// grpcFromReset is gRPC's code for how HTTP/2 ended a stream.
func grpcFromReset(err error) int {
	var stream http2.StreamError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codeDeadlineExceeded
	case !errors.As(err, &stream):
		return codeUnavailable
	}
	switch stream.Code {
	case http2.ErrCodeRefusedStream:
		return codeUnavailable
	case http2.ErrCodeCancel:
		return codeCanceled
	case http2.ErrCodeEnhanceYourCalm:
		return codeResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		return codePermissionDenied
	default:
		return codeInternal
	}
}

func count(flow *metrics.HTTP, end metrics.Response, took time.Duration) {
	if flow != nil {
		flow.Response(end, took)
	}
}
