// Package upstream keeps HTTP connections to one server and sends requests on
// them. It never sends a request twice; it tells its caller when nothing of a
// request can have been processed, so that the caller may send it elsewhere.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"meshsim.dev/meshsim/fakemesh/proxy/batch"
)

// UnsentError means that the server cannot have processed any of the request.
type UnsentError struct {
	Err  error
	Dial bool // no connection could be had
}

func (e *UnsentError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UnsentError) Unwrap() error { return e.Err }

// ErrOverloaded means that the server has all the connections it may have.
var ErrOverloaded = errors.New("too many connections")

var errClosed = errors.New("the endpoint is gone")

// Dial opens a connection ready for HTTP.
type Dial func(ctx context.Context) (net.Conn, error)

// Pool is the connections to one server in one version of HTTP.
type Pool struct {
	transport *http.Transport
	http2     bool
	limits    Limits

	mu      sync.Mutex
	conns   []*conn
	dialing int
	// joint is closed when the dial that HTTP/2 requests share has ended.
	joint    chan struct{}
	jointErr error
	closed   atomic.Bool
	reaper   *time.Timer
}

// Limits of a pool.
type Limits struct {
	Connections int           // at most; 0 is 1024
	Idle        time.Duration // a connection without requests is closed after it; 0 is never
}

type conn struct {
	lent Conn // what Acquire gives, the same for every request
	cc   *http.ClientConn
	wire *watched
	used atomic.Int64 // unix nanoseconds when it was last busy
}

// Flow control: enough for a stream that nobody reads for a while, little
// enough that many of them do not fill the memory.
const (
	streamWindow = 64 << 10
	connWindow   = 8 << 20
	maxHeader    = 64 << 10

	// maxShared is how many requests share an HTTP/2 connection. All of them
	// together may leave no more unread than the connection's window: who does
	// not read his response holds up nobody else's.
	maxShared = connWindow / streamWindow

	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
)

// NewPool makes a pool without connections.
func NewPool(dial Dial, isHTTP2 bool, limits Limits) *Pool {
	if limits.Connections == 0 {
		limits.Connections = 1024
	}
	p := &Pool{http2: isHTTP2, limits: limits}
	p.transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			if isHTTP2 { // HTTP/1 must know what was sent, see RoundTrip
				c = batch.New(c)
			}
			w, _ := ctx.Value(watchedKey{}).(*watched)
			w.Conn = c
			return w, nil
		},
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		WriteBufferSize:        4 << 10,
		ReadBufferSize:         4 << 10,
		Protocols:              &http.Protocols{},
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: connWindow,
			MaxReceiveBufferPerStream:     streamWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
	p.transport.Protocols.SetHTTP1(!isHTTP2)
	p.transport.Protocols.SetUnencryptedHTTP2(isHTTP2)
	return p
}

type watchedKey struct{}

// watched is a connection that tells what was done with it.
type watched struct {
	net.Conn
	written atomic.Uint64 // bytes sent so far
	// settled is closed when what the server said first has been read. That
	// are HTTP/2's settings, by which alone the number of streams is known.
	settled chan struct{}
	read    bool // something; only the reading goroutine uses it
	once    sync.Once
}

func (c *watched) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(uint64(n))
	return n, err
}

func (c *watched) Read(p []byte) (int, error) {
	if c.read {
		c.once.Do(func() { close(c.settled) })
	}
	n, err := c.Conn.Read(p)
	c.read = c.read || n > 0
	if err != nil {
		c.once.Do(func() { close(c.settled) })
	}
	return n, err
}

// settleTimeout is how long a server's settings are waited for.
const settleTimeout = time.Second

func (c *watched) wait() {
	timer := time.NewTimer(settleTimeout)
	defer timer.Stop()
	select {
	case <-c.settled:
	case <-timer.C:
	}
}

// Conn is a connection with room for one request reserved.
type Conn struct {
	p *Pool
	c *conn
}

// Acquire finds or opens a connection with room for one more request. Its
// errors are *UnsentError, or ctx's.
func (p *Pool) Acquire(ctx context.Context) (*Conn, error) {
	for {
		c, wait, err := p.reserve()
		if err != nil {
			return nil, &UnsentError{Err: err, Dial: true}
		}
		if c != nil {
			return &c.lent, nil
		}
		if wait == nil {
			c, err := p.open(ctx)
			if err != nil {
				return nil, &UnsentError{Err: err, Dial: true}
			}
			return &c.lent, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait:
		}
		p.mu.Lock()
		err = p.jointErr
		p.mu.Unlock()
		if err != nil {
			return nil, &UnsentError{Err: err, Dial: true}
		}
	}
}

