package tcp

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/clusters/socket"
)

// Acceptor takes connections from a listener, no more than Max at a time. When
// one comes too many, those that have been of no use for longest give way, of an
// address that has more than half of them first: who opens connections to block
// others pushes out his own.
type Acceptor struct {
	Max int
	// MaxNew bounds those of them that have not shown yet what they are for,
	// such as half a handshake; 0 is Max.
	MaxNew int
	Handle func(ctx context.Context, c net.Conn)
	// Shed is told how many connections were closed to keep the limits.
	Shed func(n int)

	open  atomic.Int64
	fresh atomic.Int64
	wg    sync.WaitGroup
	mu    sync.Mutex
	all   map[*Tracked]struct{}
}

// Tracked is a connection that its Acceptor can close.
type Tracked struct {
	*socket.Conn
	a    *Acceptor
	once sync.Once
	err  error

	holds atomic.Int32 // evicted once it is given up
	known atomic.Bool  // it has shown what it is for
	since atomic.Int64 // unix nanoseconds when it was last of use, or accepted
	until atomic.Int64 // unix nanoseconds; before, it does not give way
}

const evicted = -1 << 30

// quiet is how long a connection may carry no bytes before it gives way to
// those of other addresses too, should there be too many.
const quiet = time.Minute

// Hold keeps the connection from giving way to others until Release is called
// as often. It is false when the connection has been given up already.
func (t *Tracked) Hold() bool {
	if t.holds.Add(1) <= 0 {
		return false
	}
	t.settle()
	return true
}

func (t *Tracked) settle() {
	if !t.known.Load() && t.known.CompareAndSwap(false, true) {
		t.a.fresh.Add(-1)
	}
}

// Carry tells that bytes pass: for a while the connection does not give way.
func (t *Tracked) Carry() {
	t.settle()
	now := time.Now()
	t.since.Store(now.UnixNano())
	t.until.Store(now.Add(quiet).UnixNano())
}

// Release ends a Hold.
func (t *Tracked) Release() {
	t.since.Store(time.Now().UnixNano())
	t.holds.Add(-1)
}

// Close implements net.Conn; only the first call counts.
func (t *Tracked) Close() error {
	t.once.Do(func() {
		t.err = t.Conn.Close()
		t.a.mu.Lock()
		delete(t.a.all, t)
		t.a.mu.Unlock()
		t.a.open.Add(-1)
		t.settle()
	})
	return t.err
}

// Holder is what keeps a connection from giving way to others.
type Holder interface {
	Hold() bool
	Release()
	Carry()
}

type free struct{}

func (free) Hold() bool { return true }
func (free) Release()   {}
func (free) Carry()     {}

// HolderOf finds what a connection consists of that can be held. What no
// Acceptor has accepted never gives way.
func HolderOf(c net.Conn) Holder {
	for c != nil {
		if h, ok := c.(Holder); ok {
			return h
		}
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	return free{}
}

// Serve accepts until the listener is closed. Handle runs in a goroutine of its
// own for each connection and may leave the connection to others; it must be
// closed in the end.
func (a *Acceptor) Serve(ctx context.Context, l net.Listener) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Out of descriptors, say: what is open must end first.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		conn, ok := c.(*net.TCPConn)
		if !ok || !a.room() {
			c.Close()
			a.Shed(1)
			continue
		}
		own, err := socket.Wrap(conn)
		if err != nil {
			c.Close()
			continue
		}
		t := a.track(own)
		a.wg.Go(func() { a.Handle(ctx, t) })
	}
}

func (a *Acceptor) track(conn *socket.Conn) *Tracked {
	t := &Tracked{Conn: conn, a: a}
	t.since.Store(time.Now().UnixNano())
	a.open.Add(1)
	a.fresh.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[*Tracked]struct{}{}
	}
	a.all[t] = struct{}{}
	return t
}

// room makes room for one more connection; false when there is none.
func (a *Acceptor) room() bool {
	if limit := a.MaxNew; limit > 0 && a.fresh.Load() >= int64(limit) {
		a.evict(limit, func(t *Tracked) bool { return !t.known.Load() })
	}
	if a.open.Load() < int64(a.Max) {
		return true
	}
	// A client that keeps a connection for later must not lose it to the flood of
	// another: it may be writing the next request already.
	now, greedy := time.Now().UnixNano(), a.greediest()
	idle := func(t *Tracked) bool { return t.until.Load() < now }
	fromGreedy := func(t *Tracked) bool { return Remote(t) == greedy }
	return greedy.IsValid() && a.evict(a.Max, func(t *Tracked) bool { return fromGreedy(t) && idle(t) }) > 0 ||
		greedy.IsValid() && a.evict(a.Max, fromGreedy) > 0 ||
		a.evict(a.Max, idle) > 0
}

// greediest is the address that has more than half of the connections.
func (a *Acceptor) greediest() netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := map[netip.Addr]int{}
	for t := range a.all {
		addr := Remote(t)
		if count[addr]++; count[addr] > a.Max/2 {
			return addr
		}
	}
	return netip.Addr{}
}

// evict closes a few of those that nobody holds, the oldest first: several at
// once, so that not each connection of a flood costs a look at all of them.
func (a *Acceptor) evict(limit int, from func(*Tracked) bool) int {
	type aged struct {
		t     *Tracked
		since int64
	}
	a.mu.Lock()
	idle := make([]aged, 0, limit)
	for t := range a.all {
		if t.holds.Load() == 0 && from(t) {
			idle = append(idle, aged{t, t.since.Load()})
		}
	}
	a.mu.Unlock()
	slices.SortFunc(idle, func(x, y aged) int { return cmp.Compare(x.since, y.since) })
	n := 0
	for _, x := range idle[:min(len(idle), 1+limit/64)] {
		if x.t.holds.CompareAndSwap(0, evicted) {
			x.t.Close()
			n++
		}
	}
	if n > 0 {
		a.Shed(n)
	}
	return n
}

// Wait returns when every Handle has, or with ctx's error.
func (a *Acceptor) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		a.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CloseAll ends every connection.
func (a *Acceptor) CloseAll() {
	a.mu.Lock()
	var all []*Tracked
	for t := range a.all {
		all = append(all, t)
	}
	a.mu.Unlock()
	for _, t := range all {
		t.Close()
	}
}

// Open is the number of connections that are open.
func (a *Acceptor) Open() int { return int(a.open.Load()) }
