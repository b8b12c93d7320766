package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/proxy/balance"
	"meshsim.dev/meshsim/fakemesh/proxy/batch"
	"meshsim.dev/meshsim/fakemesh/proxy/detect"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/relay"
	"meshsim.dev/meshsim/fakemesh/proxy/serve"
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

// FailFast is how long a request waits for an endpoint, or a connection for
// the address to become known.
const FailFast = 3 * time.Second

// Watch reports what is behind an address, at once and at every change, until
// ctx ends. It survives outages of the control plane by itself.
type Watch func(ctx context.Context, addr netip.AddrPort, update func(*meshapi.Destinations))

// WatchRoutes reports the routes of an address in the same way.
type WatchRoutes func(ctx context.Context, addr netip.AddrPort, update func(*meshapi.OutboundRules))

// Options of an Outbound.
type Options struct {
	Credentials    *meshtls.Credentials
	Watch          Watch
	WatchRoutes    WatchRoutes // nil: there are none
	Metrics        *metrics.Registry
	Log            *slog.Logger
	PodIP          netip.Addr
	ConnectTimeout time.Duration
	DetectTimeout  time.Duration
	InboundPort    uint16 // where other pods' proxies listen
	MaxRequests    int    // at a time; 0 is no limit
	// Ingress leaves what is dialled as it is, but for requests that name a Service.
	Ingress bool
	// Resolve gives the IPv4 addresses of a name that such a request names.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// OriginalDst tells where a redirected connection was going.
	OriginalDst func(net.Conn) (netip.AddrPort, error)
	// Control is called on each socket before it connects; may be nil.
	Control func(network, address string, c syscall.RawConn) error
}

// Outbound carries what the application dials.
type Outbound struct {
	Options
	server  *serve.Server
	targets targets
	names   names
	done    chan struct{}
}

// New makes an Outbound; its watches live until Shutdown.
func New(o Options) *Outbound {
	x := &Outbound{Options: o, names: names{resolve: o.Resolve}, done: make(chan struct{})}
	x.server = serve.New(serve.Options{Handler: x.serveHTTP, Requests: o.MaxRequests, Overload: x.overload})
	go x.sweep()
	return x
}

func (o *Outbound) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-o.done:
			return
		case now := <-tick.C:
			o.targets.sweep(now, o.Metrics)
		}
	}
}

func (o *Outbound) begin(t *target) {
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.used.Store(time.Now().Unix())
	t.routing.watch = func() { o.WatchRoutes(ctx, t.addr, func(r *meshapi.OutboundRules) { o.setRoutes(t, r) }) }
	go o.Watch(ctx, t.addr, func(d *meshapi.Destinations) { t.update(d, o.endpoint, o.Metrics) })
}

// Shutdown takes nothing new, lets requests end until ctx does, and gives
// everything free.
func (o *Outbound) Shutdown(ctx context.Context) error {
	err := o.server.Shutdown(ctx)
	close(o.done)
	return err
}

// Close gives free what Shutdown left for open connections.
func (o *Outbound) Close() { o.targets.closeAll(o.Metrics) }

// conn is an accepted connection that ends its hold on its target when closed.
type conn struct {
	*detect.Conn
	release func()
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}

// Handle takes one redirected connection over.
func (o *Outbound) Handle(ctx context.Context, raw net.Conn) {
	dst, err := o.OriginalDst(raw)
	if err != nil || !dst.Addr().Is4() {
		o.Log.Debug("a connection without a destination", "error", err)
		raw.Close()
		return
	}
	begin := o.begin
	if o.Ingress {
		begin = o.beginPlain
	}
	t := o.targets.get(targetKey{addr: dst, plain: o.Ingress}, begin)
	if t == nil {
		o.Log.Warn(errTooManyTargets.Error(), "dst", dst)
		raw.Close()
		return
	}
	released := make(chan struct{}, 1)
	released <- struct{}{}
	metered := tcp.Meter(raw, o.Metrics.TCP(metrics.Peer{
		Direction: metrics.Outbound, TargetIP: dst.Addr().String(), TargetPort: dst.Port(),
		TLS: metrics.TLSNoIdentity, NoTLSReason: metrics.ReasonLoopback,
	}, "src"))
	c := &conn{Conn: detect.NewConn(metered), release: func() {
		select {
		case <-released:
			t.release()
		default:
		}
	}}
	o.route(ctx, c, t)
}

// route decides by what is behind the address, and by the first bytes.
func (o *Outbound) route(ctx context.Context, c *conn, t *target) {
	d := t.wait(ctx, FailFast)
	if d.GetOpaque() {
		o.forward(ctx, c, t)
		return
	}
	p, timedOut, err := c.Detect(o.DetectTimeout)
	if err != nil {
		c.Close()
		return
	}
	if timedOut {
		o.Log.Info(fmt.Sprintf("protocol detection timed out after %s", o.DetectTimeout), "dst", t.addr)
	}
	switch p {
	case detect.HTTP1:
		o.server.Serve(c, t)
		return
	case detect.HTTP2:
		o.server.Serve(batch.New(c), t)
		return
	}
	if d == nil {
		o.Metrics.TCPError(metrics.Outbound, "failfast").Inc()
		c.Close()
		return
	}
	o.forward(ctx, c, t)
}

