// Package socket reads and writes TCP connections at less cost than net, where
// messages are many and small.
package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Conn is a TCP connection that is read and written without telling Go's
// scheduler of each system call. It need not know: the socket does not block,
// it is waited for by the runtime's poller. What is saved is one awakening of
// the runtime's monitor thread for each message of a program that was idle, which
// is most of them, and what that thread then does.
type Conn struct {
	*net.TCPConn
	raw         syscall.RawConn
	read, write op
}

// op is one direction. Its lock lets in one at a time of those who call together.
type op struct {
	name string
	mu   sync.Mutex
	p    []byte
	n    int
	err  error
	try  func(fd uintptr) bool // made once
}

// Wrap makes a Conn of c.
func Wrap(c *net.TCPConn) (*Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("take a connection over: %w", err)
	}
	x := &Conn{TCPConn: c, raw: raw, read: op{name: "read"}, write: op{name: "write"}}
	x.read.try, x.write.try = x.read.tryRead, x.write.tryWrite
	return x, nil
}

// Dial connects over a network of TCP: tcp, tcp4, tcp6.
func Dial(ctx context.Context, d *net.Dialer, network, addr string) (*Conn, error) {
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("connect to %s: not a TCP connection", addr)
	}
	return Wrap(conn)
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.read.do(c, p, c.raw.Read)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.write.do(c, p, c.raw.Write) }

func (o *op) do(c *Conn, p []byte, wait func(func(uintptr) bool) error) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.p, o.n, o.err = p, 0, nil
	err := wait(o.try)
	o.p = nil
	if err == nil && o.err == nil {
		return o.n, nil
	}
	// The error is to look as net's own, by which net/http knows what happened.
	var own *net.OpError
	if errors.As(err, &own) {
		err = own.Err
	} else if err == nil {
		err = os.NewSyscallError(o.name, o.err)
	}
	return o.n, &net.OpError{Op: o.name, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// tryRead says whether there is an end to it: bytes, the peer's end, an error.
func (o *op) tryRead(fd uintptr) bool {
	n, errno := untilDone(rawRead, int(fd), o.p)
	switch errno {
	case 0:
		o.n = n
	case syscall.EAGAIN:
		return false
	default:
		o.err = errno
	}
	return true
}

// maxWrite bounds how long one call, which moves bytes only, keeps its core.
const maxWrite = 256 << 10

func (o *op) tryWrite(fd uintptr) bool {
	for o.n < len(o.p) {
		n, errno := untilDone(rawWrite, int(fd), o.p[o.n:min(len(o.p), o.n+maxWrite)])
		switch errno {
		case 0:
			o.n += n
		case syscall.EAGAIN:
			return false
		default:
			o.err = errno
			return true
		}
	}
	return true
}

// untilDone calls again what a signal broke off.
func untilDone(call func(int, []byte) (int, syscall.Errno), fd int, p []byte) (int, syscall.Errno) {
	for {
		if n, errno := call(fd, p); errno != syscall.EINTR {
			return n, errno
		}
	}
}
