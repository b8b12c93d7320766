package destination

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
	"meshsim.dev/meshsim/fakemesh/ports"
)

// cluster is a made-up cluster and a client of the service that watches it.
type cluster struct {
	t        *testing.T
	services *fcache.FakeControllerSource
	slices   *fcache.FakeControllerSource
	pods     *fcache.FakeControllerSource
	servers  *fcache.FakeControllerSource
	index    *Index
	client   meshapi.DestinationClient
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, services: fcache.NewFakeControllerSource(), slices: fcache.NewFakeControllerSource(), pods: fcache.NewFakeControllerSource(), servers: fcache.NewFakeControllerSource()}
	opaque, err := ports.Parse("5432")
	require.NoError(t, err)
	c.index, err = newIndex(
		cache.NewSharedIndexInformer(c.services, &corev1.Service{}, 0, cache.Indexers{}),
		cache.NewSharedIndexInformer(c.slices, &discoveryv1.EndpointSlice{}, 0, cache.Indexers{}),
		cache.NewSharedIndexInformer(c.pods, &corev1.Pod{}, 0, cache.Indexers{}),
		cache.NewSharedIndexInformer(c.servers, &kinds.Server{}, 0, cache.Indexers{}),
		Settings{Mesh: meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"}, OpaquePorts: opaque}, slog.New(slog.NewTextHandler(io.Discard, nil)),
	)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	go c.index.Run(ctx)
	l := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	meshapi.RegisterDestinationServer(server, &Server{Index: c.index})
	go func() { _ = server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(); server.Stop(); cancel() })
	c.client = meshapi.NewDestinationClient(conn)
	require.NoError(t, c.index.Synced(ctx))
	return c
}

func service(name, ip string, annotations map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: name, Annotations: annotations},
		Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{
			{Name: "grpc", Port: 9090, Protocol: corev1.ProtocolTCP}, {Name: "db", Port: 5432, Protocol: corev1.ProtocolTCP},
		}},
	}
}

func pod(name, ip string, meshed bool, annotations map[string]string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "prod-app", Name: name, UID: types.UID("uid-" + name), Annotations: annotations,
			Labels:          map[string]string{"pod-template-hash": "5d4f"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5d4f", Controller: ptr(true)}},
		},
		Spec:   corev1.PodSpec{ServiceAccountName: "web", Containers: []corev1.Container{{Name: "app"}}},
		Status: corev1.PodStatus{PodIP: ip, Phase: corev1.PodRunning},
	}
	if meshed {
		p.Labels["linkerd.io/control-plane-ns"] = "linkerd"
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "linkerd-proxy"})
	}
	return p
}

func ptr[T any](v T) *T { return &v }

// slice lists pods by name and address; an address after a "!" is not ready.
func slice(name string, version int, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "prod-app", Name: name, Labels: map[string]string{"kubernetes.io/service-name": "web"},
			ResourceVersion: fmt.Sprint(version),
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{
			{Name: ptr("grpc"), Port: ptr(int32(9090))}, {Name: ptr("db"), Port: ptr(int32(5432))},
		},
	}
	for i := 0; i < len(endpoints); i += 2 {
		pod, ip := endpoints[i], endpoints[i+1]
		ready := true
		if ip[0] == '!' {
			ready, ip = false, ip[1:]
		}
		e := discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}, Zone: ptr("us-east-1a")}
		if pod != "" {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: pod, UID: types.UID("uid-" + pod)}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// follower reads one stream.
type follower struct {
	t      *testing.T
	stream meshapi.Destination_WatchClient
	last   *meshapi.Destinations
}

func (c *cluster) follow(addr string) *follower {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	c.t.Cleanup(cancel)
	stream, err := c.client.Watch(ctx, &meshapi.WatchRequest{Address: addr})
	require.NoError(c.t, err)
	return &follower{t: c.t, stream: stream}
}

