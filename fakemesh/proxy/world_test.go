package proxy

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtest"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/ports"
	"meshsim.dev/meshsim/fakemesh/proxy/inbound"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/outbound"
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
)

// world is a cluster on loopback: pods have addresses of 127.1/16, and what
// redirection does is told to the proxies instead.
type world struct {
	t    testing.TB
	ca   *meshtest.CA
	mu   sync.Mutex
	pods int
	dirs map[netip.AddrPort]*directory
	log  *slog.Logger
}

func newWorld(t testing.TB) *world {
	return &world{
		t: t, ca: meshtest.Root(t, "root"), dirs: map[netip.AddrPort]*directory{},
		log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// directory is what the destination service would say of one address.
type directory struct {
	mu   sync.Mutex
	now  *meshapi.Destinations
	subs map[chan struct{}]struct{}
}

func (w *world) directory(addr netip.AddrPort) *directory {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dirs[addr]
	if d == nil {
		d = &directory{subs: map[chan struct{}]struct{}{}}
		w.dirs[addr] = d
	}
	return d
}

func (d *directory) set(now *meshapi.Destinations) {
	d.change(func([]*meshapi.Endpoint) []*meshapi.Endpoint { return now.Endpoints }, now)
}

// change makes new endpoints of the old, and tells all who watch.
func (d *directory) change(f func([]*meshapi.Endpoint) []*meshapi.Endpoint, from ...*meshapi.Destinations) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, _ := proto.Clone(append(from, d.now)[0]).(*meshapi.Destinations)
	next.Endpoints = f(next.Endpoints)
	d.now = next
	for c := range d.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (d *directory) add(p *pod) {
	d.change(func(e []*meshapi.Endpoint) []*meshapi.Endpoint { return append(e, p.endpoint()) })
}

func (d *directory) remove(p *pod) {
	d.change(func(e []*meshapi.Endpoint) []*meshapi.Endpoint {
		return slices.DeleteFunc(e, func(x *meshapi.Endpoint) bool { return x.Ip == p.ip })
	})
}

func (w *world) watch(ctx context.Context, addr netip.AddrPort, update func(*meshapi.Destinations)) {
	d := w.directory(addr)
	c := make(chan struct{}, 1)
	c <- struct{}{}
	d.mu.Lock()
	d.subs[c] = struct{}{}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.subs, c)
		d.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c:
		}
		d.mu.Lock()
		now := d.now
		d.mu.Unlock()
		if now != nil {
			update(now)
		}
	}
}

var ofMesh = meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"}

func identityOf(name string) string {
	return meshid.ID{ServiceAccount: name, Namespace: "prod-app"}.Name(ofMesh)
}

// pod is a server, with a proxy when it is meshed.
type pod struct {
	w      *world
	name   string
	ip     string
	app    netip.AddrPort // where the application listens
	meshed bool

	grpc    *grpc.Server
	in      *inbound.Inbound
	acc     *tcp.Acceptor
	proxyL  net.Listener
	metrics *metrics.Registry
	served  atomic.Int64
	// ended are the calls that the client ended, patience what was left to the
	// last call with a deadline.
	ended    atomic.Int64
	patience atomic.Int64
}

type podSpec struct {
	meshed bool
	policy policy.Default
	opaque ports.Set
	probes []policy.Probe // port 0 is the application's
	// serve runs the application; nil is the gRPC test service.
	serve  func(l net.Listener) (stop func())
	limits limits // zero values are ample
	// remote stands for the clients' address, which on loopback would always
	// be let in.
	remote netip.Addr
}

func (w *world) address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pods++
	return fmt.Sprintf("127.1.%d.%d", w.pods/250, w.pods%250+1)
}

func listenOn(t testing.TB, ip string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", ip+":0")
	require.NoError(t, err)
	return l
}

func addrOf(l net.Listener) netip.AddrPort {
	a, _ := l.Addr().(*net.TCPAddr)
	return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
}

// startPod starts the application and, when meshed, the inbound proxy.
func (w *world) startPod(name string, s podSpec) *pod {
	p := &pod{w: w, name: name, ip: w.address(), meshed: s.meshed, metrics: metrics.New(metrics.Info{Version: contract.Version, Started: time.Now()})}
	l := listenOn(w.t, p.ip)
	p.app = addrOf(l)
	if s.serve != nil {
		w.t.Cleanup(s.serve(l))
	} else {
		p.serveGRPC(l)
	}
	if s.policy == "" {
		s.policy = policy.AllUnauthenticated
	}
	if s.meshed {
		p.startProxy(s)
	}
	return p
}

// remoteConn lies about who is at the other end.
type remoteConn struct {
	net.Conn
	remote netip.Addr
}

func (r remoteConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(r.remote, 1234))
}

func (r remoteConn) NetConn() net.Conn { return r.Conn }

