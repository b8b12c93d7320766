// Package serve runs an HTTP server for connections that were accepted, and
// looked at, elsewhere.
package serve

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits against clients that are slow, greedy or broken.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 10 * time.Minute
	maxHeader     = 64 << 10
	maxStreams    = 1000
	streamWindow  = 256 << 10
	connWindow    = 1 << 20
	pingAfter     = 30 * time.Second
	pingTimeout   = 15 * time.Second
	writeTimeout  = 5 * time.Minute // without a single byte
)

// Server serves HTTP/1 and HTTP/2 on connections handed to Serve.
type Server struct {
	handler http.Handler

	mu      sync.Mutex
	current *generation
	old     sync.WaitGroup
	stopped bool
}

// generation is one http.Server with the connections it was given.
type generation struct {
	server   *http.Server
	listener *listener
}

type metaKey struct{}

// Meta is what a connection was handed over with.
func Meta(ctx context.Context) any { return ctx.Value(metaKey{}) }

// New makes a server.
func New(handler http.Handler) *Server {
	s := &Server{handler: handler}
	s.current = s.generation()
	return s
}

func (s *Server) generation() *generation {
	g := &generation{listener: newListener()}
	g.server = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		Protocols:         &http.Protocols{},
		// What clients do wrong is counted, not logged line by line.
		ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if h, ok := c.(*handed); ok {
				return context.WithValue(ctx, metaKey{}, h.meta)
			}
			return ctx
		},
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerStream:     streamWindow,
			MaxReceiveBufferPerConnection: connWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
			WriteByteTimeout:              writeTimeout,
		},
	}
	g.server.Protocols.SetHTTP1(true)
	g.server.Protocols.SetUnencryptedHTTP2(true)
	s.old.Go(func() { _ = g.server.Serve(g.listener) })
	return g
}

// Serve takes a connection over. It is closed when its requests are done.
func (s *Server) Serve(c net.Conn, meta any) {
	s.mu.Lock()
	g := s.current
	s.mu.Unlock()
	if !g.listener.give(&handed{Conn: c, meta: meta}) {
		c.Close()
	}
}

// Drain tells all clients of now to come back by a new connection (GOAWAY, or
// the end of an idle connection); their requests go on to their ends. New
// connections are served as before.
func (s *Server) Drain() {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	old := s.current
	s.current = s.generation()
	s.mu.Unlock()
	s.old.Go(func() { _ = old.server.Shutdown(context.Background()) })
}

// Shutdown takes no more connections, lets requests end, and closes the rest
// when ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	g := s.current
	s.mu.Unlock()
	err := g.server.Shutdown(ctx)
	if err != nil {
		g.server.Close()
	}
	return err
}

type handed struct {
	net.Conn
	meta any
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
