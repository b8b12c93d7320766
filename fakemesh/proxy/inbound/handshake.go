package inbound

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/proxy/detect"
)

// handshakeTimeout bounds how long a client may take to shake hands.
const handshakeTimeout = 10 * time.Second

var errNotForUs = errors.New("the TLS is not meant for this proxy")

// accept shakes hands when the client's hello is meant for this proxy. When it
// is not, ours is false and c reads from its first byte again.
func accept(c *detect.Conn, creds *meshtls.Credentials) (conn *tls.Conn, ours bool, err error) {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, false, err
	}
	defer func() { _ = c.SetDeadline(time.Time{}) }()
	listening := &listening{Conn: c}
	cfg := creds.Server()
	cfg.NextProtos = []string{meshtls.TransportProtocol}
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName != creds.Name() || creds.Leaf() == nil {
			return nil, errNotForUs
		}
		listening.decide()
		return nil, nil
	}
	conn = tls.Server(listening, cfg)
	err = conn.Handshake()
	if listening.decided() {
		return conn, true, err
	}
	// Not ours, or no TLS at all: nothing was written, everything was kept.
	c.Unread(listening.kept)
	return nil, false, nil
}

// listening keeps what is read, and writes nothing, until it is decided that
// the connection is for this proxy.
type listening struct {
	net.Conn
	mu   sync.Mutex
	kept []byte
	ours bool
}

func (l *listening) decide() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ours, l.kept = true, nil
}

func (l *listening) decided() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ours
}

func (l *listening) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.mu.Lock()
	if !l.ours {
		l.kept = append(l.kept, p[:n]...)
	}
	l.mu.Unlock()
	return n, err
}

func (l *listening) Write(p []byte) (int, error) {
	if !l.decided() {
		return len(p), nil // the alert that ends a hello for another
	}
	return l.Conn.Write(p)
}

func (l *listening) Close() error {
	if !l.decided() {
		return nil
	}
	return l.Conn.Close()
}

// NetConn is what it listens on.
func (l *listening) NetConn() net.Conn { return l.Conn }

// CloseWrite implements the half close that tcp.Join asks for.
func (l *listening) CloseWrite() error {
	if half, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return l.Conn.Close()
}
