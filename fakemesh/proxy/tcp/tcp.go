// Package tcp accepts redirected connections, counts them, and carries bytes
// that are no business of the proxy.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// OriginalDst is where a redirected connection was going. Without redirection
// it is the connection's own local address.
func OriginalDst(c *net.TCPConn) (netip.AddrPort, error) {
	local, _ := c.LocalAddr().(*net.TCPAddr)
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: %w", err)
	}
	var sa unix.RawSockaddrInet4
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		size := uint32(unsafe.Sizeof(sa))
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IP, unix.SO_ORIGINAL_DST,
			uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read the original destination: %w", err)
	}
	if errno != 0 {
		if local == nil {
			return netip.AddrPort{}, fmt.Errorf("read the original destination: %w", errno)
		}
		return unmap(local.AddrPort()), nil
	}
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(port[0])<<8|uint16(port[1])), nil
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Remote is who is at the other end.
func Remote(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Acceptor takes connections from a listener, no more than Max at a time.
type Acceptor struct {
	Max    int
	Handle func(ctx context.Context, c net.Conn)
	Refuse func() // told of each connection that was too many

	open atomic.Int64
	wg   sync.WaitGroup
	mu   sync.Mutex
	all  map[*Tracked]struct{}
}

// Tracked is a connection that its Acceptor can close.
type Tracked struct {
	*net.TCPConn
	a    *Acceptor
	once sync.Once
	err  error
}

// Close implements net.Conn; only the first call counts.
func (t *Tracked) Close() error {
	t.once.Do(func() {
		t.err = t.TCPConn.Close()
		t.a.mu.Lock()
		delete(t.a.all, t)
		t.a.mu.Unlock()
		t.a.open.Add(-1)
	})
	return t.err
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
		if !ok || a.open.Load() >= int64(a.Max) {
			c.Close()
			a.Refuse()
			continue
		}
		t := &Tracked{TCPConn: conn, a: a}
		a.open.Add(1)
		a.mu.Lock()
		if a.all == nil {
			a.all = map[*Tracked]struct{}{}
		}
		a.all[t] = struct{}{}
		a.mu.Unlock()
		a.wg.Go(func() { a.Handle(ctx, t) })
	}
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

// metered counts a connection's bytes and end.
type metered struct {
	net.Conn
	t    *metrics.TCP
	once sync.Once
	last atomic.Pointer[string]
}

// Meter counts c as one connection of t.
func Meter(c net.Conn, t *metrics.TCP) net.Conn {
	t.Open()
	return &metered{Conn: c, t: t}
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.t.Read.Add(uint64(n))
	m.note(err)
	return n, err
}

func (m *metered) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.t.Written.Add(uint64(n))
	m.note(err)
	return n, err
}

func (m *metered) note(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	name := "unknown"
	var errno syscall.Errno
	if errors.As(err, &errno) {
		name = unix.ErrnoName(errno)
	}
	m.last.Store(&name)
}

func (m *metered) Close() error {
	err := m.Conn.Close()
	m.once.Do(func() {
		errno := ""
		if last := m.last.Load(); last != nil {
			errno = *last
		}
		m.t.Close(errno)
	})
	return err
}

func (m *metered) CloseWrite() error { return closeWrite(m.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// halfOpen is how long one direction may stay silent when the other has ended.
const halfOpen = 5 * time.Minute

// Join carries bytes both ways until both directions have ended, then closes
// both connections.
func Join(a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(a, b)
	}()
	pass(b, a)
	<-done
}

func pass(dst, src net.Conn) {
	buf, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(onlyWriter{dst}, onlyReader{src}, *buf)
	if err != nil && !errors.Is(err, io.EOF) {
		// Broken, not ended: the other direction has no use any more.
		src.Close()
		dst.Close()
		return
	}
	if closeWrite(dst) != nil {
		dst.Close()
	}
	_ = dst.SetReadDeadline(time.Now().Add(halfOpen))
}

// The two hide what would take io.Copy past the buffer.
type onlyWriter struct{ io.Writer }
type onlyReader struct{ io.Reader }