// until reads answers until one is as wanted.
func (f *follower) until(ok func(*meshapi.Destinations) bool) *meshapi.Destinations {
	f.t.Helper()
	for {
		got, err := f.stream.Recv()
		require.NoError(f.t, err, "the last answer was %v", f.last)
		f.last = got
		if ok(got) {
			return got
		}
	}
}

func addresses(d *meshapi.Destinations) []string {
	var out []string
	for _, e := range d.GetEndpoints() {
		out = append(out, e.GetIp())
	}
	return out
}

func has(n int) func(*meshapi.Destinations) bool {
	return func(d *meshapi.Destinations) bool { return len(d.GetEndpoints()) == n }
}

func TestAServicesReadyPodsAreTold(t *testing.T) {
	c := newCluster(t)
	c.pods.Add(pod("web-1", "10.1.0.1", true, nil))
	c.pods.Add(pod("web-2", "10.1.0.2", false, nil))
	c.pods.Add(pod("web-3", "10.1.0.3", true, nil))
	c.services.Add(service("web", "10.96.0.1", nil))
	c.slices.Add(slice("web-x", 1, "web-1", "10.1.0.1", "web-2", "10.1.0.2", "web-3", "!10.1.0.3"))
	got := c.follow("10.96.0.1:9090").until(has(2))
	require.Equal(t, meshapi.Destinations_SERVICE, got.Kind)
	require.Equal(t, "web", got.Service)
	require.False(t, got.Opaque)
	meshed, plain := got.Endpoints[0], got.Endpoints[1]
	require.Equal(t, "web.prod-app.serviceaccount.identity.linkerd.cluster.local", meshed.Identity)
	require.Equal(t, []string{"web-1", "prod-app", "web", "deployment", "web", "us-east-1a"},
		[]string{meshed.Pod, meshed.Namespace, meshed.ServiceAccount, meshed.OwnerKind, meshed.OwnerName, meshed.Zone})
	require.EqualValues(t, 9090, meshed.Port)
	require.Empty(t, plain.Identity)
}

func TestChangesAreToldAsTheyHappen(t *testing.T) {
	c := newCluster(t)
	c.services.Add(service("web", "10.96.0.1", nil))
	f := c.follow("10.96.0.1:9090")
	f.until(func(d *meshapi.Destinations) bool { return d.Kind == meshapi.Destinations_SERVICE })
	require.Empty(t, f.last.Endpoints)

	c.pods.Add(pod("web-1", "10.1.0.1", true, nil))
	c.slices.Add(slice("web-x", 1, "web-1", "10.1.0.1"))
	require.Equal(t, []string{"10.1.0.1"}, addresses(f.until(has(1))))

	c.pods.Add(pod("web-2", "10.1.0.2", true, nil))
	c.slices.Modify(slice("web-x", 2, "web-1", "10.1.0.1", "web-2", "10.1.0.2"))
	require.Equal(t, []string{"10.1.0.1", "10.1.0.2"}, addresses(f.until(has(2))))

	c.slices.Modify(slice("web-x", 3, "web-1", "!10.1.0.1", "web-2", "10.1.0.2"))
	require.Equal(t, []string{"10.1.0.2"}, addresses(f.until(has(1))))

	c.services.Delete(service("web", "10.96.0.1", nil))
	require.Equal(t, meshapi.Destinations_UNKNOWN, f.until(func(d *meshapi.Destinations) bool { return d.Kind != meshapi.Destinations_SERVICE }).Kind)
}

func TestAnEndpointIsToldOnlyOnceItsPodIsKnown(t *testing.T) {
	c := newCluster(t)
	c.services.Add(service("web", "10.96.0.1", nil))
	c.slices.Add(slice("web-x", 1, "web-1", "10.1.0.1"))
	f := c.follow("10.96.0.1:9090")
	f.until(func(d *meshapi.Destinations) bool { return d.Kind == meshapi.Destinations_SERVICE })
	require.Empty(t, f.last.Endpoints, "in the clear would be wrong")
	c.pods.Add(pod("web-1", "10.1.0.1", true, nil))
	require.NotEmpty(t, f.until(has(1)).Endpoints[0].Identity)
}

