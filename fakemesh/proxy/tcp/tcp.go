// Package tcp accepts redirected connections, counts them, and carries bytes
// that are no business of the proxy.
package tcp

import (
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

// NetConn is the connection that is counted.
func (m *metered) NetConn() net.Conn { return m.Conn }

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
// both connections. a is the one that was accepted; it does not give way while
// it carries anything.
func Join(a, b net.Conn) {
	defer a.Close()
	defer b.Close()
	h := HolderOf(a)
	h.Carry()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(a, b, h)
	}()
	pass(b, a, h)
	<-done
}

func pass(dst, src net.Conn, h Holder) {
	buf, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(onlyWriter{dst}, carrier{src, h}, *buf)
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

// The two hide what would take io.Copy past the buffer; carrier tells of each
// piece that it reads.
type onlyWriter struct{ io.Writer }

type carrier struct {
	io.Reader
	h Holder
}

func (c carrier) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n > 0 {
		c.h.Carry()
	}
	return n, err
}
