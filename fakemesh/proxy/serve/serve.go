// Package serve runs an HTTP server for connections that were accepted, and
// looked at, elsewhere.
package serve

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
)

// Limits against clients that are slow, greedy or broken.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 10 * time.Minute
	maxHeader     = 64 << 10
	maxStreams    = 1000
	streamWindow  = 64 << 10
	connWindow    = 256 << 10 // what a client can make the proxy keep for a server that does not read
	// maxFrame is HTTP/2's own default. A Go client sets as much aside for each
	// request that it sends a body with; net/http would invite it to 512 KiB.
	maxFrame    = 16 << 10
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
)

// Options of a Server.
type Options struct {
	Handler http.HandlerFunc
	// Requests bounds those that are served at a time, PerPeer those of one
	// address; 0 does not. What is over them goes to Overload, which is to
	// answer at once.
	Requests int
	PerPeer  int
	Overload http.HandlerFunc
	// HeaderTimeout is how long a request's head may take; 0 is 10 s.
	HeaderTimeout time.Duration
	// Aftermath is how long a request that its client gave up counts on; 0 is
	// 100 ms.
	Aftermath time.Duration
}

// Server serves HTTP/1 and HTTP/2 on connections handed to Serve.
type Server struct {
	Options
	inFlight atomic.Int64

	mu          sync.Mutex
	current     *generation
	generations map[*generation]struct{} // current and those that drain
	peers       map[netip.Addr]*peer
	stopped     bool
	wg          sync.WaitGroup
}

// generation is one http.Server with the connections it was given.
type generation struct {
	server   *http.Server
	listener *listener
	fresh    atomic.Int64 // connections of which no request has been served yet
}

// settleLimit is how long first requests are waited for at the end of a
// generation: those that clients were sending at that moment, and that net/http
// would not answer any more.
const settleLimit = 2 * time.Second

// end takes nothing new, answers what was being sent, and returns when all
// connections have ended.
func (g *generation) end(ctx context.Context) error {
	g.server.SetKeepAlivesEnabled(false)
	g.listener.Close()
	settle, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	_ = until(settle, func() bool { return g.fresh.Load() == 0 })
	return g.server.Shutdown(ctx)
}

type handedKey struct{}

// Meta is what a connection was handed over with.
func Meta(ctx context.Context) any {
	if h, ok := ctx.Value(handedKey{}).(*handed); ok {
		return h.meta
	}
	return nil
}

// New makes a server.
func New(o Options) *Server {
	if o.HeaderTimeout == 0 {
		o.HeaderTimeout = headerTimeout
	}
	if o.Aftermath == 0 {
		o.Aftermath = aftermath
	}
	s := &Server{Options: o, generations: map[*generation]struct{}{}, peers: map[netip.Addr]*peer{}}
	s.current = s.generation()
	return s
}

// serveHTTP keeps the connection from giving way, and the limits.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	h, ok := r.Context().Value(handedKey{}).(*handed)
	if !ok || !h.holder.Hold() {
		panic(http.ErrAbortHandler)
	}
	h.asked()
	if r.ProtoMajor == 2 {
		h.http2.Store(true)
	}
	defer h.holder.Release()
	if over(h.peer.inFlight.Add(1), s.PerPeer) {
		defer h.done()
		s.Overload(w, r) // it takes nothing of what there is for all
		return
	}
	if over(s.inFlight.Add(1), s.Requests) {
		defer s.done(h)
		s.Overload(w, r)
		return
	}
	defer s.finish(h, r)
	s.Handler(w, r)
}

func over(n int64, limit int) bool { return limit > 0 && n > int64(limit) }

func (s *Server) generation() *generation {
	g := &generation{listener: newListener()}
	g.server = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: s.HeaderTimeout,
		ConnState:         watchIdle, // not IdleTimeout, see there
		MaxHeaderBytes:    maxHeader,
		Protocols:         &http.Protocols{},
		// What clients do wrong is counted, not logged line by line.
		ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, handedKey{}, c)
		},
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
	g.server.Protocols.SetHTTP1(true)
	g.server.Protocols.SetUnencryptedHTTP2(true)
	s.generations[g] = struct{}{}
	s.wg.Go(func() { _ = g.server.Serve(g.listener) })
	return g
}

