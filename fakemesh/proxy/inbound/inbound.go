// Package inbound is the proxy's side towards those who dial the pod: mutual
// TLS, policy, and the way to the application.
package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/clusters/socket"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/ports"
	"meshsim.dev/meshsim/fakemesh/proxy/batch"
	"meshsim.dev/meshsim/fakemesh/proxy/detect"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/serve"
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
	"meshsim.dev/meshsim/fakemesh/proxy/transport"
)

// Options of an Inbound.
type Options struct {
	Credentials    *meshtls.Credentials
	Policy         *policy.Inbound // to begin with; SetPolicy changes it
	Opaque         ports.Set       // ports whose bytes are not looked at, where no Server says
	Metrics        *metrics.Registry
	Log            *slog.Logger
	Port           uint16 // the proxy's own
	ConnectTimeout time.Duration
	DetectTimeout  time.Duration
	MaxRequests    int // at a time, half of them from one address; 0 is no limit
	// OriginalDst tells where a redirected connection was going.
	OriginalDst func(net.Conn) (netip.AddrPort, error)
}

// Inbound carries what others send to the application.
type Inbound struct {
	Options
	server   *serve.Server
	apps     apps
	policy   atomic.Pointer[policy.Inbound]
	sessions sessions
}

// New makes an Inbound.
func New(o Options) *Inbound {
	x := &Inbound{Options: o}
	x.policy.Store(o.Policy)
	x.server = serve.New(serve.Options{Handler: x.serveHTTP, Requests: o.MaxRequests, PerPeer: o.MaxRequests / 2, Overload: x.overload})
	x.apps.dial = x.dial
	return x
}

// Drain tells the clients of now to come back by new connections.
func (i *Inbound) Drain() { i.server.Drain() }

// Shutdown takes nothing new and lets requests end until ctx does.
func (i *Inbound) Shutdown(ctx context.Context) error {
	err := i.server.Shutdown(ctx)
	i.apps.close()
	return err
}

// client is what is known of a connection.
type client struct {
	dst      netip.AddrPort // the application
	who      policy.Client
	tls      string
	noReason string
}

func (c *client) peer() metrics.Peer {
	return metrics.Peer{
		Direction: metrics.Inbound, TargetIP: c.dst.Addr().String(), TargetPort: c.dst.Port(),
		TLS: c.tls, NoTLSReason: c.noReason, ClientID: c.who.Identity,
	}
}

// rules are those of the client's port at this moment.
func (i *Inbound) rules(c *client) *policy.Port { return i.policy.Load().Port(c.dst.Port()) }

// opaque says whether bytes to the client's port are not looked at.
func (i *Inbound) opaque(c *client) bool {
	rules := i.rules(c)
	return rules.Protocol == meshapi.PortRules_OPAQUE || rules.Builtin() && i.Opaque.Has(c.dst.Port())
}

// Handle takes one redirected connection over.
func (i *Inbound) Handle(ctx context.Context, raw net.Conn) {
	dst, err := i.OriginalDst(raw)
	if err != nil {
		i.Log.Debug("a connection without a destination", "error", err)
		raw.Close()
		return
	}
	c := &client{
		dst: dst, who: policy.Client{Addr: tcp.Remote(raw)},
		tls: metrics.TLSNoIdentity, noReason: metrics.ReasonNotFromRemote,
	}
	if c.who.Addr == dst.Addr() || c.who.Addr.IsLoopback() {
		c.noReason = metrics.ReasonLoopback
	}
	if dst.Port() != i.Port && i.opaque(c) {
		// The server may be the first to speak: there may be nothing to look at.
		c.noReason = metrics.ReasonPortSkipped
		i.forward(ctx, raw, c)
		return
	}
	conn := detect.NewConn(raw)
	p, timedOut, err := conn.Detect(i.DetectTimeout)
	if err != nil {
		raw.Close()
		return
	}
	if p == detect.TLS {
		i.secure(ctx, conn, c)
		return
	}
	if dst.Port() == i.Port {
		// Addressed to the proxy itself; sending it on would only come back.
		conn.Close()
		return
	}
	i.byProtocol(ctx, conn, c, p, timedOut)
}

