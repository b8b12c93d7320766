// Package detect tells by a connection's first bytes what it carries, without
// taking them from whoever reads it next.
package detect

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"
)

// Protocol is what a connection carries.
type Protocol int

// Protocols.
const (
	Opaque Protocol = iota // nothing known, bytes as they come
	HTTP1
	HTTP2
	TLS
)

func (p Protocol) String() string {
	return [...]string{"opaque", "http/1", "http/2", "tls"}[p]
}

// Timeout is how long a silent connection is waited for.
const Timeout = 10 * time.Second

// maxLine is the longest request line that is looked through for "HTTP/1.".
const maxLine = 8 << 10

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Conn is a connection whose first bytes may have been looked at.
type Conn struct {
	net.Conn
	ahead []byte // read from the connection, not yet by its reader
}

// NewConn wraps c.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c} }

// Read gives the bytes that were looked at first.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		c.ahead = nil
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// NetConn is the connection without what was read ahead.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Unread puts bytes back in front of what is read next.
func (c *Conn) Unread(b []byte) { c.ahead = append(bytes.Clone(b), c.ahead...) }

// CloseWrite ends the sending direction where the connection can.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// Detect reads until the protocol is certain. After timeout without certainty,
// or when the peer has ended, it is Opaque and timedOut tells which. An error
// other than these two is the connection's.
func (c *Conn) Detect(timeout time.Duration) (p Protocol, timedOut bool, err error) {
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return Opaque, false, err
	}
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	buf := make([]byte, 0, 1024)
	for {
		if p, certain := Classify(buf); certain {
			c.ahead = buf
			return p, false, nil
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := c.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n > 0 {
			continue
		}
		c.ahead = buf
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return Opaque, true, nil
		}
		if err != nil && len(buf) == 0 {
			return Opaque, false, err
		}
		// What is left of a broken start is carried as it is; the error comes
		// again to whoever reads on.
		return Opaque, false, nil
	}
}

// Classify looks at the first bytes of a connection. certain is false when
// more bytes may change the answer.
func Classify(b []byte) (p Protocol, certain bool) {
	if len(b) == 0 {
		return Opaque, false
	}
	if b[0] == 0x16 {
		if len(b) < 3 {
			return Opaque, false
		}
		if b[1] == 3 && b[2] <= 4 {
			return TLS, true
		}
		return Opaque, true
	}
	if n := min(len(b), len(preface)); string(b[:n]) == preface[:n] {
		if n == len(preface) {
			return HTTP2, true
		}
		// A method may begin as the preface does, but not with its blank.
		return HTTP2, false
	}
	return http1(b)
}

// maxMethod is longer than any registered method.
const maxMethod = 24

func http1(b []byte) (Protocol, bool) {
	space := bytes.IndexByte(b, ' ')
	method := b
	if space >= 0 {
		method = b[:space]
	}
	if len(method) > maxMethod || bytes.ContainsFunc(method, notToken) || space == 0 {
		return Opaque, true
	}
	if space < 0 {
		return Opaque, false
	}
	if string(method) == "CONNECT" {
		return Opaque, true // a tunnel for bytes of any kind
	}
	line, _, ended := bytes.Cut(b[space+1:], []byte{'\n'})
	if i := bytes.LastIndexByte(line, ' '); i >= 0 && i > 0 {
		version := line[i+1:]
		const want = "HTTP/1."
		if len(version) >= len(want) {
			if string(version[:len(want)]) == want {
				return HTTP1, true
			}
			return Opaque, true
		}
		if string(version) != want[:len(version)] {
			return Opaque, true
		}
	}
	if ended || len(b) > maxLine || bytes.ContainsFunc(line, func(r rune) bool { return r < 0x20 && r != '\r' }) {
		return Opaque, true
	}
	return Opaque, false
}

func notToken(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}
