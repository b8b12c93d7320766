package outbound

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/relay"
)

// routing is what is known of a target's routes.
type routing struct {
	watch func()
	begin sync.Once // with the first HTTP request
	rules atomic.Pointer[rules]
	known chan struct{} // closed with the first answer, or when it was waited for too long
	first sync.Once
}

// rules are a target's routes, with the targets of their backends.
type rules struct {
	*policy.Outbound
	targets map[netip.AddrPort]*target
}

func newRouting() routing { return routing{known: make(chan struct{})} }

// set puts rules in the place of those before.
func (x *routing) set(next *rules) {
	x.rules.Store(next)
	x.first.Do(func() { close(x.known) })
}

// backends are where the routes lead to.
func (x *routing) backends() map[netip.AddrPort]*target {
	if r := x.rules.Load(); r != nil {
		return r.targets
	}
	return nil
}

// patience is how long the first request to a Service waits for its routes.
// Without a policy controller all goes where it was going.
const patience = time.Second

// wait gives the routes, nil when there is nobody to tell.
func (x *routing) wait(ctx context.Context) *rules {
	if r := x.rules.Load(); r != nil {
		return r
	}
	x.begin.Do(func() { go x.watch() })
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-x.known:
	case <-ctx.Done():
	case <-timer.C:
		x.first.Do(func() { close(x.known) })
	}
	return x.rules.Load()
}

// setRoutes takes a new answer of the policy controller. What makes no sense
// leaves the rules as they were.
func (o *Outbound) setRoutes(t *target, r *meshapi.OutboundRules) {
	compiled, err := policy.CompileOutbound(r)
	if err != nil {
		o.Log.Warn("routes are not understood", "dst", t.addr, "error", err)
		return
	}
	next := &rules{Outbound: compiled, targets: map[netip.AddrPort]*target{}}
	for _, addr := range compiled.Addresses() {
		if addr == t.addr {
			continue
		}
		if b := o.targets.get(targetKey{addr: addr}, o.begin); b != nil {
			next.targets[addr] = b
			b.release() // the sweep sees where routes lead to
		}
	}
	t.routing.set(next)
}

// chosen is a request with the way that it goes; t is nil when it was answered.
type chosen struct {
	t *target
	w http.ResponseWriter
	r *http.Request
}

var (
	errNoRoute   = errors.New("no route found for request")
	errNoBackend = errors.New("no backend of the route has a weight")
)

// choose finds the way of a request; done, unless nil, is to be called when it
// has ended.
func (o *Outbound) choose(t *target, w http.ResponseWriter, r *http.Request, deadline time.Time) (to chosen, done func(), e *relay.Error) {
	to = chosen{t, w, r}
	if o.WatchRoutes == nil || t.wait(r.Context(), time.Until(deadline)).GetKind() != meshapi.Destinations_SERVICE {
		return to, done, nil
	}
	now := t.routing.wait(r.Context())
	if now == nil {
		return to, done, nil
	}
	way, matched := now.Route(r)
	if way == nil {
		return to, done, &relay.Error{Status: http.StatusNotFound, Kind: "unexpected", Err: errNoRoute}
	}
	if _, redirected := relay.Redirect(w, r, way.Filters, matched); redirected {
		to.t = nil
		return to, done, nil
	}
	way.Filters.Request(r.Header)
	to.w = relay.Filtered(w, way.Filters)
	if e = o.send(&to, now, way); e != nil {
		return to, done, e
	}
	if way.Timeout > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), way.Timeout)
		to.r, done = r.WithContext(ctx), cancel
	}
	return to, done, nil
}

// send picks the backend of a request and counts it there.
func (o *Outbound) send(to *chosen, now *rules, way *policy.Way) *relay.Error {
	key := metrics.RouteBackend{Parent: now.Parent, Route: way.Route, Backend: now.Parent}
	if way.Plain() {
		o.Metrics.RouteBackend(key).Inc()
		return nil
	}
	backend := way.Backend()
	if backend == nil {
		return &relay.Error{Status: http.StatusInternalServerError, Kind: "unexpected", Err: errNoBackend}
	}
	key.Backend = backend.Resource
	o.Metrics.RouteBackend(key).Inc()
	if backend.Failure != "" {
		return &relay.Error{Status: http.StatusInternalServerError, Kind: "unexpected", Err: errors.New(backend.Failure)}
	}
	if backend.Addr != to.t.addr {
		if to.t = now.targets[backend.Addr]; to.t == nil {
			return &relay.Error{Status: http.StatusServiceUnavailable, Kind: "unexpected", Err: errTooManyTargets}
		}
	}
	backend.Filters.Request(to.r.Header)
	to.w = relay.Filtered(to.w, backend.Filters)
	return nil
}
