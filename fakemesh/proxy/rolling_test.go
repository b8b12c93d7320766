package proxy

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
)

// The times of a careful restart, a tenth of the real ones: endpoints leave
// some time after SIGTERM, the application answers for half a second, the
// proxy waits for longer than that.
const (
	endpointsLeave = 100 * time.Millisecond
	drainBegins    = 200 * time.Millisecond
	appDrains      = 500 * time.Millisecond
	proxyWaits     = 800 * time.Millisecond
)

// end is what happens to a pod that is deleted.
func (p *pod) end(d *directory) {
	begin := time.Now()
	at := func(after time.Duration) { time.Sleep(time.Until(begin.Add(after))) }
	at(endpointsLeave)
	d.remove(p)
	at(drainBegins)
	if p.meshed {
		p.in.Drain()
	}
	at(appDrains)
	p.grpc.GracefulStop()
	at(proxyWaits)
	p.stopProxy(5 * time.Second)
}

// roll replaces all pods one after another.
func roll(w *world, d *directory, pods []*pod, meshed bool) []*pod {
	var next []*pod
	var ending sync.WaitGroup
	for _, old := range pods {
		fresh := w.startPod("web", podSpec{meshed: meshed})
		time.Sleep(50 * time.Millisecond)
		d.add(fresh)
		next = append(next, fresh)
		ending.Go(func() { old.end(d) })
		time.Sleep(300 * time.Millisecond)
	}
	ending.Wait()
	return next
}

// load sends calls until stop is closed and reports what failed.
type load struct {
	wg     sync.WaitGroup
	stop   chan struct{}
	sent   atomic.Int64
	mu     sync.Mutex
	failed []string
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, fmt.Sprintf(format, args...))
}

// calls sends unary calls from several workers over one connection.
func (l *load) calls(client testgrpc.TestServiceClient, workers int) {
	for range workers {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-wait", "2ms"), 5*time.Second)
				_, err := client.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: 200, Payload: &testgrpc.Payload{Body: make([]byte, 300)}})
				cancel()
				l.sent.Add(1)
				if err != nil {
					l.fail("%s: %v", time.Now().Format("05.000"), err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}

func TestNoRequestFailsWhilePodsAreRestarted(t *testing.T) {
	for name, tc := range map[string]struct {
		clientMeshed bool
		before       bool // the servers have proxies
		after        bool
	}{
		"client and servers in the mesh":                       {true, true, true},
		"client in the mesh, servers not":                      {true, false, false},
		"servers in the mesh, client not":                      {false, true, true},
		"servers join the mesh, client is in it":               {true, false, true},
		"servers join the mesh, client is not in it":           {false, false, true},
		"servers leave the mesh, client is in it":              {true, true, false},
		"nobody in the mesh, as a measure of the test's world": {false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var pods []*pod
			for range 3 {
				pods = append(pods, w.startPod("web", podSpec{meshed: tc.before}))
			}
			vip, d := w.service("10.96.0.1:9090", pods...)
			l := &load{stop: make(chan struct{})}
			for range 3 {
				dial := w.clusterIP(vip)
				if tc.clientMeshed {
					s := w.sidecar("client")
					dial = func(ctx context.Context) (net.Conn, error) { return s.dial(ctx, vip) }
				}
				l.calls(testgrpc.NewTestServiceClient(grpcTo(t, dial)), 4)
			}
			time.Sleep(100 * time.Millisecond)
			pods = roll(w, d, pods, tc.after)
			close(l.stop)
			l.wg.Wait()
			require.Empty(t, l.failed)
			require.Greater(t, l.sent.Load(), int64(50))
			var served int64
			for _, p := range pods {
				served += p.served.Load()
				if tc.clientMeshed {
					require.Positive(t, p.served.Load(), "a new pod got nothing")
				}
			}
			require.Positive(t, served)
		})
	}
}

func TestEveryCallBetweenMeshedPodsIsCountedAsMutualTLS(t *testing.T) {
	client, p, s := pair(t, true)
	for range 10 {
		_, err := client.UnaryCall(short(t), &testgrpc.SimpleRequest{})
		require.NoError(t, err)
	}
	in, out := counted(t, p.metrics, "request_total"), counted(t, s.metrics, "request_total")
	require.Equal(t, map[string]float64{"true/": 10}, in)
	require.Equal(t, map[string]float64{"true/": 10}, out)
}

// counted sums a counter by its tls and no_tls_reason labels.
func counted(t *testing.T, r *metrics.Registry, name string) map[string]float64 {
	t.Helper()
	all, err := r.Gather()
	require.NoError(t, err)
	sums := map[string]float64{}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			var tls, reason string
			for _, l := range m.Label {
				switch l.GetName() {
				case "tls":
					tls = l.GetValue()
				case "no_tls_reason":
					reason = l.GetValue()
				}
			}
			sums[tls+"/"+reason] += m.GetCounter().GetValue()
		}
	}
	return sums
}

// labelled sums a counter by one of its labels.
func labelled(t *testing.T, r *metrics.Registry, name, label string) map[string]float64 {
	t.Helper()
	all, err := r.Gather()
	require.NoError(t, err)
	sums := map[string]float64{}
	for _, f := range all {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if f.GetName() == name && l.GetName() == label {
					sums[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sums
}