func TestPortsThatTheProxyDoesNotSeeHaveNoIdentity(t *testing.T) {
	c := newCluster(t)
	c.pods.Add(pod("web-1", "10.1.0.1", true, map[string]string{"config.linkerd.io/skip-inbound-ports": "8080,9091-9099"}))
	for port, want := range map[string]bool{"9090": true, "8080": false, "9095": false, "4191": true} {
		got := c.follow("10.1.0.1:" + port).until(has(1))
		require.Equal(t, meshapi.Destinations_POD, got.Kind)
		require.Equal(t, want, got.Endpoints[0].Identity != "", port)
	}
}

func TestOpaquePortsComeFromTheServiceOrThePodOrTheMesh(t *testing.T) {
	c := newCluster(t)
	c.pods.Add(pod("web-1", "10.1.0.1", true, map[string]string{"config.linkerd.io/opaque-ports": "9090"}))
	c.services.Add(service("web", "10.96.0.1", map[string]string{"config.linkerd.io/opaque-ports": "9090"}))
	c.services.Add(service("other", "10.96.0.2", nil))
	c.slices.Add(slice("web-x", 1, "web-1", "10.1.0.1"))
	got := c.follow("10.96.0.1:9090").until(has(1))
	require.True(t, got.Opaque)
	require.True(t, got.Endpoints[0].Opaque)
	require.False(t, c.follow("10.96.0.1:5432").until(has(1)).Opaque, "the annotation is the whole list")
	known := func(d *meshapi.Destinations) bool { return d.Kind == meshapi.Destinations_SERVICE }
	require.True(t, c.follow("10.96.0.2:5432").until(known).Opaque)
	require.False(t, c.follow("10.96.0.2:9090").until(known).Opaque)
}

func TestAServerHasTheLastWordOnWhetherAPortIsOpaque(t *testing.T) {
	c := newCluster(t)
	named := pod("web-1", "10.1.0.1", true, map[string]string{"config.linkerd.io/opaque-ports": "9091"})
	named.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "grpc", ContainerPort: 9090}}
	c.pods.Add(named)
	f := c.follow("10.1.0.1:9090")
	require.False(t, f.until(has(1)).Endpoints[0].Opaque)

	srv := &kinds.Server{ObjectMeta: metav1.ObjectMeta{Namespace: "prod-app", Name: "grpc"}, Spec: kinds.ServerSpec{
		PodSelector: &metav1.LabelSelector{}, Port: intstr.FromString("grpc"), ProxyProtocol: kinds.ProtocolOpaque,
	}}
	c.servers.Add(srv)
	opaque := func(want bool) func(*meshapi.Destinations) bool {
		return func(d *meshapi.Destinations) bool { return d.Endpoints[0].Opaque == want }
	}
	f.until(opaque(true))
	detected := srv.DeepCopyObject().(*kinds.Server)
	detected.Spec.Port, detected.Spec.ProxyProtocol = intstr.FromInt32(9091), kinds.ProtocolUnknown
	c.servers.Modify(detected)
	f.until(opaque(false))
	require.False(t, c.follow("10.1.0.1:9091").until(has(1)).Endpoints[0].Opaque, "whatever the annotation says")
}

func TestWhatIsNoPodAndNoServiceIsUnknown(t *testing.T) {
	c := newCluster(t)
	host := pod("agent", "172.18.0.2", false, nil)
	host.Spec.HostNetwork = true
	done := pod("job-1", "10.1.0.9", true, nil)
	done.Status.Phase = corev1.PodSucceeded
	c.pods.Add(host)
	c.pods.Add(done)
	c.services.Add(service("web", "10.96.0.1", nil))
	for _, addr := range []string{"172.18.0.2:80", "10.1.0.9:80", "1.2.3.4:443", "10.96.0.1:1234"} {
		got := c.follow(addr).until(has(0))
		require.Equal(t, meshapi.Destinations_UNKNOWN, got.Kind, addr)
		require.False(t, got.Opaque, addr)
	}
	require.True(t, c.follow("1.2.3.4:5432").until(has(0)).Opaque, "the mesh's opaque ports are so wherever they are")
}

