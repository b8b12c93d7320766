package alb

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"
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

func (l *lines) entries(t *testing.T) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []entry
	for s := bufio.NewScanner(bytes.NewReader(l.b.Bytes())); s.Scan(); {
		var e entry
		require.NoError(t, json.Unmarshal(s.Bytes(), &e))
		out = append(out, e)
	}
	return out
}

// sandbox is a balancer on loopback over a made-up cluster whose nodes are
// loopback addresses.
type sandbox struct {
	*Balancer
	http, grpc string
	client     *fake.Clientset
	access     *lines
}

func start(t *testing.T, timeout time.Duration, objects ...runtime.Object) *sandbox {
	t.Helper()
	open := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	s := &sandbox{client: fake.NewClientset(objects...), access: &lines{}}
	h, g := open(), open()
	s.http, s.grpc = h.Addr().String(), g.Addr().String()
	s.Balancer = New(Options{HTTP: h, GRPC: g, Access: s.access, Log: slog.New(slog.DiscardHandler)})
	s.watcher.settle = 10 * time.Millisecond
	s.timeout = timeout
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

func serveOn(t *testing.T, door net.Listener, h http.Handler) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = door
	s.Start()
	t.Cleanup(s.Close)
}

// quick are annotations that make health checks prompt.
var quick = map[string]string{"healthcheck-interval-seconds": "1"}

func restIngress() *networkingv1.Ingress {
	return testIngress("rest", quick, path{networkingv1.PathTypePrefix, "/api", "shop", 8080})
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

func (s *sandbox) healthOf(node string) string {
	for _, g := range s.Groups() {
		for _, t := range g.Targets {
			if t.Node == node {
				return t.Health
			}
		}
	}
	return "none"
}

func (s *sandbox) awaitHealth(t *testing.T, node, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return s.healthOf(node) == want }, 5*time.Second, 5*time.Millisecond, "%s %s", node, want)
}