// Serve takes a connection over. It is closed when its requests are done.
func (s *Server) Serve(c net.Conn, meta any) {
	h := &handed{Conn: c, s: s, addr: tcp.Remote(c), holder: tcp.HolderOf(c), meta: meta}
	h.peer = s.join(h.addr)
	for {
		s.mu.Lock()
		g, stopped := s.current, s.stopped
		s.mu.Unlock()
		h.g = g
		g.fresh.Add(1)
		if g.listener.give(h) {
			return
		}
		g.fresh.Add(-1)
		if stopped {
			h.known.Store(true)
			h.Close()
			return
		}
		// It was drained meanwhile; there is another by now.
	}
}

// Drain tells all clients of now to come back by a new connection (GOAWAY, or
// the end of an idle connection); their requests go on to their ends. New
// connections are served as before.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	old := s.current
	s.current = s.generation()
	s.wg.Go(func() {
		if old.end(context.Background()) == nil {
			s.mu.Lock()
			delete(s.generations, old)
			s.mu.Unlock()
		}
	})
}

// Shutdown takes no more connections, lets requests end, those of drained
// connections and upgraded ones too, and closes the rest when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	g := s.current
	s.mu.Unlock()
	err := errors.Join(g.end(ctx), until(ctx, s.idle))
	s.mu.Lock()
	rest := slices.Collect(maps.Keys(s.generations))
	s.mu.Unlock()
	for _, g := range rest {
		g.server.Close()
	}
	s.wg.Wait()
	return err
}

// idle says whether drained connections have ended, and upgraded ones, of which
// net/http does not know any more.
func (s *Server) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight.Load() == 0 && len(s.generations) == 1
}

// pollPause is how often a shutdown looks whether something has ended.
const pollPause = 10 * time.Millisecond

// until returns when something has ended, or with ctx's error.
func until(ctx context.Context, ended func() bool) error {
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for !ended() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// handed is a connection with what it was handed over with.
type handed struct {
	net.Conn
	s      *Server
	addr   netip.Addr
	peer   *peer
	holder tcp.Holder
	meta   any
	g      *generation
	http2  atomic.Bool // it was asked something in HTTP/2
	idle   *time.Timer // of HTTP/1; only the connection's own goroutine uses it
	known  atomic.Bool // it counts as fresh no more
	gone   atomic.Bool // closed
	once   sync.Once
}

// watchIdle closes connections that stay idle. http.Server's own IdleTimeout is
// of no use: HTTP/2's timer is set once more when a connection ends with requests
// under way, and keeps all of it in memory for as long. HTTP/2 is pinged instead.
func watchIdle(c net.Conn, state http.ConnState) {
	h, ok := c.(*handed)
	switch {
	case !ok:
	case state != http.StateIdle:
		if h.idle != nil {
			h.idle.Stop()
		}
	case h.http2.Load():
	case h.idle == nil:
		h.idle = time.AfterFunc(idleTimeout, func() { h.Close() })
	default:
		h.idle.Reset(idleTimeout)
	}
}

// asked tells that a request of the connection is served.
func (h *handed) asked() {
	if !h.known.Load() && h.known.CompareAndSwap(false, true) {
		h.g.fresh.Add(-1)
	}
}

// Close implements net.Conn.
func (h *handed) Close() error {
	h.asked()
	h.once.Do(func() {
		h.gone.Store(true)
		h.s.leave(h.addr)
	})
	return h.Conn.Close()
}

// listener gives out the connections that it is given.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *listener) give(c net.Conn) bool {
	select {
	case l.conns <- c:
		return true
	case <-l.done:
		return false
	}
}

var errStopped = errors.New("the server has stopped")

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, errStopped
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }
