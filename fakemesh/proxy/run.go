package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/leaf"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/admin"
	"meshsim.dev/meshsim/fakemesh/proxy/inbound"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/outbound"
	"meshsim.dev/meshsim/fakemesh/proxy/serve"
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
)

// listen opens the port of one side.
func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return l, nil
}

// proxy is one running sidecar.
type proxy struct {
	c       Config
	log     *slog.Logger
	creds   *meshtls.Credentials
	keeper  *leaf.Keeper
	metrics *metrics.Registry
	in      *inbound.Inbound
	out     *outbound.Outbound
	limits  limits
	inAcc   *tcp.Acceptor
	outAcc  *tcp.Acceptor

	policies *policies // nil when there is no policy controller
}

// Run is a proxy's life. When ctx ends, or /shutdown is asked for, it takes
// nothing new, lets what is in flight end within the grace period, and returns.
func Run(ctx context.Context, c Config, log *slog.Logger) error {
	if c.OriginalDst == nil {
		c.OriginalDst = originalDst
	}
	p := &proxy{c: c, log: log, creds: meshtls.NewCredentials(c.LocalName, c.Roots), limits: limitsFor(memoryLimit())}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	rules, err := policy.Compile(c.Policy.Rules())
	if err != nil {
		return fmt.Errorf("read the policy of the pod: %w", err)
	}
	if err := p.connect(background); err != nil {
		return err
	}
	p.build(rules)
	if c.OnReady != nil {
		go p.tellReady(background)
	}
	if p.policies != nil {
		go p.policies.watchInbound(background, p.in.SetPolicy)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	closeAdmin, err := p.admin(end)
	if err != nil {
		return err
	}
	defer closeAdmin()
	return p.serve(ctx)
}

// tellReady waits for the first certificate, or ctx's end.
func (p *proxy) tellReady(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-p.keeper.Ready():
		p.c.OnReady(ctx)
	}
}

// maxAdmin bounds the connections of those who ask for health and metrics.
const maxAdmin = 64

// adminGrace is how long the answers under way may take when the proxy ends.
const adminGrace = time.Second

// admin serves until the returned function is called. shutdown ends the proxy.
func (p *proxy) admin(shutdown func()) (stop func(), err error) {
	l, err := listen(p.c.AdminListen)
	if err != nil {
		return nil, err
	}
	handler := admin.New(admin.Options{
		Metrics: p.metrics, Ready: p.ready,
		Shutdown: shutdown, Drain: p.in.Drain,
	})
	server := serve.New(serve.Options{Handler: p.in.Guard(handler).ServeHTTP})
	addr := netip.AddrPortFrom(p.c.PodIP, contract.PortAdmin)
	acc := &tcp.Acceptor{Max: maxAdmin, Shed: func(int) {}, Handle: func(_ context.Context, c net.Conn) { p.in.ServeOwn(c, addr, server) }}
	var wg sync.WaitGroup
	wg.Go(func() { _ = acc.Serve(context.Background(), l) })
	return func() {
		l.Close()
		wg.Wait()
		// The request that asked for the end is still to be answered.
		ctx, cancel := context.WithTimeout(context.Background(), adminGrace)
		defer cancel()
		_ = server.Shutdown(ctx)
		acc.CloseAll()
	}, nil
}

// ready says whether there has been a certificate. As in Linkerd one that has
// expired leaves the pod ready: calls in the clear go on.
func (p *proxy) ready() bool {
	select {
	case <-p.keeper.Ready():
		return true
	default:
		return false
	}
}

// connect begins to obtain a certificate and prepares discovery.
func (p *proxy) connect(ctx context.Context) error {
	p.metrics = metrics.New(metrics.Info{
		Version: contract.Version, Started: time.Now(),
		Refreshes: func() uint64 { return p.keeper.Refreshes() },
		NotAfter: func() time.Time {
			if cert := p.creds.Leaf(); cert != nil {
				return cert.Leaf.NotAfter
			}
			return time.Time{}
		},
	})
	idConn, err := p.control(ctx, p.c.IdentityAddr, p.c.IdentityName, IdentityTLS(p.creds, p.c.IdentityName))
	if err != nil {
		return err
	}
	client := meshapi.NewIdentityClient(idConn)
	p.keeper = leaf.New(leaf.Options{
		Credentials: p.creds, TokenFile: p.c.TokenFile, Log: p.log,
		Certify: func(ctx context.Context, r *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) {
			return client.Certify(ctx, r)
		},
	})
	dstConn, err := p.control(ctx, p.c.DestinationAddr, p.c.DestinationName, credentials.NewTLS(p.creds.Client(p.c.DestinationName)))
	if err != nil {
		return err
	}
	go p.keeper.Run(ctx)
	watcher := &discovery{client: meshapi.NewDestinationClient(dstConn), ready: p.keeper.Ready(), pod: p.c.Pod, log: p.log}
	routes, err := p.connectPolicies(ctx)
	if err != nil {
		return err
	}
	p.out = outbound.New(outbound.Options{
		Credentials: p.creds, Watch: watcher.watch, WatchRoutes: routes, Metrics: p.metrics, Log: p.log, PodIP: p.c.PodIP,
		ConnectTimeout: p.c.OutboundConnect, DetectTimeout: p.c.DetectTimeout,
		InboundPort: contract.PortInbound, MaxRequests: p.limits.requests, OriginalDst: p.c.OriginalDst,
		Ingress: p.c.Ingress, Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
		},
	})
	return nil
}

