package control

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// cluster is a made-up cluster and a client of the service that watches it.
type cluster struct {
	t       *testing.T
	index   *Index
	client  meshapi.PolicyClient
	sources map[string]*fcache.FakeControllerSource
	ctx     context.Context
}

// source is a made-up API of one kind.
func (c *cluster) source(kind string, of runtime.Object) cache.SharedIndexInformer {
	c.sources[kind] = fcache.NewFakeControllerSource()
	return cache.NewSharedIndexInformer(c.sources[kind], of, 0, cache.Indexers{})
}

func (c *cluster) caches() Caches {
	return Caches{
		Pods: c.source("Pod", &corev1.Pod{}), Services: c.source("Service", &corev1.Service{}),
		Servers: c.source("Server", &kinds.Server{}), ServerAuthorizations: c.source("ServerAuthorization", &kinds.ServerAuthorization{}),
		AuthorizationPolicies: c.source("AuthorizationPolicy", &kinds.AuthorizationPolicy{}),
		MeshTLS:               c.source("MeshTLSAuthentication", &kinds.MeshTLSAuthentication{}),
		Networks:              c.source("NetworkAuthentication", &kinds.NetworkAuthentication{}),
		Routes:                c.source("HTTPRoute", &kinds.HTTPRoute{}), GatewayRoutes: c.source("GatewayHTTPRoute", &kinds.HTTPRoute{}),
	}
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, sources: map[string]*fcache.FakeControllerSource{}}
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	var err error
	c.index, err = NewIndex(c.caches(), Settings{
		Mesh:     convert.Mesh{Mesh: meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"}, Networks: networks},
		Defaults: policy.Defaults{Policy: policy.AllUnauthenticated, Networks: networks, ProbeNetworks: policy.Everywhere()},
	}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	c.ctx = ctx
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.index.Run(ctx, func(context.Context) (bool, error) { return true, nil })
	}()
	l := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	meshapi.RegisterPolicyServer(server, &Server{Index: c.index})
	go func() { _ = server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		cancel()
		<-ended
		for _, s := range c.sources {
			s.Shutdown()
		}
	})
	c.client = meshapi.NewPolicyClient(conn)
	require.NoError(t, c.index.Synced(ctx))
	return c
}

// object reads one of the kinds. Names of the namespace prod need not say so.
func (c *cluster) object(kind, text string) runtime.Object {
	c.t.Helper()
	o := map[string]runtime.Object{
		"Pod": &corev1.Pod{}, "Service": &corev1.Service{}, "Server": &kinds.Server{}, "ServerAuthorization": &kinds.ServerAuthorization{},
		"AuthorizationPolicy": &kinds.AuthorizationPolicy{}, "MeshTLSAuthentication": &kinds.MeshTLSAuthentication{},
		"NetworkAuthentication": &kinds.NetworkAuthentication{}, "HTTPRoute": &kinds.HTTPRoute{}, "GatewayHTTPRoute": &kinds.HTTPRoute{},
	}[kind]
	require.NotNil(c.t, o, kind)
	require.NoError(c.t, yaml.UnmarshalStrict([]byte(text), o), text)
	if m, ok := o.(metav1.Object); ok && m.GetNamespace() == "" {
		m.SetNamespace("prod")
	}
	return o
}

func (c *cluster) add(kind, text string) { c.t.Helper(); c.sources[kind].Add(c.object(kind, text)) }
func (c *cluster) change(kind, text string) {
	c.t.Helper()
	c.sources[kind].Modify(c.object(kind, text))
}
func (c *cluster) remove(kind, text string) {
	c.t.Helper()
	c.sources[kind].Delete(c.object(kind, text))
}

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// follower reads one stream until something holds.
type follower[T any] struct {
	t      *testing.T
	stream grpc.ServerStreamingClient[T]
	last   *T
}

func (f *follower[T]) until(ok func(*T) bool) *T {
	f.t.Helper()
	for f.last == nil || !ok(f.last) {
		got, err := f.stream.Recv()
		require.NoError(f.t, err, "the last answer was %v", f.last)
		f.last = got
	}
	return f.last
}

func (c *cluster) inbound(pod string) *follower[meshapi.InboundRules] {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	c.t.Cleanup(cancel)
	stream, err := c.client.WatchInbound(ctx, &meshapi.WatchInboundRequest{Pod: pod, DefaultPolicy: "deny", Probes: "8081/healthz"})
	require.NoError(c.t, err)
	return &follower[meshapi.InboundRules]{t: c.t, stream: stream}
}

func (c *cluster) outbound(addr, pod string) *follower[meshapi.OutboundRules] {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	c.t.Cleanup(cancel)
	stream, err := c.client.WatchOutbound(ctx, &meshapi.WatchOutboundRequest{Address: addr, Pod: pod})
	require.NoError(c.t, err)
	return &follower[meshapi.OutboundRules]{t: c.t, stream: stream}
}

const (
	webPod     = `{metadata: {name: web-1, labels: {app: web}}, spec: {containers: [{name: app, ports: [{name: grpc, containerPort: 9090}, {name: admin, containerPort: 8081}]}]}}`
	webService = `{metadata: {name: web}, spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 9090}, {port: 8080}]}}`
	canary     = `{metadata: {name: canary}, spec: {clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2], ports: [{port: 9090}]}}`
)
