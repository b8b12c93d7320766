package alb

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
)

// lines is a buffer that several goroutines may use.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// entries are the access log's lines so far, each as its 33 fields.
func (l *lines) entries(t *testing.T) []logged {
	t.Helper()
	var out []logged
	for line := range strings.Lines(l.String()) {
		out = append(out, parseLine(t, line))
	}
	return out
}

// sandbox is a balancer on loopback over a made-up cluster whose nodes and pods
// are loopback addresses.
type sandbox struct {
	*Balancer
	http, grpc string
	client     *fake.Clientset
	access     *lines
	log        *lines
}

// setup is what a test may change of a balancer before it runs.
type setup func(*Balancer)

func idleAfter(d time.Duration) setup {
	return func(b *Balancer) { b.watcher.settings.Idle = d }
}

func start(t *testing.T, change setup, objects ...runtime.Object) *sandbox {
	t.Helper()
	return startOn(t, fake.NewClientset(objects...), change)
}

// startOn takes a client that the test has prepared.
func startOn(t *testing.T, client *fake.Clientset, change setup) *sandbox {
	t.Helper()
	open := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	s := &sandbox{client: client, access: &lines{}, log: &lines{}}
	h, g := open(), open()
	s.http, s.grpc = h.Addr().String(), g.Addr().String()
	s.Balancer = New(Options{HTTP: h, GRPC: g, Access: s.access, Log: slog.New(slog.NewTextHandler(s.log, nil)),
		Name: "shop", Region: "us-east-1", Account: "123456789012"})
	s.watcher.settle, s.flush = 10*time.Millisecond, 10*time.Millisecond
	if change != nil {
		change(s.Balancer)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(context.Context) (kubernetes.Interface, error) { return s.client, nil })
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		http.DefaultClient.CloseIdleConnections()
	})
	require.Eventually(t, s.watcher.synced.Load, 5*time.Second, 5*time.Millisecond)
	return s
}

// listenOn opens the same port on several loopback addresses.
func listenOn(t *testing.T, ips ...string) (port int32, doors []net.Listener) {
	t.Helper()
	first, err := net.Listen("tcp", ips[0]+":0")
	require.NoError(t, err)
	doors = append(doors, first)
	port = int32(first.Addr().(*net.TCPAddr).Port)
	for _, ip := range ips[1:] {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, port))
		require.NoError(t, err)
		doors = append(doors, l)
	}
	return port, doors
}

func serveOn(t *testing.T, door net.Listener, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = door
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// quick are annotations that make health checks and deregistration prompt.
var quick = map[string]string{"healthcheck-interval-seconds": "1", "target-group-attributes": "deregistration_delay.timeout_seconds=1"}

// toPods are the same for targets of type ip.
func toPods(more ...string) map[string]string {
	notes := map[string]string{"target-type": "ip", "healthcheck-interval-seconds": "1"}
	for i := 0; i+1 < len(more); i += 2 {
		notes[more[i]] = more[i+1]
	}
	return notes
}

func restIngress(notes map[string]string) *networkingv1.Ingress {
	return testIngress("rest", notes, path{networkingv1.PathTypePrefix, "/api", "shop", 8080})
}

// pod is one endpoint of a Service.
type pod struct {
	name, ip, node string
	ready, ending  bool
}

// podsOf are the endpoints of the Service shop, all at one port.
func podsOf(name string, port int32, pods ...pod) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "prod-app", Name: "shop-1", Labels: map[string]string{discoveryv1.LabelServiceName: "shop"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for _, p := range pods {
		e := discoveryv1.Endpoint{
			Addresses:  []string{p.ip},
			Conditions: discoveryv1.EndpointConditions{Ready: &p.ready, Serving: &p.ready, Terminating: &p.ending},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: p.name},
		}
		if p.node != "" {
			e.NodeName = &p.node
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (s *sandbox) setPods(t *testing.T, slice *discoveryv1.EndpointSlice) {
	t.Helper()
	_, err := s.client.DiscoveryV1().EndpointSlices("prod-app").Update(t.Context(), slice, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// onePod starts a balancer with one pod that h answers for; its health checks
// go to "/".
func onePod(t *testing.T, change setup, notes map[string]string, h http.HandlerFunc) *sandbox {
	t.Helper()
	port, doors := listenOn(t, "127.0.0.1")
	serveOn(t, doors[0], h)
	s := start(t, change, restIngress(notes), testService("shop", testPort("http", 8080, 0)),
		podsOf("http", port, pod{name: "shop-a", ip: "127.0.0.1", ready: true}))
	s.awaitHealth(t, "shop-a", "healthy")
	return s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

// healthOf tells the health of a node or a pod, in whichever group it is found first.
func (s *sandbox) healthOf(name string) string {
	for _, g := range s.Groups() {
		for _, t := range g.Targets {
			if t.Node == name || t.Pod == name {
				return t.Health
			}
		}
	}
	return "none"
}

func (s *sandbox) awaitHealth(t *testing.T, name, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return s.healthOf(name) == want }, 15*time.Second, 5*time.Millisecond, "%s %s", name, want)
}

// lastEntries waits for n lines of the access log.
func (s *sandbox) lastEntries(t *testing.T, n int) []logged {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Count(s.access.String(), "\n") >= n }, 5*time.Second, 5*time.Millisecond)
	all := s.access.entries(t)
	require.Len(t, all, n)
	return all
}

// spread counts who answers n requests.
func (s *sandbox) spread(t *testing.T, n int) map[string]int {
	t.Helper()
	out := map[string]int{}
	for range n {
		status, who := get(t, "http://"+s.http+"/api/who")
		require.Equal(t, 200, status)
		out[who]++
	}
	return out
}
