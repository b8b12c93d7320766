package alb

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// proxy is one listener of the load balancer.
type proxy struct {
	listener Listener
	port     string // the listener's own, for X-Forwarded-Port
	table    *table
	access   *accessLog
	failures *failures
	reverse  *httputil.ReverseProxy
}

// newProxy serves one listener.
func newProxy(l Listener, port string, t *table, access *accessLog, f *failures, log *slog.Logger) *proxy {
	p := &proxy{listener: l, port: port, table: t, access: access, failures: f}
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      towardsTarget{},
		FlushInterval:  -1, // stream: pass each piece on as it comes
		BufferPool:     &buffers{},
		ModifyResponse: p.answered,
		ErrorHandler:   p.fail,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return p
}

// ServeHTTP sends a request to its target and logs it.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client := clientOf(r.Context())
	e := newEntry(p.listener, p.port, client, r)
	e.trace = traceFor(r.Header.Get("X-Amzn-Trace-Id"), e.created)
	r.Header.Set("X-Amzn-Trace-Id", e.trace)
	out := &countingWriter{ResponseWriter: w, proto: r.Proto}
	defer func() { // also when the copying of a body was given up by a panic
		e.done(out)
		p.access.write(e)
	}()
	if p.table.worn(client) {
		w.Header().Set("Connection", "close")
	}
	if forwards(r.Header) > maxForwards {
		answer(out, r, statusTooManyForwards)
		return
	}
	found, group := p.table.route(p.listener, r.Host, r.URL.Path)
	if group == nil {
		e.action = "fixed-response"
		answer(out, r, http.StatusNotFound)
		return
	}
	e.action, e.priority, e.group = "forward", found.priority, group.arn
	if !speaks(p.listener, r) {
		p.refuse(out, r, group, nil, statusWrongProtocol, errProtocol)
		return
	}
	zone := ""
	if client != nil {
		zone = client.zone
	}
	t := group.pick(zone)
	if t == nil {
		p.refuse(out, r, group, nil, http.StatusServiceUnavailable, errNoTarget)
		return
	}
	defer group.release(t)
	e.target = t.address
	p.forward(out, r, group, t, e)
}

var (
	errProtocol = errors.New("the request's protocol is not the target group's")
	errNoTarget = errors.New("no target is in service")
)

// forward sends a request to the target that was picked for it.
func (p *proxy) forward(out *countingWriter, r *http.Request, g *group, t *target, e *entry) {
	x, r := begin(out, r, g, t, e)
	out.touch = x.touch
	defer func() {
		e.sentAt = x.sentAfter()
		if e.targetStatus != 0 { // an answer that was passed on, whole or not
			if err := x.breakage(); err != nil && !errors.Is(err, context.Canceled) {
				p.failures.note(g, t, e.targetStatus, err)
			}
		}
		if !x.whole.Load() && x.ctx.Err() == nil {
			giveUpReading(out, x.spec.Idle) // the server reads the rest of the request, and would wait for ever
		}
		x.end()
	}()
	p.reverse.ServeHTTP(out, r)
}

func (p *proxy) rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	pr.Out.URL.Scheme = "http"
	if x.spec.TLS {
		pr.Out.URL.Scheme = "https"
	}
	pr.Out.URL.Host = x.target.address
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it came, also where Go finds it malformed
	// Host stays the client's own, as behind a real load balancer
	pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
	pr.SetXForwarded()
	pr.Out.Header.Del("X-Forwarded-Host") // AWS's does not send it
	pr.Out.Header.Set("X-Forwarded-Port", p.port)
}

// answered sees a target's answer before it is passed on.
func (p *proxy) answered(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	x.touch()
	x.entry.targetStatus = res.StatusCode
	x.entry.headerAt = time.Since(x.entry.created)
	if res.StatusCode == http.StatusSwitchingProtocols {
		x.idle.Stop() // from here on it is a tunnel
		return nil
	}
	trailersOnly(res)
	res.Body = &answerBody{res.Body, x}
	return nil
}

// fail answers for a target that did not.
func (p *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	status := x.statusOf(err)
	if cause := context.Cause(x.ctx); cause != nil {
		err = cause
	}
	if status == statusClientGone {
		x.entry.status = statusClientGone // there is nobody left to answer
		p.failures.note(x.group, x.target, status, err)
		panic(http.ErrAbortHandler)
	}
	if status == http.StatusRequestTimeout {
		w.Header().Set("Connection", "close")
	}
	p.refuse(w, r, x.group, x.target, status, err)
}

// refuse answers in the load balancer's own name, and says why where only the
// operator sees it.
func (p *proxy) refuse(w http.ResponseWriter, r *http.Request, g *group, t *target, status int, err error) {
	p.failures.note(g, t, status, err)
	answer(w, r, status)
}

// trailersOnly mends gRPC answers that are headers alone. On their way through
// a proxy they may gain an empty body, and then a client looks for the status
// in the trailers; so that is where it is put.
func trailersOnly(res *http.Response) {
	if res.Header.Get("Grpc-Status") == "" {
		return
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
}

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