// reserve takes a connection that has room; or gives a channel to wait on
// while another request dials; or neither, when the caller must dial.
func (p *Pool) reserve() (*conn, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Load() {
		return nil, nil, errClosed
	}
	// The newest first: the others become idle and are closed in the end.
	for i := len(p.conns) - 1; i >= 0; i-- {
		c := p.conns[i]
		if p.http2 && c.cc.InFlight() >= maxShared {
			continue
		}
		if c.cc.Err() == nil && c.cc.Reserve() == nil {
			c.used.Store(time.Now().UnixNano())
			return c, nil, nil
		}
	}
	if p.http2 && p.joint != nil {
		return nil, p.joint, nil
	}
	if len(p.conns)+p.dialing >= p.limits.Connections {
		return nil, nil, ErrOverloaded
	}
	p.dialing++
	if p.http2 {
		p.joint = make(chan struct{})
	}
	return nil, nil, nil
}

// open dials; reserve has counted it.
func (p *Pool) open(ctx context.Context) (*conn, error) {
	c := &conn{wire: &watched{settled: make(chan struct{})}}
	c.lent = Conn{p, c}
	// Others wait for an HTTP/2 connection: it must not end with the request
	// that happened to open it.
	dialCtx := ctx
	if p.http2 {
		dialCtx = context.WithoutCancel(ctx)
	}
	cc, err := p.transport.NewClientConn(context.WithValue(dialCtx, watchedKey{}, c.wire), "http", "endpoint:80")
	if err == nil {
		if p.http2 {
			c.wire.wait()
		}
		if err = cc.Reserve(); err != nil {
			cc.Close()
			err = fmt.Errorf("use a new connection: %w", err)
		}
	}
	p.mu.Lock()
	p.dialing--
	if p.joint != nil && p.http2 {
		p.jointErr = err
		close(p.joint)
		p.joint = nil
	}
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	c.cc = cc
	c.used.Store(time.Now().UnixNano())
	p.conns = append(p.conns, c)
	if p.reaper == nil && p.limits.Idle > 0 {
		p.reaper = time.AfterFunc(p.limits.Idle, p.reap)
	}
	p.mu.Unlock()
	cc.SetStateHook(func(*http.ClientConn) { p.changed(c) })
	return c, nil
}

// changed is told when a connection has a request less or has ended. It may be
// called while the pool is locked, from within Reserve.
func (p *Pool) changed(c *conn) {
	c.used.Store(time.Now().UnixNano())
	if c.cc.Err() != nil || p.closed.Load() && c.cc.InFlight() == 0 {
		go p.retire(c)
	}
}

func (p *Pool) retire(c *conn) {
	p.mu.Lock()
	p.remove(c)
	p.mu.Unlock()
	c.cc.Close()
}

func (p *Pool) remove(c *conn) {
	for i, other := range p.conns {
		if other == c {
			p.conns = append(p.conns[:i], p.conns[i+1:]...)
			return
		}
	}
}

// reap closes what has been idle for long.
func (p *Pool) reap() {
	var over []*conn
	p.mu.Lock()
	before := time.Now().Add(-p.limits.Idle).UnixNano()
	for _, c := range append([]*conn(nil), p.conns...) {
		if c.cc.InFlight() == 0 && c.used.Load() < before {
			p.remove(c)
			over = append(over, c)
		}
	}
	if len(p.conns) == 0 {
		p.reaper = nil
	} else {
		p.reaper.Reset(p.limits.Idle)
	}
	p.mu.Unlock()
	for _, c := range over {
		c.cc.Close()
	}
}

// Drain takes no more requests and closes each connection when its last ends.
func (p *Pool) Drain() {
	var over []*conn
	p.mu.Lock()
	p.closed.Store(true)
	if p.reaper != nil {
		p.reaper.Stop()
	}
	for _, c := range append([]*conn(nil), p.conns...) {
		if c.cc.InFlight() == 0 {
			p.remove(c)
			over = append(over, c)
		}
	}
	p.mu.Unlock()
	for _, c := range over {
		c.cc.Close()
	}
}

// Len is the number of connections that are open.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) + p.dialing
}

// Release gives the reservation back without a request.
func (c *Conn) Release() { c.c.cc.Release() }

// RoundTrip sends the request for which the connection was acquired.
func (c *Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	before := c.c.wire.written.Load()
	res, err := c.c.cc.RoundTrip(req)
	if err == nil {
		return res, nil
	}
	if c.p.http2 && refused(err) || !c.p.http2 && c.c.wire.written.Load() == before {
		return nil, &UnsentError{Err: err}
	}
	return nil, err
}

// refused says whether an HTTP/2 error tells that the stream was not processed.
func refused(err error) bool {
	var stream http2.StreamError
	if errors.As(err, &stream) {
		return stream.Code == http2.ErrCodeRefusedStream
	}
	// net/http does not export these; the tests hold them against its behaviour.
	switch err.Error() {
	case "http2: client conn not usable",
		"http2: client conn could not be established",
		"http2: Transport received Server's graceful shutdown GOAWAY":
		return true
	}
	return false
}