// connectPolicies prepares to hear the policy controller, where there is one.
func (p *proxy) connectPolicies(ctx context.Context) (outbound.WatchRoutes, error) {
	if p.c.PolicyAddr == "" {
		return nil, nil
	}
	conn, err := p.control(ctx, p.c.PolicyAddr, p.c.PolicyName, credentials.NewTLS(p.creds.Client(p.c.PolicyName)))
	if err != nil {
		return nil, err
	}
	p.policies = &policies{
		client: meshapi.NewPolicyClient(conn), ready: p.keeper.Ready(), pod: p.c.Pod, own: p.c.Policy, log: p.log,
	}
	return p.policies.watchOutbound, nil
}

// control is a connection to a service of the control plane that ends with ctx.
func (p *proxy) control(ctx context.Context, addr, name string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	conn, err := controlConn(addr, creds, &controlStats{p.metrics, metrics.Control{Addr: addr, ServerID: name}})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn, nil
}

func originalDst(c net.Conn) (netip.AddrPort, error) {
	t, ok := c.(*tcp.Tracked)
	if !ok {
		return netip.AddrPort{}, errors.New("not a TCP connection")
	}
	return tcp.OriginalDst(t.TCPConn)
}

func (p *proxy) build(rules *policy.Inbound) {
	p.in = inbound.New(inbound.Options{
		Credentials: p.creds, Policy: rules, Opaque: p.c.OpaquePorts, Metrics: p.metrics, Log: p.log,
		Port: contract.PortInbound, ConnectTimeout: p.c.InboundConnect, DetectTimeout: p.c.DetectTimeout,
		MaxRequests: p.limits.requests, OriginalDst: p.c.OriginalDst,
	})
	p.inAcc = p.acceptor(metrics.Inbound, p.in.Handle)
	p.outAcc = p.acceptor(metrics.Outbound, func(ctx context.Context, c net.Conn) {
		if dst, err := p.c.OriginalDst(c); err != nil || dst.String() == p.c.OutboundListen {
			c.Close() // addressed to the proxy itself
			return
		}
		p.out.Handle(ctx, c)
	})
}

func (p *proxy) acceptor(direction string, handle func(context.Context, net.Conn)) *tcp.Acceptor {
	return &tcp.Acceptor{
		Max: p.limits.connections, MaxNew: p.limits.fresh, Handle: handle,
		Shed: func(n int) { p.metrics.TCPError(direction, "loadshed").Add(n) },
	}
}

// serve accepts until ctx ends, then lets what is in flight end.
func (p *proxy) serve(ctx context.Context) error {
	inListener, err := listen(p.c.InboundListen)
	if err != nil {
		return err
	}
	outListener, err := listen(p.c.OutboundListen)
	if err != nil {
		inListener.Close()
		return err
	}
	work, hardStop := context.WithCancel(context.WithoutCancel(ctx))
	defer hardStop()
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.inAcc.Serve(work, inListener) })
	wg.Go(func() { _ = p.outAcc.Serve(work, outListener) })
	p.log.Info("proxy started", "version", contract.Version, "identity", p.c.LocalName, "policy", p.c.Policy.Policy)
	<-ctx.Done()
	p.log.Info("shutting down", "grace", p.c.GracePeriod)
	inListener.Close()
	outListener.Close()
	wg.Wait()
	return p.drain(hardStop)
}

func (p *proxy) drain(hardStop func()) error {
	ctx, cancel := context.WithTimeout(context.Background(), p.c.GracePeriod)
	defer cancel()
	var wg sync.WaitGroup
	results := make(chan error, 4)
	for _, f := range []func(context.Context) error{p.in.Shutdown, p.out.Shutdown, p.inAcc.Wait, p.outAcc.Wait} {
		wg.Go(func() { results <- f(ctx) })
	}
	wg.Wait()
	close(results)
	var cut bool
	for err := range results {
		cut = cut || err != nil
	}
	if cut {
		p.log.Warn("connections were cut at the end of the grace period", "inbound", p.inAcc.Open(), "outbound", p.outAcc.Open())
	}
	hardStop()
	p.inAcc.CloseAll()
	p.outAcc.CloseAll()
	p.out.Close()
	p.log.Info("proxy ended")
	return nil
}
