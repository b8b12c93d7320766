package alb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"time"
)

// clientConn is a client's connection. It belongs to the load balancer's node
// in one zone, as a connection to an address from its DNS does, and is closed
// when it has been idle for long enough.
type clientConn struct {
	net.Conn
	zone   string
	id     string // for the access log
	opened time.Time
	idle   *time.Timer
}

// CloseWrite lets the server end an answer before it has read all of a request.
func (c *clientConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// entrance is a listener whose connections are counted to zones.
type entrance struct {
	net.Listener
	table *table
}

func (e entrance) Accept() (net.Conn, error) {
	conn, err := e.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &clientConn{Conn: conn, zone: e.table.entryZone(), id: newConnID(), opened: e.table.now()}
	c.idle = time.AfterFunc(e.table.live.Load().Idle, func() { _ = conn.Close() })
	return c, nil
}

// watchClient closes a connection that is idle too long. It is the server's
// ConnState hook.
func (t *table) watchClient(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*clientConn)
	if !ok {
		return
	}
	switch state {
	case http.StateNew, http.StateIdle:
		c.idle.Reset(t.live.Load().Idle)
	default:
		c.idle.Stop()
	}
}

type clientKey struct{}

// rememberClient is the server's ConnContext hook.
func rememberClient(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, clientKey{}, conn)
}

// clientOf is the connection that a request came by; nil in tests without one.
func clientOf(ctx context.Context) *clientConn {
	c, _ := ctx.Value(clientKey{}).(*clientConn)
	return c
}

// worn tells whether a connection has been kept for so long that this request
// is its last.
func (t *table) worn(c *clientConn) bool {
	return c != nil && t.now().Sub(c.opened) >= t.live.Load().KeepAlive
}

// newConnID is AWS's form of a connection's trace.
func newConnID() string {
	var b [16]byte
	rand.Read(b[:])
	return "TID_" + hex.EncodeToString(b[:])
}