// secure ends the TLS that is meant for this proxy; other TLS is opaque.
func (i *Inbound) secure(ctx context.Context, conn *detect.Conn, c *client) {
	secured, ours, err := accept(conn, i.Credentials)
	if !ours {
		c.tls, c.noReason = metrics.TLSOpaque, ""
		if c.dst.Port() == i.Port {
			conn.Close()
			return
		}
		i.forward(ctx, conn, c)
		return
	}
	if err == nil {
		c.who.Identity, err = meshtls.PeerName(secured.ConnectionState())
	}
	if err != nil {
		i.Log.Info("TLS handshake failed", "client", c.who.Addr, "error", err)
		conn.Close()
		return
	}
	c.tls, c.noReason = metrics.TLSTrue, ""
	if secured.ConnectionState().NegotiatedProtocol == meshtls.TransportProtocol {
		i.transported(ctx, secured, c)
		return
	}
	if c.dst.Port() == i.Port {
		secured.Close()
		return
	}
	inner := detect.NewConn(secured)
	if i.rules(c).Protocol == meshapi.PortRules_TLS {
		i.forward(ctx, inner, c)
		return
	}
	p, timedOut, err := inner.Detect(i.DetectTimeout)
	if err != nil {
		inner.Close()
		return
	}
	i.byProtocol(ctx, inner, c, p, timedOut)
}

// transported carries bytes for the port that the header in front names.
func (i *Inbound) transported(ctx context.Context, conn net.Conn, c *client) {
	_ = conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	port, err := transport.ReadHeader(conn)
	if err != nil || port == i.Port {
		i.Log.Info("bad transport header", "client", c.who.Identity, "error", err)
		conn.Close()
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	c.dst = netip.AddrPortFrom(c.dst.Addr(), port)
	i.forward(ctx, conn, c)
}

func (i *Inbound) byProtocol(ctx context.Context, conn *detect.Conn, c *client, p detect.Protocol, timedOut bool) {
	if timedOut {
		i.Log.Info(fmt.Sprintf("protocol detection timed out after %s", i.DetectTimeout), "port", c.dst.Port())
	}
	switch i.rules(c).Protocol {
	case meshapi.PortRules_TLS:
		p = detect.Opaque
	case meshapi.PortRules_HTTP1, meshapi.PortRules_HTTP2, meshapi.PortRules_GRPC:
		if p != detect.HTTP2 {
			p = detect.HTTP1
		}
	}
	if p != detect.HTTP1 && p != detect.HTTP2 {
		i.forward(ctx, conn, c)
		return
	}
	metered := tcp.Meter(conn, i.Metrics.TCP(c.peer(), "src"))
	if p == detect.HTTP2 {
		metered = batch.New(metered)
	}
	i.server.Serve(metered, c)
}

// forward carries bytes to the application for as long as the policy lets them.
func (i *Inbound) forward(ctx context.Context, conn net.Conn, c *client) {
	s := i.sessions.begin(c, conn)
	defer i.sessions.end(s)
	d := i.rules(c).Connection(c.who)
	peer := c.peer()
	peer.Srv, peer.Authz = d.Server, d.Authz
	if !d.Allowed {
		if i.sessions.end(s) {
			i.Metrics.Authz("inbound_tcp_authz_deny_total", &peer, policy.Ref{}).Inc()
		}
		i.Log.Info("connection denied", "client", c.who.Addr, "identity", c.who.Identity, "port", c.dst.Port(), "server", d.Server.Name)
		conn.Close()
		return
	}
	i.Metrics.Authz("inbound_tcp_authz_allow_total", &peer, policy.Ref{}).Inc()
	up, err := i.dial(ctx, c.dst)
	if err != nil {
		i.Log.Info("no connection to the application", "port", c.dst.Port(), "error", err)
		conn.Close()
		return
	}
	tcp.Join(tcp.Meter(conn, i.Metrics.TCP(peer, "src")), up)
}

// dialTries is how often the application is dialled that does not answer in time.
const dialTries = 3

// dial connects to the application. It is on this machine and answers at once,
// whatever it is busy with, unless its accept queue is full. A proxy that gets no
// CPU for as long as the limit sees the same; so one more look is taken.
func (i *Inbound) dial(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: i.ConnectTimeout, KeepAlive: -1}
	c, err := patiently(ctx, func() (net.Conn, error) { return socket.Dial(ctx, &d, "tcp4", dst.String()) })
	if err != nil {
		return nil, fmt.Errorf("connect to port %d: %w", dst.Port(), err)
	}
	return tcp.Meter(c, i.Metrics.TCP(metrics.Peer{
		Direction: metrics.Inbound, TargetIP: dst.Addr().String(), TargetPort: dst.Port(),
		TLS: metrics.TLSNoIdentity, NoTLSReason: metrics.ReasonLoopback,
	}, "dst")), nil
}

// patiently dials again what did not answer in time.
func patiently(ctx context.Context, dial func() (net.Conn, error)) (c net.Conn, err error) {
	for range dialTries {
		c, err = dial()
		var late net.Error
		if !errors.As(err, &late) || !late.Timeout() || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

var (
	errDenied  = errors.New("unauthorized request on route")
	errNoRoute = errors.New("no route found for request")
)
