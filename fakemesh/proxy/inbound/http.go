package inbound

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/relay"
	"meshsim.dev/meshsim/fakemesh/proxy/serve"
	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

// idleApp is less than the five seconds after which many servers close an idle
// HTTP/1 connection: a request must not meet that close.
const idleApp = 4 * time.Second

// serveHTTP carries one request when the policy lets it.
func (i *Inbound) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := serve.Meta(r.Context()).(*client)
	if !ok {
		http.Error(w, "no destination", http.StatusInternalServerError)
		return
	}
	d := i.rules(c).Request(c.who, r)
	peer := c.peer()
	peer.Srv, peer.Authz = d.Server, d.Authz
	flow := metrics.Flow{Peer: peer, Authority: i.Metrics.Authority(r.Host), Route: d.Route}
	fail := func(e *relay.Error) {
		i.Metrics.Error(metrics.Inbound, e.Kind).Inc()
		i.Log.Info("request failed", "port", c.dst.Port(), "client", c.who.Addr, "identity", c.who.Identity, "kind", e.Kind, "error", e.Err)
	}
	start := time.Now()
	if e := i.judge(d, peer); e != nil {
		fail(e)
		i.answered(flow, relay.Write(w, r, e, false), start)
		return
	}
	if end, redirected := relay.Redirect(w, r, d.Filters, d.Matched); redirected {
		i.answered(flow, end, start)
		return
	}
	d.Filters.Request(r.Header)
	relay.Relay{W: w, R: r, Route: &route{i: i, c: c, r: r, flow: flow}, Fail: fail, ClientID: c.who.Identity}.Run()
}

// judge counts a decision, and is the answer to a request that is not let in.
func (i *Inbound) judge(d policy.Decision, peer metrics.Peer) *relay.Error {
	switch {
	case d.NoRoute:
		i.Metrics.Authz("inbound_http_route_not_found_total", peer, policy.Ref{}).Inc()
		return &relay.Error{Status: http.StatusNotFound, Kind: "unexpected", Err: errNoRoute}
	case !d.Allowed:
		i.Metrics.Authz("inbound_http_authz_deny_total", peer, d.Route).Inc()
		return &relay.Error{Status: http.StatusForbidden, Kind: "unauthorized", Err: errDenied}
	default:
		i.Metrics.Authz("inbound_http_authz_allow_total", peer, d.Route).Inc()
		return nil
	}
}

// answered counts a request that the application never saw.
func (i *Inbound) answered(flow metrics.Flow, end metrics.Response, start time.Time) {
	h := i.Metrics.HTTP(flow)
	h.Request()
	h.Response(end, time.Since(start))
}

// route tries the application: once, and once more when a connection that was
// open turned out to take no more requests.
type route struct {
	i     *Inbound
	c     *client
	r     *http.Request
	flow  metrics.Flow
	tries int
	last  error
}

const maxTries = 3

// Next implements relay.Route.
func (x *route) Next(ctx context.Context) (relay.Leg, error) {
	x.tries++
	var unsent *upstream.UnsentError
	refused := errors.As(x.last, &unsent) && unsent.Dial
	if refused || x.tries > maxTries {
		return nil, &relay.Error{Status: http.StatusBadGateway, Kind: "connect", Err: x.last}
	}
	return x, ctx.Err()
}

// Acquire implements relay.Leg.
func (x *route) Acquire(ctx context.Context) (*upstream.Conn, error) {
	return x.i.apps.pool(x.c.dst, x.r.ProtoMajor == 2).Acquire(ctx)
}

// Flow implements relay.Leg.
func (x *route) Flow() *metrics.HTTP { return x.i.Metrics.HTTP(x.flow) }

// Done implements relay.Leg.
func (x *route) Done(_ time.Duration, err error) { x.last = err }

// apps are the pools of connections to the application, by port.
type apps struct {
	dial func(context.Context, netip.AddrPort) (net.Conn, error)
	mu   sync.Mutex
	all  map[appKey]*upstream.Pool
}

type appKey struct {
	dst     netip.AddrPort
	isHTTP2 bool
}

// maxApps bounds the pools: who dials may name any port.
const maxApps = 256

func (a *apps) pool(dst netip.AddrPort, isHTTP2 bool) *upstream.Pool {
	key := appKey{dst, isHTTP2}
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.all[key]; p != nil {
		return p
	}
	if a.all == nil {
		a.all = map[appKey]*upstream.Pool{}
	}
	if len(a.all) >= maxApps {
		for k, p := range a.all {
			if p.Len() == 0 {
				delete(a.all, k)
			}
		}
	}
	limits := upstream.Limits{Idle: idleApp, Connections: 2048}
	if isHTTP2 {
		limits.Idle = 0
	}
	p := upstream.NewPool(func(ctx context.Context) (net.Conn, error) { return a.dial(ctx, dst) }, isHTTP2, limits)
	a.all[key] = p
	return p
}

func (a *apps) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, p := range a.all {
		p.Drain()
		delete(a.all, k)
	}
}
