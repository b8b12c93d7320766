package server_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakeshop/behaviour"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/server"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/fakeshop/tracing"
)

func placed(c *server.Config) { c.Node, c.Version = "worker", "v2" }

func TestAnAnswerTellsItsWholeWay(t *testing.T) {
	inner := run(t, "inventory-management", placed, func(ctx context.Context, id string) (int64, error) {
		time.Sleep(5 * time.Millisecond)
		if id == "down" {
			return 0, fail.New(codes.Unavailable, "", "gone")
		}
		return 7, nil
	})
	outer := front(t, false, inner.port("grpc"))
	for id, code := range map[string]codes.Code{"p-1": codes.OK, "down": codes.Unavailable} {
		_, _, header, err := get(t, client(t), "http://"+outer.port("http")+"/stock/"+id)
		require.NoError(t, err)
		way, err := hops.Parse("order-processing", header.Get(shopapi.HopsHeader))
		require.NoError(t, err)
		require.Len(t, way, 2)
		require.Equal(t, "order-processing-0", way[0].Pod)
		require.Equal(t, "", way[0].Node)
		asked := way[1]
		require.GreaterOrEqual(t, asked.Own, 5*time.Millisecond)
		require.GreaterOrEqual(t, asked.Took, asked.Own, "what lies between is the caller's")
		require.GreaterOrEqual(t, way[0].Own, asked.Took)
		asked.Own, asked.Took, asked.Start = 0, 0, 0
		require.Equal(t, hops.Hop{Depth: 1, Caller: "order-processing", Service: "inventory-management", Pod: "inventory-management-0",
			Node: "worker", Version: "v2", Code: code, Attempts: 1}, asked)
	}
	var trailer metadata.MD
	_, err := shopapi.NewInventoryManagementClient(dial(t, inner.port("edge"))).
		GetStock(t.Context(), &shopapi.GetStockRequest{}, grpc.Trailer(&trailer))
	require.NoError(t, err)
	require.Equal(t, []string{"v2"}, trailer.Get(shopapi.VersionHeader))
	way, err := hops.Parse("inventory-management", trailer.Get(shopapi.HopsHeader)[0])
	require.NoError(t, err)
	require.Len(t, way, 1)
}

