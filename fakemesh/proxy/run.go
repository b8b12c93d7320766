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
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
)

// maxConnections bounds what clients can make each side hold.
const maxConnections = 8192

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
	inAcc   *tcp.Acceptor
	outAcc  *tcp.Acceptor

	policies *policies // nil when there is no policy controller
}

// Run is a proxy's life. When ctx ends, or /shutdown is asked for, it takes
// nothing new, lets what is in flight end within the grace period, and returns.
func Run(ctx context.Context, c Config, log *slog.Logger) error {
	p := &proxy{c: c, log: log, creds: meshtls.NewCredentials(c.LocalName, c.Roots)}
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
	if p.policies != nil {
		go p.policies.watchInbound(background, p.in.SetPolicy)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	adminListener, err := listen(c.AdminListen)
	if err != nil {
		return err
	}
	server := admin.New(admin.Options{
		Metrics: p.metrics, Ready: func() bool { return p.valid(time.Now()) },
		Shutdown: end, Drain: p.in.Drain,
	})
	server.Handler = p.in.Guard(netip.AddrPortFrom(c.PodIP, contract.PortAdmin), server.Handler)
	defer server.Close()
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(adminListener) })
	err = p.serve(ctx)
	server.Close()
	wg.Wait()
	return err
}

// valid says whether there is a certificate that peers accept.
func (p *proxy) valid(now time.Time) bool {
	cert := p.creds.Leaf()
	return cert != nil && now.Before(cert.Leaf.NotAfter)
}

// connect begins to obtain a certificate and prepares discovery.
func (p *proxy) connect(ctx context.Context) error {
	idConn, err := controlConn(p.c.IdentityAddr, IdentityTLS(p.creds, p.c.IdentityName))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { idConn.Close() })
	client := meshapi.NewIdentityClient(idConn)
	p.keeper = leaf.New(leaf.Options{
		Credentials: p.creds, TokenFile: p.c.TokenFile, Log: p.log,
		Certify: func(ctx context.Context, r *meshapi.CertifyRequest) (*meshapi.CertifyResponse, error) {
			return client.Certify(ctx, r)
		},
	})
	go p.keeper.Run(ctx)
	dstConn, err := controlConn(p.c.DestinationAddr, credentials.NewTLS(p.creds.Client(p.c.DestinationName)))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { dstConn.Close() })
	watcher := &discovery{client: meshapi.NewDestinationClient(dstConn), ready: p.keeper.Ready(), pod: p.c.Pod, log: p.log}
	p.metrics = metrics.New(metrics.Info{
		Version: contract.Version, Started: time.Now(), Refreshes: p.keeper.Refreshes,
		NotAfter: func() time.Time {
			if cert := p.creds.Leaf(); cert != nil {
				return cert.Leaf.NotAfter
			}
			return time.Time{}
		},
	})
	routes, err := p.connectPolicies(ctx)
	if err != nil {
		return err
	}
	p.out = outbound.New(outbound.Options{
		Credentials: p.creds, Watch: watcher.watch, WatchRoutes: routes, Metrics: p.metrics, Log: p.log, PodIP: p.c.PodIP,
		ConnectTimeout: p.c.OutboundConnect, DetectTimeout: p.c.DetectTimeout,
		InboundPort: contract.PortInbound, OriginalDst: originalDst,
	})
	return nil
}

// connectPolicies prepares to hear the policy controller, where there is one.
func (p *proxy) connectPolicies(ctx context.Context) (outbound.WatchRoutes, error) {
	if p.c.PolicyAddr == "" {
		return nil, nil
	}
	conn, err := controlConn(p.c.PolicyAddr, credentials.NewTLS(p.creds.Client(p.c.PolicyName)))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	p.policies = &policies{
		client: meshapi.NewPolicyClient(conn), ready: p.keeper.Ready(), pod: p.c.Pod, own: p.c.Policy, log: p.log,
	}
	return p.policies.watchOutbound, nil
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
		OriginalDst: originalDst,
	})
	refuse := func(direction string) func() {
		return func() {
			p.metrics.Error(direction, "overloaded").Inc()
			p.log.Warn("too many connections", "direction", direction)
		}
	}
	p.inAcc = &tcp.Acceptor{Max: maxConnections, Handle: p.in.Handle, Refuse: refuse(metrics.Inbound)}
	p.outAcc = &tcp.Acceptor{Max: maxConnections, Refuse: refuse(metrics.Outbound), Handle: func(ctx context.Context, c net.Conn) {
		if dst, err := originalDst(c); err != nil || dst.String() == p.c.OutboundListen {
			c.Close() // addressed to the proxy itself
			return
		}
		p.out.Handle(ctx, c)
	}}
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
