package alb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	// targetIdle is how long an unused connection to a target is kept. It is
	// shorter than the shop's five seconds of drain, so that a pod that stops
	// taking new connections has lost the old idle ones before it exits, and
	// no request is sent into a connection that is being closed.
	targetIdle    = 3 * time.Second
	dialTimeout   = 5 * time.Second
	targetTimeout = 60 * time.Second // first byte of an answer, as AWS's idle timeout
	// statusClientGone is what AWS logs when the client left before the answer.
	statusClientGone = 460
)

// proxy is one listener of the load balancer.
type proxy struct {
	listener Listener
	port     string // the listener's own, for X-Forwarded-Port
	table    *table
	access   *accessLog
	reverse  *httputil.ReverseProxy
	now      func() time.Time
}

// newProxy serves one listener. transport is the pool of connections to targets.
func newProxy(l Listener, port string, t *table, access *accessLog, transport http.RoundTripper, log *slog.Logger) *proxy {
	p := &proxy{listener: l, port: port, table: t, access: access, now: time.Now}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      onceOnly{transport},
		FlushInterval:  -1, // stream: pass each piece on as it comes
		ModifyResponse: trailersOnly,
		ErrorHandler:   p.fail,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return p
}

// newTransport is a pool of connections to targets, of HTTP/1.1 or of HTTP/2
// without TLS. Close its idle connections at the end.
func newTransport(l Listener, timeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Transport{
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       targetIdle,
		ResponseHeaderTimeout: timeout,
		DisableCompression:    true, // pass bodies on as they are
		Protocols:             protocols(l == GRPC),
		// an HTTP/2 connection to a dead node would otherwise hold calls for ever
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// exchange is what is known of one request; it travels in its context.
type exchange struct {
	target *target
	entry  *entry
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	e, _ := ctx.Value(exchangeKey{}).(*exchange)
	return e
}

// ServeHTTP sends a request to its target and logs it.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	trace := r.Header.Get("X-Amzn-Trace-Id")
	if trace == "" {
		trace = newTraceID(p.now())
		r.Header.Set("X-Amzn-Trace-Id", trace)
	}
	e := p.access.begin(p.listener, r, trace)
	out := &countingWriter{ResponseWriter: w}
	defer func() { // also when the copying of a body was given up by a panic
		e.done(out)
		p.access.write(e)
	}()

	group := p.table.route(p.listener, r.Host, r.URL.Path)
	if group == nil {
		p.refuse(out, e, http.StatusNotFound, "no rule takes this path")
		return
	}
	e.Group = group.spec.Key
	target := group.pick()
	if target == nil {
		p.refuse(out, e, http.StatusServiceUnavailable, "no target is registered")
		return
	}
	e.Target, e.Node = target.address, target.node.Name
	ctx := context.WithValue(r.Context(), exchangeKey{}, &exchange{target: target, entry: e})
	p.reverse.ServeHTTP(out, r.WithContext(ctx))
}

func (p *proxy) rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.Scheme = "http"
	pr.Out.URL.Host = exchangeOf(pr.In.Context()).target.address
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it came, also where Go finds it malformed
	// Host stays the client's own, as behind a real load balancer
	pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
	pr.SetXForwarded()
	pr.Out.Header.Del("X-Forwarded-Host") // AWS's does not send it
	pr.Out.Header.Set("X-Forwarded-Port", p.port)
}

// fail answers for a target that did not.
func (p *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	ex := exchangeOf(r.Context())
	status := statusOf(r.Context(), err)
	if status == statusClientGone {
		ex.entry.Error = "the client has gone"
		ex.entry.Status = statusClientGone // there is nobody left to answer
		panic(http.ErrAbortHandler)
	}
	p.refuse(w, ex.entry, status, err.Error())
}

// statusOf says which of AWS's codes stands for err: 504 when the target was
// silent, 502 when it broke off or spoke nonsense.
func statusOf(client context.Context, err error) int {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return http.StatusGatewayTimeout
	}
	if client.Err() != nil {
		return statusClientGone
	}
	return http.StatusBadGateway
}

// refuse answers in the load balancer's own name.
func (p *proxy) refuse(w http.ResponseWriter, e *entry, status int, reason string) {
	e.Error = reason
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	w.Header().Set("Server", "awselb/2.0")
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<html>\n<head><title>%s</title></head>\n<body><center><h1>%s</h1></center></body>\n</html>\n", text, text)
}

// trailersOnly mends gRPC answers that are headers alone. On their way through
// a proxy they may gain an empty body, and then a client looks for the status
// in the trailers; so that is where it is put.
func trailersOnly(res *http.Response) error {
	if ex := exchangeOf(res.Request.Context()); ex != nil {
		ex.entry.TargetStatus = res.StatusCode
	}
	if res.Header.Get("Grpc-Status") == "" {
		return nil
	}
	moved := maps.Clone(res.Header)
	for _, stays := range []string{"Content-Type", "Content-Length", "Date", "Server", "Trailer"} {
		delete(moved, stays)
	}
	for name := range moved {
		delete(res.Header, name)
	}
	delete(res.Header, "Content-Length")
	res.ContentLength = -1
	res.Trailer = moved
	return nil
}

// onceOnly keeps the transport from sending a request a second time. Go's
// repeats what it takes for harmless when a kept connection breaks; AWS's load
// balancer answers 502 then, and so must this one. A request of which nothing
// was written yet may still go to another connection.
type onceOnly struct{ next http.RoundTripper }

func (o onceOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.WithContext(r.Context()) // a copy: a caller's request is not ours to change
	r.GetBody = nil
	if noBody := r.Body == nil || r.Body == http.NoBody; noBody && repeatable(r.Method) {
		r.Body = io.NopCloser(strings.NewReader("")) // a body that cannot be had again
	}
	r.Header = hideIdempotency(r.Header)
	return o.next.RoundTrip(r)
}

// repeatable methods are those that the transport repeats by itself.
func repeatable(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// hideIdempotency spells the headers that the transport takes as leave to
// repeat a write in another case, which means the same to the target.
func hideIdempotency(h http.Header) http.Header {
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := h[name]; ok {
			h = h.Clone()
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
	return h
}

// newTraceID is AWS's form: a version, the time, 96 random bits.
func newTraceID(now time.Time) string {
	var b [12]byte
	rand.Read(b[:])
	return fmt.Sprintf("Root=1-%08x-%s", uint32(now.Unix()), hex.EncodeToString(b[:]))
}