// forward carries bytes to an endpoint.
func (o *Outbound) forward(ctx context.Context, c *conn, t *target) {
	deadline := time.Now().Add(FailFast)
	for {
		m, err := t.endpoints.Pick(ctx, deadline)
		if err != nil {
			if errors.Is(err, balance.ErrUnavailable) {
				o.Metrics.TCPError(metrics.Outbound, "failfast").Inc()
			}
			o.Log.Info("no connection", "dst", t.addr, "error", err)
			c.Close()
			return
		}
		begin := time.Now()
		up, err := m.Endpoint.dialOpaque(ctx)
		if err != nil {
			o.Log.Info("no connection", "dst", t.addr, "error", err)
			if t.state.Load().GetKind() == meshapi.Destinations_UNKNOWN {
				// There is no other: who comes next tries it himself.
				m.Done(0)
				c.Close()
				return
			}
			m.Failed()
			continue
		}
		m.Alive(time.Since(begin))
		tcp.Join(c, up)
		m.Done(0)
		return
	}
}

// serveHTTP carries one request.
func (o *Outbound) serveHTTP(w http.ResponseWriter, r *http.Request) {
	x, done := o.admit(w, r)
	defer done()
	if x != nil {
		x.Run()
	}
}

// admit finds the way of a request, nil when it is answered already; done is to be
// called when it has ended. What deciding takes of the stack is free again before
// the request goes on, or the stack would have to grow once more.
func (o *Outbound) admit(w http.ResponseWriter, r *http.Request) (x *relay.Relay, done func()) {
	done = func() {}
	t, ok := serve.Meta(r.Context()).(*target)
	if !ok {
		http.Error(w, "no destination", http.StatusInternalServerError)
		return nil, done
	}
	fail := func(e *relay.Error) {
		o.Metrics.Error(metrics.Outbound, e.Kind).Inc()
		o.Log.Info("request failed", "dst", t.addr, "kind", e.Kind, "error", e.Err)
	}
	refuse := func(e *relay.Error) {
		fail(e)
		relay.Write(w, r, e, false)
	}
	switch named, err := o.overridden(r); {
	case err != nil:
		refuse(&relay.Error{Status: http.StatusBadGateway, Kind: "unexpected", Err: err})
		return nil, done
	case named != nil:
		done = named.release
		t = named
	}
	deadline := time.Now().Add(FailFast)
	to, cancel, e := o.choose(t, w, r, deadline)
	if e != nil {
		refuse(e)
		return nil, done
	}
	if cancel != nil {
		release := done
		done = func() { cancel(); release() }
	}
	if to.t == nil {
		return nil, done // it is answered
	}
	return &relay.Relay{
		W: to.w, R: to.r, Fail: fail,
		Route: &route{t: to.t, r: to.r, o: o, deadline: deadline, isHTTP2: r.ProtoMajor == 2},
	}, done
}

// overload answers what is over the limit of requests.
func (o *Outbound) overload(w http.ResponseWriter, r *http.Request) {
	o.Metrics.Error(metrics.Outbound, relay.Overloaded.Kind).Inc()
	relay.Write(w, r, relay.Overloaded, false)
}

// route tries endpoints of a target for one request.
type route struct {
	t        *target
	r        *http.Request
	o        *Outbound
	deadline time.Time
	isHTTP2  bool
	tries    int
	last     error
}

// maxTries bounds how often a request is taken back and tried again.
const maxTries = 16

// Next implements relay.Route.
func (x *route) Next(ctx context.Context) (relay.Leg, error) {
	if x.t.wait(ctx, time.Until(x.deadline)) == nil {
		return nil, x.unavailable(errors.New("what is behind the address is not known"))
	}
	if x.tries++; x.tries > maxTries {
		return nil, x.unavailable(fmt.Errorf("tried %d times: %w", maxTries, x.last))
	}
	m, err := x.t.endpoints.Pick(ctx, x.deadline)
	if errors.Is(err, balance.ErrUnavailable) {
		if x.last != nil {
			err = fmt.Errorf("%w: %w", err, x.last)
		}
		return nil, x.unavailable(err)
	}
	if err != nil {
		return nil, err
	}
	return &leg{route: x, m: m}, nil
}

func (x *route) unavailable(err error) error {
	if errors.Is(x.last, upstream.ErrOverloaded) {
		return relay.Overloaded
	}
	return &relay.Error{Status: http.StatusServiceUnavailable, Kind: "failfast", Err: fmt.Errorf("service in fail-fast: %w", err)} // Linkerd's words
}

// leg is one endpoint tried for one request.
type leg struct {
	*route
	m *balance.Member[*endpoint]
}

// Acquire implements relay.Leg.
func (l *leg) Acquire(ctx context.Context) (*upstream.Conn, error) {
	if l.isHTTP2 {
		return l.m.Endpoint.h2.Acquire(ctx)
	}
	return l.m.Endpoint.h1.Acquire(ctx)
}

// Flow implements relay.Leg.
func (l *leg) Flow() *metrics.HTTP {
	return l.o.Metrics.HTTP(&metrics.Flow{Peer: l.m.Endpoint.peer, Authority: l.o.Metrics.Authority(l.r.Host)})
}

// Done implements relay.Leg.
func (l *leg) Done(rtt time.Duration, err error) {
	var unsent *upstream.UnsentError
	if errors.As(err, &unsent) {
		l.last = err
		if unsent.Dial && l.r.Context().Err() == nil && !errors.Is(err, upstream.ErrOverloaded) {
			l.m.Failed()
			return
		}
	}
	if err != nil {
		rtt = 0
	}
	l.m.Done(rtt)
}
