package inbound

import (
	"context"
	"errors"
	"net/http"
	"time"

	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/relay"
	"meshsim.dev/meshsim/fakemesh/proxy/serve"
	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

// serveHTTP carries one request when the policy lets it.
func (i *Inbound) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c, ok := serve.Meta(r.Context()).(*client)
	if !ok {
		http.Error(w, "no destination", http.StatusInternalServerError)
		return
	}
	x := &route{i: i, c: c, r: r}
	if x.admit(w) {
		x := relay.Relay{W: w, R: r, Route: x, Fail: x.fail, ClientID: c.who.Identity}
		x.Run()
	}
}

// admit says whether the request goes on; it is answered otherwise. What deciding
// takes of the stack is free again before the request goes on, or the stack would
// have to grow once more.
func (x *route) admit(w http.ResponseWriter) bool {
	start := time.Now()
	x.decide()
	x.label()
	d := &x.decision
	if e := x.i.judge(d, &x.flow.Peer); e != nil {
		x.fail(e)
		x.answered(relay.Write(w, x.r, e, false), start)
		return false
	}
	if end, redirected := relay.Redirect(w, x.r, d.Filters, d.Matched); redirected {
		x.answered(end, start)
		return false
	}
	d.Filters.Request(x.r.Header)
	return true
}

func (x *route) decide() { x.decision = x.i.rules(x.c).Request(x.c.who, x.r) }

// label says by what the request is counted.
func (x *route) label() {
	x.flow = metrics.Flow{Peer: x.c.peer(), Authority: x.i.Metrics.Authority(x.r.Host), Route: x.decision.Route}
	x.flow.Srv, x.flow.Authz = x.decision.Server, x.decision.Authz
}

func (x *route) fail(e *relay.Error) {
	x.i.Metrics.Error(metrics.Inbound, e.Kind).Inc()
	x.i.Log.Info("request failed", "port", x.c.dst.Port(), "client", x.c.who.Addr, "identity", x.c.who.Identity, "kind", e.Kind, "error", e.Err)
}

// answered counts a request that the application never saw.
func (x *route) answered(end metrics.Response, start time.Time) {
	h := x.Flow()
	h.Request()
	h.Response(end, time.Since(start))
}

// judge counts a decision, and is the answer to a request that is not let in.
func (i *Inbound) judge(d *policy.Decision, peer *metrics.Peer) *relay.Error {
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

// overload answers what is over the limit of requests.
func (i *Inbound) overload(w http.ResponseWriter, r *http.Request) {
	i.Metrics.Error(metrics.Inbound, relay.Overloaded.Kind).Inc()
	relay.Write(w, r, relay.Overloaded, false)
}

// route tries the application: once, and once more when a connection that was
// open turned out to take no more requests.
type route struct {
	i     *Inbound
	c     *client
	r     *http.Request
	tries int
	last  error

	decision policy.Decision
	flow     metrics.Flow
}

const maxTries = 3

// Next implements relay.Route.
func (x *route) Next(ctx context.Context) (relay.Leg, error) {
	x.tries++
	var unsent *upstream.UnsentError
	refused := errors.As(x.last, &unsent) && unsent.Dial
	if errors.Is(x.last, upstream.ErrOverloaded) {
		return nil, relay.Overloaded
	}
	if refused || x.tries > maxTries {
		return nil, &relay.Error{Status: http.StatusBadGateway, Kind: "connect", Err: x.last}
	}
	return x, ctx.Err()
}

// Acquire implements relay.Leg.
func (x *route) Acquire(ctx context.Context) (*upstream.Conn, error) {
	return x.i.apps.acquire(ctx, appKey{x.c.dst, x.r.ProtoMajor == 2})
}

// Flow implements relay.Leg.
func (x *route) Flow() *metrics.HTTP { return x.i.Metrics.HTTP(&x.flow) }

// Done implements relay.Leg.
func (x *route) Done(_ time.Duration, err error) { x.last = err }
