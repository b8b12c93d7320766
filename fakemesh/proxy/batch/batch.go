// Package batch makes HTTP/2 connections write and read in few pieces. net/http
// flushes every frame of a message, the head, each body, the trailer, and its
// server reads frame by frame, first the nine bytes of a frame's head. Each
// would be a system call, and often a TLS record and one more awakening of the
// peer.
package batch

import (
	"bufio"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writeSize is a TLS record's. What does not fit is not waited for.
	writeSize = 16 << 10
	readSize  = 4 << 10
	// lastSend bounds how long a peer may take for what is left at the end,
	// patience for what is sent before.
	lastSend = 5 * time.Second
	patience = 5 * time.Minute
)

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, writeSize); return &b }}

// Conn is a connection whose small writes are sent together, once those who are
// ready to write have written: as soon as the scheduler comes to it, not after a
// time. What was written is not yet sent, so it is for protocols that do not
// conclude anything from a write: HTTP/2 is told by the peer what it has
// processed, HTTP/1 is not. When sending fails the connection ends, and the
// failure is the error of later writes and of the read that waits.
//
// Several goroutines may write, one may read. It must be closed.
type Conn struct {
	net.Conn
	grace    time.Duration // lastSend
	patience time.Duration
	in       *bufio.Reader // nil until something small is read

	mu      sync.Mutex // held while something is sent
	pending *[]byte    // nil when there is nothing
	due     chan struct{}
	timed   time.Time // when the deadline of what is sent was last set

	ended   atomic.Pointer[error] // why no more is taken
	closing sync.Once             // by whoever uses it
	shut    sync.Once             // of what it wraps
}

// New wraps c.
func New(c net.Conn) *Conn { return &Conn{Conn: c, grace: lastSend, patience: patience} }

// NetConn is the connection itself.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// SetWriteDeadline does nothing: what is written is sent later, and sending has a
// deadline of its own. net/http sets and clears one at each write, which costs
// more than the write.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline is for reading alone, likewise.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// Read implements io.Reader.
func (c *Conn) Read(p []byte) (n int, err error) {
	switch {
	case c.in != nil:
		n, err = c.in.Read(p)
	case len(p) >= readSize: // by a client of HTTP/2, who has a buffer
		n, err = c.Conn.Read(p)
	default:
		c.in = bufio.NewReaderSize(c.Conn, readSize)
		n, err = c.in.Read(p)
	}
	if err != nil {
		if why := c.ended.Load(); why != nil {
			err = *why
		}
	}
	return n, err
}

// Write implements io.Writer. It keeps a copy of p, or sends it at once when it
// is large.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending != nil && len(*c.pending)+len(p) > writeSize {
		c.send()
	}
	if why := c.ended.Load(); why != nil {
		return 0, *why
	}
	if len(p) >= writeSize {
		return c.sendNow(p)
	}
	if c.pending == nil {
		c.pending, _ = buffers.Get().(*[]byte)
		c.schedule()
	}
	*c.pending = append(*c.pending, p...)
	return len(p), nil
}

// schedule has pending sent by and by; the lock is held. The goroutine stays, and
// with it the stack that sending takes.
func (c *Conn) schedule() {
	if c.due == nil {
		c.due = make(chan struct{}, 1)
		go c.sender(c.due)
	}
	select {
	case c.due <- struct{}{}:
	default: // it is told already
	}
}

func (c *Conn) sender(due <-chan struct{}) {
	for range due {
		runtime.Gosched() // whoever is ready to write more goes first
		c.mu.Lock()
		c.send()
		c.mu.Unlock()
	}
}

// send sends what is pending; the lock is held.
func (c *Conn) send() {
	b := c.pending
	if b == nil {
		return
	}
	c.pending = nil
	_, _ = c.sendNow(*b) // who writes or reads next learns of an error
	*b = (*b)[:0]
	buffers.Put(b)
}

// sendNow gives the peer at least half of the patience that there is; the lock
// is held.
func (c *Conn) sendNow(p []byte) (int, error) {
	if now := time.Now(); now.Sub(c.timed) > c.patience/2 {
		c.timed = now
		_ = c.Conn.SetWriteDeadline(now.Add(c.patience))
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		c.end(err)
	}
	return n, err
}

// end closes the connection, whereby a read that waits ends too.
func (c *Conn) end(why error) {
	c.ended.CompareAndSwap(nil, &why)
	_ = c.shutdown()
}

func (c *Conn) shutdown() (err error) {
	c.shut.Do(func() { err = c.Conn.Close() })
	return err
}

// Close takes no more and closes, once the peer has taken what is left or its
// time for that is over. It does not wait for it.
func (c *Conn) Close() (err error) {
	c.closing.Do(func() {
		why := net.ErrClosed
		c.ended.CompareAndSwap(nil, &why)
		if c.mu.TryLock() {
			defer c.mu.Unlock()
			if c.pending == nil {
				err = c.finish()
				return
			}
		}
		_ = c.SetReadDeadline(time.Unix(1, 0)) // who reads learns of it at once
		late := time.AfterFunc(c.grace, func() { _ = c.shutdown() })
		go func() {
			defer late.Stop()
			c.mu.Lock()
			defer c.mu.Unlock()
			c.send()
			_ = c.finish()
		}()
	})
	return err
}

// finish ends the sender and closes; the lock is held.
func (c *Conn) finish() error {
	if c.due != nil {
		close(c.due)
		c.due = nil
	}
	return c.shutdown()
}