// Each hop keeps a part of the time for its own answer, so that the caller
// hears of the one that was late, and not of nothing.
func TestEachHopLeavesItsCallerTimeToAnswer(t *testing.T) {
	left := make(chan time.Duration, 10)
	inner := run(t, "inventory-management", nil, func(ctx context.Context, id string) (int64, error) {
		end, _ := ctx.Deadline()
		left <- time.Until(end)
		if id == "slow" {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		return 7, nil
	})
	outer := front(t, false, inner.port("grpc"))
	c := shopapi.NewInventoryManagementClient(dial(t, outer.port("grpc")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := c.GetStock(ctx, &shopapi.GetStockRequest{ProductId: "p"})
	require.NoError(t, err)
	require.Less(t, <-left, 910*time.Millisecond, "two hops kept 50 ms each")

	ctx, cancel = context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	var trailer metadata.MD
	_, err = c.GetStock(ctx, &shopapi.GetStockRequest{ProductId: "slow"}, grpc.Trailer(&trailer))
	require.Equal(t, codes.DeadlineExceeded, status.Code(err))
	require.Equal(t, []string{"order-processing>inventory-management"}, trailer.Get(shopapi.HopHeader))
	require.Equal(t, []string{"inventory-management-0"}, trailer.Get(shopapi.FailedPodHeader), "it was heard itself")
}

func TestATraceGoesThroughAllServices(t *testing.T) {
	traces := make(chan string, 10)
	inner := run(t, "inventory-management", nil, func(ctx context.Context, _ string) (int64, error) {
		traces <- tracing.ID(ctx)
		return 7, nil
	})
	outer := front(t, false, inner.port("grpc"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+outer.port("http")+"/stock/p", nil)
	require.NoError(t, err)
	req.Header.Set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	resp, err := client(t).Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", <-traces)
}

// breaker is a listener that can close the connections it has accepted.
type breaker struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (b *breaker) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err == nil {
		b.mu.Lock()
		b.conns = append(b.conns, c)
		b.mu.Unlock()
	}
	return c, err
}

func (b *breaker) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		_ = c.Close()
	}
	b.conns = nil
}

// breaking is inventory whose connections break under the first calls.
func breaking(t *testing.T, times int32, get func(context.Context, string) (int64, error)) *running {
	t.Helper()
	b := &breaker{}
	var left atomic.Int32
	left.Store(times)
	return run(t, "inventory-management", func(c *server.Config) {
		listen := c.Listen
		c.Listen = func(ctx context.Context, addr string) (net.Listener, error) {
			l, err := listen(ctx, addr)
			if addr == "grpc" && err == nil {
				b.Listener = l
				return b, nil
			}
			return l, err
		}
	}, func(ctx context.Context, id string) (int64, error) {
		if left.Add(-1) >= 0 {
			b.cut()
			<-ctx.Done()
		}
		return get(ctx, id)
	})
}

func TestACallWhoseConnectionBreaksIsSentAgainOnceWhereThatIsSafe(t *testing.T) {
	ask := func(t *testing.T, retries int, s *running, call func(context.Context, shopapi.InventoryManagementClient) error) ([]hops.Hop, error) {
		t.Helper()
		conn, err := dialer(s, retries).Dial("inventory-management")
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		ctx, record := hops.Begin(t.Context())
		err = call(ctx, shopapi.NewInventoryManagementClient(conn))
		way, parseErr := hops.Parse("order-processing", record.Answer(hops.NewSelf("order-processing", "o-0", "n", "v1")))
		require.NoError(t, parseErr)
		return way, err
	}
	stock := func(ctx context.Context, c shopapi.InventoryManagementClient) error {
		_, err := c.GetStock(ctx, &shopapi.GetStockRequest{ProductId: "p"})
		return err
	}
	t.Run("and tells how often", func(t *testing.T) {
		way, err := ask(t, 1, breaking(t, 1, seven), stock)
		require.NoError(t, err)
		require.Equal(t, 2, way[1].Attempts)
		require.True(t, way[1].Answered())
	})
	t.Run("not without permission", func(t *testing.T) {
		way, err := ask(t, 0, breaking(t, 1, seven), stock)
		require.Equal(t, codes.Unavailable, fail.Code(err))
		require.Equal(t, 1, way[1].Attempts)
		require.Equal(t, codes.Unavailable, way[1].Code)
	})
	t.Run("not for ever", func(t *testing.T) {
		way, err := ask(t, 1, breaking(t, 5, seven), stock)
		require.Equal(t, codes.Unavailable, fail.Code(err))
		require.Equal(t, "order-processing>inventory-management", fail.From(err).Chain("order-processing"))
		require.Equal(t, 2, way[1].Attempts)
	})
	t.Run("not what the service itself has answered", func(t *testing.T) {
		var calls atomic.Int32
		s := run(t, "inventory-management", nil, func(context.Context, string) (int64, error) {
			calls.Add(1)
			return 0, fail.At("postgres", "reading stock", fail.New(codes.Unavailable, "", "gone"))
		})
		way, err := ask(t, 4, s, stock)
		require.Equal(t, codes.Unavailable, fail.Code(err))
		require.Equal(t, int32(1), calls.Load())
		require.Equal(t, 1, way[1].Attempts)
	})
	t.Run("not when many calls fail", func(t *testing.T) {
		s := breaking(t, 1000, seven)
		conn, err := dialer(s, 1).Dial("inventory-management")
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		sent := 0
		for range 30 {
			ctx, record := hops.Begin(t.Context())
			require.Error(t, stock(ctx, shopapi.NewInventoryManagementClient(conn)))
			way, err := hops.Parse("o", record.Answer(hops.NewSelf("o", "o-0", "n", "v1")))
			require.NoError(t, err)
			sent += way[1].Attempts
		}
		require.LessOrEqual(t, sent, 30+5, "half of ten tokens")
	})
}

func TestNativeProbesFollowTheServicesLife(t *testing.T) {
	s := newSlow()
	sick := make(chan error, 1)
	sick <- nil
	r := &running{ports: map[string]string{}, done: make(chan error, 1)}
	r.start(t, "inventory-management", func(c *server.Config) { c.Drain = time.Second }, func(context.Context, prometheus.Registerer) (*server.App, error) {
		return &server.App{Ready: func(context.Context) error { err := <-sick; sick <- err; return err },
			Register:    func(g grpc.ServiceRegistrar) { shopapi.RegisterInventoryManagementServer(g, stock{get: s.get}) },
			EdgeMethods: []string{shopapi.InventoryManagement_GetStock_FullMethodName}}, nil
	})
	require.Eventually(t, func() bool { return r.ready() == 200 }, 5*time.Second, 5*time.Millisecond)
	inner, edge := healthpb.NewHealthClient(dial(t, r.port("grpc"))), healthpb.NewHealthClient(dial(t, r.port("edge")))
	check := func(c healthpb.HealthClient, service string) healthpb.HealthCheckResponse_ServingStatus {
		out, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		return out.GetStatus()
	}
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	require.Equal(t, serving, check(inner, ""))
	<-sick
	sick <- fail.New(codes.Unavailable, "", "no database")
	require.Equal(t, not, check(inner, ""))
	require.Equal(t, serving, check(inner, "live"))
	require.Equal(t, serving, check(edge, ""), "the load balancer asks whether a pod is there")
	<-sick
	sick <- nil
	_, err := inner.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "teapot"})
	require.Equal(t, codes.NotFound, status.Code(err))
	r.stop()
	require.Eventually(t, func() bool { return check(inner, "") == not }, time.Second, time.Millisecond, "draining")
	require.Equal(t, serving, check(inner, "live"))
	require.Equal(t, serving, check(edge, ""))
}

