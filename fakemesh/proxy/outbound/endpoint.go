package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"meshsim.dev/meshsim/clusters/socket"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
	"meshsim.dev/meshsim/fakemesh/proxy/transport"
	"meshsim.dev/meshsim/fakemesh/proxy/upstream"
)

// handshakeTimeout is generous: on a node where many pods start at once, the
// other side may get no CPU for a while.
const handshakeTimeout = 3 * time.Second

// idleUpstream is shorter than any server's idle timeout between proxies, so
// that it is this side that closes.
const idleUpstream = time.Minute

// plainIdle is for servers without a proxy, which close idle connections when
// they like. Short enough for those of the common five seconds.
const plainIdle = 4 * time.Second

// endpoint is one server behind an address.
type endpoint struct {
	addr     string
	identity string // "" when it is spoken to in the clear
	opaque   bool
	peer     metrics.Peer
	metrics  *metrics.Registry
	creds    *meshtls.Credentials
	dialer   net.Dialer
	inbound  uint16 // port of the other side's proxy

	h1, h2 *upstream.Pool
}

func (o *Outbound) endpoint(d *meshapi.Destinations, e *meshapi.Endpoint) *endpoint {
	port := uint16(e.GetPort())
	x := &endpoint{
		addr:     net.JoinHostPort(e.GetIp(), strconv.Itoa(int(port))),
		identity: e.GetIdentity(), opaque: e.GetOpaque(),
		metrics: o.Metrics, creds: o.Credentials,
		dialer:  net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 10 * time.Second, Control: o.Control},
		inbound: o.InboundPort,
		peer: metrics.Peer{
			Direction: metrics.Outbound, TargetIP: e.GetIp(), TargetPort: port,
			TLS: metrics.TLSTrue, ServerID: e.GetIdentity(),
			Dst: metrics.Dst{
				Namespace: d.GetNamespace(), Service: d.GetService(), Pod: e.GetPod(),
				ServiceAccount: e.GetServiceAccount(), OwnerKind: e.GetOwnerKind(), OwnerName: e.GetOwnerName(),
			},
		},
	}
	switch ip, err := netip.ParseAddr(e.GetIp()); {
	case err == nil && ip == o.PodIP:
		// To itself: redirection leaves a pod's own traffic alone, so there is
		// no inbound proxy on the way.
		x.identity, x.peer.ServerID = "", ""
		x.peer.TLS, x.peer.NoTLSReason = metrics.TLSNoIdentity, metrics.ReasonLoopback
	case x.identity == "":
		x.peer.TLS, x.peer.NoTLSReason = metrics.TLSNoIdentity, metrics.ReasonNotProvided
	}
	idle := idleUpstream
	if x.identity == "" {
		idle = plainIdle
	}
	x.h1 = upstream.NewPool(x.dial, false, upstream.Limits{Idle: idle})
	x.h2 = upstream.NewPool(x.dial, true, upstream.Limits{Idle: idleUpstream})
	return x
}

func (x *endpoint) drain() {
	x.h1.Drain()
	x.h2.Drain()
}

// reach says whether a connection can be had by now.
func (x *endpoint) reach(ctx context.Context) error {
	conn, err := x.dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// dial opens a connection for HTTP.
func (x *endpoint) dial(ctx context.Context) (net.Conn, error) {
	if x.identity != "" && x.opaque {
		// The other side would not look into it.
		return x.dialOpaque(ctx)
	}
	return x.connect(ctx, x.addr)
}

// dialOpaque opens a connection for bytes of any kind. To a proxy it goes by
// the proxy's own port, with the port that is meant in front: the other side
// looks at nothing that comes in by an opaque port.
func (x *endpoint) dialOpaque(ctx context.Context) (net.Conn, error) {
	if x.identity == "" {
		return x.connect(ctx, x.addr)
	}
	conn, err := x.connect(ctx, net.JoinHostPort(x.peer.TargetIP, strconv.Itoa(int(x.inbound))), meshtls.TransportProtocol)
	if err != nil {
		return nil, err
	}
	if err := transport.WriteHeader(conn, x.peer.TargetPort); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (x *endpoint) connect(ctx context.Context, addr string, protocols ...string) (net.Conn, error) {
	if x.identity != "" && x.creds.Leaf() == nil {
		return nil, meshtls.ErrNoIdentity
	}
	raw, err := socket.Dial(ctx, &x.dialer, "tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	conn := tcp.Meter(raw, x.metrics.TCP(x.peer, "dst"))
	if x.identity == "" {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secure := tls.Client(conn, x.creds.Client(x.identity, protocols...))
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s at %s: %w", x.identity, addr, err)
	}
	if len(protocols) > 0 && secure.ConnectionState().NegotiatedProtocol != protocols[0] {
		conn.Close()
		return nil, errors.New("the other proxy does not take opaque connections")
	}
	return secure, nil
}
