// Package outbound is the proxy's side towards what the application dials:
// discovery, balancing, mutual TLS.
package outbound

import (
	"context"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/proxy/balance"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// target is one address that the application dials.
type target struct {
	addr      netip.AddrPort
	state     atomic.Pointer[meshapi.Destinations]
	endpoints *balance.Set[*endpoint]
	known     chan struct{} // closed with the first answer
	once      sync.Once
	cancel    context.CancelFunc
	routing   routing

	mu     sync.Mutex
	closed bool

	conns atomic.Int64 // of the application
	used  atomic.Int64 // unix seconds
}

func newEndpoints() *balance.Set[*endpoint] {
	return balance.New(FailFast, func(ctx context.Context, x *endpoint) error { return x.reach(ctx) })
}

// wait gives what is behind the address, nil when ctx ends before it is known.
func (t *target) wait(ctx context.Context, limit time.Duration) *meshapi.Destinations {
	if d := t.state.Load(); d != nil {
		return d
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-t.known:
	case <-timer.C:
	case <-ctx.Done():
	}
	return t.state.Load()
}

// update takes a new answer of the destination service.
func (t *target) update(d *meshapi.Destinations, make func(*meshapi.Destinations, *meshapi.Endpoint) *endpoint, m *metrics.Registry) {
	byKey := map[string]*meshapi.Endpoint{}
	var keys []string
	for _, e := range t.behind(d) {
		key := e.GetIp() + ":" + strconv.Itoa(int(e.GetPort())) + "|" + e.GetIdentity() + "|" + strconv.FormatBool(e.GetOpaque())
		byKey[key] = e
		keys = append(keys, key)
	}
	gone := t.endpoints.Update(keys, func(key string) *endpoint { return make(d, byKey[key]) })
	t.state.Store(d)
	t.once.Do(func() { close(t.known) })
	for _, e := range gone {
		e.drain()
	}
	t.show(d, m)
}

// behind is what is sent to: what is neither Service nor pod is that itself.
func (t *target) behind(d *meshapi.Destinations) []*meshapi.Endpoint {
	if d.GetKind() != meshapi.Destinations_UNKNOWN {
		return d.GetEndpoints()
	}
	return []*meshapi.Endpoint{{Ip: t.addr.Addr().String(), Port: uint32(t.addr.Port())}}
}

// show makes the number of endpoints seen in the metrics.
func (t *target) show(d *meshapi.Destinations, m *metrics.Registry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d.GetKind() == meshapi.Destinations_SERVICE && !t.closed {
		m.Balance(t.balancer(d), t.endpoints.Counts)
	}
}

func (t *target) balancer(d *meshapi.Destinations) metrics.Balancer {
	return metrics.Balancer{Namespace: d.GetNamespace(), Service: d.GetService(), Port: t.addr.Port()}
}

// close gives everything free.
func (t *target) close(m *metrics.Registry) {
	t.cancel()
	for _, e := range t.endpoints.Update(nil, nil) {
		e.drain()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if d := t.state.Load(); d.GetKind() == meshapi.Destinations_SERVICE {
		m.Balance(t.balancer(d), nil)
	}
}

// Limits of what is remembered of addresses.
const (
	maxTargets = 2048
	// forgetAfter is how long an address that nobody is connected to is
	// remembered: Linkerd's outbound discovery idle timeout.
	forgetAfter = 5 * time.Second
	sweepEvery  = time.Second
)

// targets are the addresses dialled of late.
type targets struct {
	mu    sync.Mutex
	byKey map[targetKey]*target
}

// targetKey tells addresses apart that are asked about and those that are not.
type targetKey struct {
	addr  netip.AddrPort
	plain bool
}

// get finds or begins to watch an address; nil when there are too many. The
// caller counts as one of its connections until it calls release.
func (ts *targets) get(key targetKey, begin func(*target)) *target {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byKey[key]
	if t == nil {
		if len(ts.byKey) >= maxTargets {
			return nil
		}
		t = &target{addr: key.addr, endpoints: newEndpoints(), known: make(chan struct{}), routing: newRouting()}
		if ts.byKey == nil {
			ts.byKey = map[targetKey]*target{}
		}
		ts.byKey[key] = t
		begin(t)
	}
	t.conns.Add(1)
	return t
}

func (t *target) release() {
	t.used.Store(time.Now().Unix())
	t.conns.Add(-1)
}

// idle says whether nobody has dialled the address for long.
func (t *target) idle(now time.Time) bool {
	return t.conns.Load() == 0 && now.Sub(time.Unix(t.used.Load(), 0)) >= forgetAfter
}

// sweep forgets addresses that nobody has dialled for long, and that no route
// of one that was dialled leads to: a canary that gets few requests stays known.
func (ts *targets) sweep(now time.Time, m *metrics.Registry) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	wanted := map[*target]bool{}
	for _, t := range ts.byKey {
		if t.idle(now) {
			continue
		}
		wanted[t] = true
		for _, b := range t.routing.backends() {
			wanted[b] = true
		}
	}
	for key, t := range ts.byKey {
		if !wanted[t] {
			delete(ts.byKey, key)
			t.close(m)
		}
	}
}

func (ts *targets) closeAll(m *metrics.Registry) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for key, t := range ts.byKey {
		delete(ts.byKey, key)
		t.close(m)
	}
}
