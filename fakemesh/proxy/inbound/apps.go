package inbound

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

// idleApp is less than the five seconds after which many servers close an idle
// HTTP/1 connection: a request must not meet that close.
const idleApp = 4 * time.Second

// apps are the pools of connections to the application, by port.
type apps struct {
	dial func(context.Context, netip.AddrPort) (net.Conn, error)
	mu   sync.Mutex
	all  map[appKey]*app
	uses uint64 // of all pools
}

type appKey struct {
	dst     netip.AddrPort
	isHTTP2 bool
}

// app is the pool of one port.
type app struct {
	*upstream.Pool
	last      uint64       // of the uses
	acquiring atomic.Int64 // requests that are getting a connection of it
}

// maxApps bounds the pools: who dials may name any port.
const maxApps = 256

// acquire gets a connection with room for one request.
func (a *apps) acquire(ctx context.Context, key appKey) (*upstream.Conn, error) {
	p := a.take(key)
	if p == nil {
		return nil, &upstream.UnsentError{Err: upstream.ErrOverloaded, Dial: true}
	}
	defer p.acquiring.Add(-1)
	return p.Acquire(ctx)
}

// take finds or makes a pool, which stays while acquiring counts it; nil when
// there are too many.
func (a *apps) take(key appKey) *app {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.all[key]
	if p == nil {
		if len(a.all) >= maxApps && !a.drop() {
			return nil
		}
		p = a.add(key)
	}
	a.uses++
	p.last = a.uses
	p.acquiring.Add(1)
	return p
}

func (a *apps) add(key appKey) *app {
	limits := upstream.Limits{Idle: idleApp, Connections: 2048}
	if key.isHTTP2 {
		limits.Idle = 0
	}
	dial := func(ctx context.Context) (net.Conn, error) { return a.dial(ctx, key.dst) }
	p := &app{Pool: upstream.NewPool(dial, key.isHTTP2, limits)}
	if a.all == nil {
		a.all = map[appKey]*app{}
	}
	a.all[key] = p
	return p
}

// drop gives up the pool that was of no use for longest. Its requests go on to
// their ends, its connections end with them.
func (a *apps) drop() bool {
	var oldest appKey
	var found *app
	for k, p := range a.all {
		if p.acquiring.Load() == 0 && (found == nil || p.last < found.last) {
			oldest, found = k, p
		}
	}
	if found == nil {
		return false
	}
	delete(a.all, oldest)
	found.Drain()
	return true
}

func (a *apps) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, p := range a.all {
		p.Drain()
		delete(a.all, k)
	}
}