func TestAServiceMisbehavesByConfiguration(t *testing.T) {
	misbehave := func(c behaviour.Config) func(*server.Config) {
		return func(s *server.Config) { s.Behaviour = behaviour.New(c, s.Pod) }
	}
	t.Run("failing by REST and by gRPC, and telling that it is itself", func(t *testing.T) {
		s := run(t, "inventory-management", misbehave(behaviour.Config{Errors: behaviour.Errors{Rate: 1, Code: "INTERNAL"}}), seven)
		code, body, _, err := get(t, client(t), "http://"+s.port("http")+"/stock/p")
		require.NoError(t, err)
		require.Equal(t, 500, code)
		require.Contains(t, body, `"code":"internal","hop":"inventory-management"`)
		_, err = shopapi.NewInventoryManagementClient(dial(t, s.port("grpc"))).GetStock(t.Context(), &shopapi.GetStockRequest{})
		require.Equal(t, codes.Internal, status.Code(err))
		code, _, _, err = get(t, client(t), "http://"+s.port("http")+"/healthz")
		require.NoError(t, err)
		require.Equal(t, 200, code, "a bad version looks well")
	})
	t.Run("slow", func(t *testing.T) {
		s := run(t, "inventory-management", misbehave(behaviour.Config{Latency: behaviour.Latency{Kind: behaviour.Constant, P50: behaviour.Duration(80 * time.Millisecond)}}), seven)
		_, _, header, err := get(t, client(t), "http://"+s.port("http")+"/stock/p")
		require.NoError(t, err)
		way, err := hops.Parse("inventory-management", header.Get(shopapi.HopsHeader))
		require.NoError(t, err)
		require.GreaterOrEqual(t, way[0].Own, 80*time.Millisecond)
	})
	t.Run("slow to start", func(t *testing.T) {
		r := &running{ports: map[string]string{}, done: make(chan error, 1)}
		began := time.Now()
		r.start(t, "customer-profile", misbehave(behaviour.Config{StartDelay: behaviour.Duration(300 * time.Millisecond)}),
			func(context.Context, prometheus.Registerer) (*server.App, error) { return &server.App{}, nil })
		require.Equal(t, 503, r.ready())
		require.Eventually(t, func() bool { return r.ready() == 200 }, 5*time.Second, 5*time.Millisecond)
		require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	})
	t.Run("told to stop while it is slow to start", func(t *testing.T) {
		r := &running{ports: map[string]string{}, done: make(chan error, 1)}
		closed := make(chan struct{})
		r.start(t, "customer-profile", misbehave(behaviour.Config{StartDelay: behaviour.Duration(time.Hour)}),
			func(context.Context, prometheus.Registerer) (*server.App, error) {
				return &server.App{Close: func(context.Context) { close(closed) }}, nil
			})
		time.Sleep(20 * time.Millisecond)
		r.stop()
		require.NoError(t, r.ended(t))
		<-closed
	})
}