func (r remoteConn) CloseWrite() error {
	return r.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// rules are the pod's as long as no controller says otherwise.
func (p *pod) rules(s podSpec) *policy.Inbound {
	d := policy.Defaults{Policy: s.policy, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ProbeNetworks: policy.Everywhere()}
	for _, probe := range s.probes {
		probe.Port = cmp.Or(probe.Port, p.app.Port())
		d.Probes = append(d.Probes, probe)
	}
	in, err := policy.Compile(d.Rules())
	require.NoError(p.w.t, err)
	return in
}

func (p *pod) startProxy(s podSpec) {
	if s.limits.connections == 0 {
		s.limits.connections = 1000
	}
	p.in = inbound.New(inbound.Options{
		Credentials: p.w.ca.Credentials(p.w.t, identityOf(p.name)),
		Policy:      p.rules(s),
		Opaque:      s.opaque, Metrics: p.metrics, Log: p.w.log, Port: 1,
		ConnectTimeout: time.Second, DetectTimeout: time.Second, MaxRequests: s.limits.requests,
		OriginalDst: func(c net.Conn) (netip.AddrPort, error) { return p.app, nil },
	})
	p.proxyL = listenOn(p.w.t, p.ip)
	p.acc = &tcp.Acceptor{Max: s.limits.connections, MaxNew: s.limits.fresh, Shed: func(n int) { p.metrics.TCPError(metrics.Inbound, "loadshed").Add(n) }, Handle: func(ctx context.Context, c net.Conn) {
		if s.remote.IsValid() {
			c = remoteConn{c, s.remote}
		}
		p.in.Handle(ctx, c)
	}}
	go func() { _ = p.acc.Serve(context.Background(), p.proxyL) }()
	p.w.t.Cleanup(func() { p.stopProxy(time.Second) })
}

// stopProxy is what a proxy does on SIGTERM.
func (p *pod) stopProxy(grace time.Duration) {
	if p.proxyL == nil {
		return
	}
	p.proxyL.Close()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	_ = p.in.Shutdown(ctx)
	p.acc.CloseAll()
	_ = p.acc.Wait(ctx)
}

// front is the address that others dial: the proxy's when there is one.
func (p *pod) front() netip.AddrPort {
	if p.meshed {
		return addrOf(p.proxyL)
	}
	return p.app
}

func (p *pod) endpoint() *meshapi.Endpoint {
	e := &meshapi.Endpoint{Ip: p.ip, Port: uint32(p.front().Port()), Pod: fmt.Sprintf("%s-%s", p.name, p.ip), Namespace: "prod-app", ServiceAccount: p.name}
	if p.meshed {
		e.Identity = identityOf(p.name)
	}
	return e
}

func (p *pod) serveGRPC(l net.Listener) {
	p.grpc = grpc.NewServer()
	testgrpc.RegisterTestServiceServer(p.grpc, &testService{p: p})
	go func() { _ = p.grpc.Serve(l) }()
	p.w.t.Cleanup(p.grpc.Stop)
}

// sidecar is a client's proxy.
type sidecar struct {
	w       *world
	out     *outbound.Outbound
	metrics *metrics.Registry
	creds   *meshtls.Credentials
}

func (w *world) sidecar(name string) *sidecar {
	return w.sidecarWith(name, func(*outbound.Options) {})
}

func (w *world) sidecarWith(name string, change func(*outbound.Options)) *sidecar {
	s := &sidecar{w: w, metrics: metrics.New(metrics.Info{Version: contract.Version, Started: time.Now()}), creds: w.ca.Credentials(w.t, identityOf(name))}
	o := outbound.Options{
		Credentials: s.creds, Watch: w.watch, Metrics: s.metrics, Log: w.log,
		ConnectTimeout: time.Second, DetectTimeout: time.Second, InboundPort: 1,
		OriginalDst: func(c net.Conn) (netip.AddrPort, error) {
			d, _ := c.(*dialled)
			return d.dst, nil
		},
	}
	change(&o)
	s.out = outbound.New(o)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.out.Shutdown(ctx)
		s.out.Close()
	})
	return s
}

// ingress is the proxy of an ingress, which resolves the names that it is given.
func (w *world) ingress(name string, names map[string]string) *sidecar {
	return w.sidecarWith(name, func(o *outbound.Options) {
		o.Ingress = true
		o.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			ip, ok := names[host]
			if !ok {
				return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
			}
			return []netip.Addr{netip.MustParseAddr(ip)}, nil
		}
	})
}

// dialled is a connection as it reaches the proxy after redirection.
type dialled struct {
	net.Conn
	dst netip.AddrPort
}

func (d *dialled) CloseWrite() error { return d.Conn.(*net.TCPConn).CloseWrite() }

// dial is the application dialling dst, redirected to its proxy.
func (s *sidecar) dial(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go s.out.Handle(context.Background(), &dialled{server, dst})
	return c, nil
}

// grpcTo is a client connection by whatever dials.
func grpcTo(t testing.TB, dial func(context.Context) (net.Conn, error)) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///service",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// clusterIP dials a random endpoint of a directory, as kube-proxy does for
// clients without a proxy.
func (w *world) clusterIP(vip netip.AddrPort) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		d := w.directory(vip)
		d.mu.Lock()
		all := d.now.GetEndpoints()
		d.mu.Unlock()
		if len(all) == 0 {
			return nil, fmt.Errorf("no endpoint of %s", vip)
		}
		e := all[rand.IntN(len(all))]
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp4", fmt.Sprintf("%s:%d", e.Ip, e.Port))
	}
}

// service makes a directory of pods at vip.
func (w *world) service(vip string, pods ...*pod) (netip.AddrPort, *directory) {
	addr := netip.MustParseAddrPort(vip)
	d := w.directory(addr)
	now := &meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Namespace: "prod-app", Service: "web"}
	for _, p := range pods {
		now.Endpoints = append(now.Endpoints, p.endpoint())
	}
	d.set(now)
	return addr, d
}