func TestAnAddressThatGoesToAnotherPodIsTheNewerOnes(t *testing.T) {
	c := newCluster(t)
	old, fresh := pod("web-1", "10.1.0.1", true, nil), pod("web-2", "10.1.0.1", false, nil)
	fresh.CreationTimestamp = metav1.Now()
	c.pods.Add(old)
	f := c.follow("10.1.0.1:9090")
	f.until(func(d *meshapi.Destinations) bool { return len(d.Endpoints) == 1 && d.Endpoints[0].Pod == "web-1" })
	c.pods.Add(fresh)
	got := f.until(func(d *meshapi.Destinations) bool { return d.Endpoints[0].Pod == "web-2" })
	require.Empty(t, got.Endpoints[0].Identity)
}

func TestEndpointsWithoutAPodAreTold(t *testing.T) {
	c := newCluster(t)
	c.services.Add(service("web", "10.96.0.1", nil))
	c.slices.Add(slice("web-x", 1, "", "172.18.0.5"))
	got := c.follow("10.96.0.1:9090").until(has(1))
	require.Equal(t, "172.18.0.5", got.Endpoints[0].Ip)
	require.Empty(t, got.Endpoints[0].Identity)
}

func TestAddressesThatAreNoneAreRefused(t *testing.T) {
	c := newCluster(t)
	for _, addr := range []string{"", "web:80", "10.0.0.1", "[::1]:80", "10.0.0.1:99999"} {
		stream, err := c.client.Watch(context.Background(), &meshapi.WatchRequest{Address: addr})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err), addr)
	}
}

func TestNobodyIsRememberedWhoHasGone(t *testing.T) {
	c := newCluster(t)
	c.services.Add(service("web", "10.96.0.1", nil))
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.client.Watch(ctx, &meshapi.WatchRequest{Address: "10.96.0.1:9090"})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	cancel()
	require.Eventually(t, c.index.hub.Empty, 5*time.Second, 10*time.Millisecond)
}

func BenchmarkLookupOfAServiceWith50Endpoints(b *testing.B) {
	x, err := newIndex(
		cache.NewSharedIndexInformer(fcache.NewFakeControllerSource(), &corev1.Service{}, 0, cache.Indexers{}),
		cache.NewSharedIndexInformer(fcache.NewFakeControllerSource(), &discoveryv1.EndpointSlice{}, 0, cache.Indexers{}),
		cache.NewSharedIndexInformer(fcache.NewFakeControllerSource(), &corev1.Pod{}, 0, cache.Indexers{}),
		cache.NewSharedIndexInformer(fcache.NewFakeControllerSource(), &kinds.Server{}, 0, cache.Indexers{}),
		Settings{Mesh: meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"}}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	require.NoError(b, err)
	require.NoError(b, x.services.GetStore().Add(service("web", "10.96.0.1", nil)))
	var endpoints []string
	for i := range 50 {
		name, ip := fmt.Sprintf("web-%d", i), fmt.Sprintf("10.1.0.%d", i)
		require.NoError(b, x.pods.GetStore().Add(pod(name, ip, true, nil)))
		endpoints = append(endpoints, name, ip)
	}
	require.NoError(b, x.slices.GetStore().Add(slice("web-x", 1, endpoints...)))
	addr := netip.MustParseAddrPort("10.96.0.1:9090")
	b.ReportAllocs()
	for b.Loop() {
		d, _ := x.lookup(addr)
		if len(d.Endpoints) != 50 {
			b.Fatal(len(d.Endpoints))
		}
	}
}
