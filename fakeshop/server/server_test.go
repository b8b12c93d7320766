package server_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/peer"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/server"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stock is an InventoryManagement whose GetStock is a function.
type stock struct {
	shopapi.UnimplementedInventoryManagementServer
	get func(ctx context.Context, id string) (int64, error)
}

func (s stock) GetStock(ctx context.Context, req *shopapi.GetStockRequest) (*shopapi.GetStockResponse, error) {
	n, err := s.get(ctx, req.GetProductId())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetStockResponse{Stock: n}, nil
}

// running is a service run by a test.
type running struct {
	stop context.CancelFunc
	done chan error

	mu     sync.Mutex
	ports  map[string]string // addresses by name
	closed bool
}

func (r *running) port(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ports[name]
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run serves get as a service, by REST under /stock/{id} and by gRPC.
func run(t testing.TB, name string, change func(*server.Config), get func(context.Context, string) (int64, error)) *running {
	t.Helper()
	r := &running{ports: map[string]string{}, done: make(chan error, 1)}
	app := &server.App{
		REST: map[string]rest.Handler{"GET /stock/{id}": func(req *http.Request) (int, any, error) {
			n, err := get(req.Context(), req.PathValue("id"))
			return http.StatusOK, map[string]int64{"stock": n}, err
		}},
		Register:    func(s grpc.ServiceRegistrar) { shopapi.RegisterInventoryManagementServer(s, stock{get: get}) },
		EdgeMethods: []string{shopapi.InventoryManagement_GetStock_FullMethodName},
		Close: func(context.Context) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.closed = true
		},
	}
	r.start(t, name, change, func(context.Context, prometheus.Registerer) (*server.App, error) { return app, nil })
	require.Eventually(t, func() bool { return r.ready() == http.StatusOK }, 5*time.Second, 5*time.Millisecond)
	return r
}

func (r *running) start(t testing.TB, name string, change func(*server.Config), start server.Start) {
	t.Helper()
	cfg := server.Config{Service: name, Pod: name + "-0", HTTP: "http", EdgeGRPC: "edge", GRPC: "grpc", Admin: "admin",
		Drain: 150 * time.Millisecond, HardStop: 3 * time.Second, Log: quiet(),
		Listen: func(ctx context.Context, port string) (net.Listener, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			addr := r.ports[port]
			if addr == "" {
				addr = "127.0.0.1:0"
			}
			l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
			if err == nil {
				r.ports[port] = l.Addr().String()
			}
			return l, err
		}}
	if change != nil {
		change(&cfg)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.done <- server.Run(ctx, cfg, start) }()
	require.Eventually(t, func() bool { return r.port("admin") != "" }, 5*time.Second, time.Millisecond)
	t.Cleanup(func() {
		stop()
		select {
		case <-r.done:
		case <-time.After(10 * time.Second):
			t.Error("the service does not end")
		}
	})
}

// ended waits for the service's end.
func (r *running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err // for the cleanup
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the service does not end")
		return nil
	}
}

// client keeps no connections that would outlive the test.
func client(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func (r *running) ready() int {
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: 2 * time.Second}).Get("http://" + r.port("admin") + "/readyz")
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func get(t *testing.T, c *http.Client, url string) (int, string, http.Header, error) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.Close {
		resp.Header.Set("Connection", "close") // the client takes it out
	}
	return resp.StatusCode, strings.TrimSpace(string(body)), resp.Header, err
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func seven(context.Context, string) (int64, error) { return 7, nil }

func TestEveryAnswerNamesItsPod(t *testing.T) {
	s := run(t, "inventory-management", nil, seven)
	status, body, header, err := get(t, client(t), "http://"+s.port("http")+"/stock/p-1")
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Equal(t, `{"stock":7}`, body)
	require.Equal(t, "inventory-management-0", header.Get("x-shop-pod"))
	require.Empty(t, header.Get("Connection"))

	status, body, header, err = get(t, client(t), "http://"+s.port("http")+"/nothing")
	require.NoError(t, err)
	require.Equal(t, 404, status)
	require.Equal(t, "inventory-management-0", header.Get("x-shop-pod"))
	require.Equal(t, `{"error":"there is no /nothing","code":"not_found","pod":"inventory-management-0"}`, body)

	for _, port := range []string{"grpc", "edge"} {
		var trailer metadata.MD
		out, err := shopapi.NewInventoryManagementClient(dial(t, s.port(port))).
			GetStock(t.Context(), &shopapi.GetStockRequest{}, grpc.Trailer(&trailer))
		require.NoError(t, err)
		require.Equal(t, int64(7), out.GetStock())
		require.Equal(t, []string{"inventory-management-0"}, trailer.Get(shopapi.PodHeader))
		require.Empty(t, trailer.Get(shopapi.HopHeader))
	}
}

func TestOnlyWhatIsMeantForOutsideIsOpenAtTheEdge(t *testing.T) {
	s := run(t, "inventory-management", nil, seven)
	edge := dial(t, s.port("edge"))
	_, err := shopapi.NewInventoryManagementClient(edge).Reserve(t.Context(), &shopapi.ReserveRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
	require.ErrorContains(t, err, "not open to outside clients")
	h, err := healthpb.NewHealthClient(edge).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, h.GetStatus())
	code, _, _, err := get(t, client(t), "http://"+s.port("http")+"/healthz")
	require.NoError(t, err)
	require.Equal(t, 200, code)
}

func TestABugIsAnsweredAndDoesNotEndTheService(t *testing.T) {
	s := run(t, "inventory-management", nil, func(context.Context, string) (int64, error) { panic("bug") })
	for range 2 {
		code, body, _, err := get(t, client(t), "http://"+s.port("http")+"/stock/p-1")
		require.NoError(t, err)
		require.Equal(t, 500, code)
		require.Contains(t, body, `"code":"internal","hop":"inventory-management"`)
		_, err = shopapi.NewInventoryManagementClient(dial(t, s.port("grpc"))).GetStock(t.Context(), &shopapi.GetStockRequest{})
		require.Equal(t, codes.Internal, status.Code(err))
	}
}

func TestReadinessFollowsTheServicesLife(t *testing.T) {
	r := &running{ports: map[string]string{}, done: make(chan error, 1)}
	go_, sick := make(chan struct{}), make(chan error, 1)
	sick <- nil
	r.start(t, "customer-profile", func(c *server.Config) { c.Drain = time.Second }, func(ctx context.Context, _ prometheus.Registerer) (*server.App, error) {
		<-go_
		return &server.App{Ready: func(context.Context) error { err := <-sick; sick <- err; return err }}, nil
	})
	require.Equal(t, 503, r.ready(), "starting")
	close(go_)
	require.Eventually(t, func() bool { return r.ready() == 200 }, 5*time.Second, 5*time.Millisecond)
	<-sick
	sick <- errors.New("no database")
	require.Equal(t, 503, r.ready(), "its database is away")
	<-sick
	sick <- nil
	require.Equal(t, 200, r.ready())
	r.stop()
	require.Eventually(t, func() bool { return r.ready() == 503 }, time.Second, time.Millisecond, "draining")
	require.NoError(t, r.ended(t))
}

func TestToldToStopWhileStartingItEndsInPeace(t *testing.T) {
	r := &running{ports: map[string]string{}, done: make(chan error, 1)}
	r.start(t, "customer-profile", nil, func(ctx context.Context, _ prometheus.Registerer) (*server.App, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	r.stop()
	require.NoError(t, r.ended(t))
}

func TestWhatCannotBeServedIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, port := range []string{"admin", "grpc"} {
		cfg := server.Config{Service: "s", Admin: "127.0.0.1:0", GRPC: "127.0.0.1:0", Drain: time.Millisecond, Log: quiet()}
		if port == "admin" {
			cfg.Admin = l.Addr().String()
		} else {
			cfg.GRPC = l.Addr().String()
		}
		err = server.Run(t.Context(), cfg, func(context.Context, prometheus.Registerer) (*server.App, error) { return &server.App{}, nil })
		require.ErrorContains(t, err, "opening port "+l.Addr().String())
	}
	err = server.Run(t.Context(), server.Config{Service: "s", Admin: "127.0.0.1:0", Log: quiet()},
		func(context.Context, prometheus.Registerer) (*server.App, error) { return nil, errors.New("no") })
	require.EqualError(t, err, "starting s: no")
}

func dialer(behind *running, retries int) peer.Dialer {
	return peer.Dialer{Retries: retries, Targets: map[string]string{"inventory-management": behind.port("grpc")}}
}

// front is a service that asks the one behind it.
func front(t *testing.T, failFast bool, behind string) *running {
	t.Helper()
	d := peer.Dialer{FailFast: failFast, Targets: map[string]string{"inventory-management": behind}}
	conn, err := d.Dial("inventory-management")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	c := shopapi.NewInventoryManagementClient(conn)
	return run(t, "order-processing", nil, func(ctx context.Context, id string) (int64, error) {
		out, err := c.GetStock(ctx, &shopapi.GetStockRequest{ProductId: id})
		return out.GetStock(), err
	})
}

func TestAFailureNamesItsHopAndPod(t *testing.T) {
	inner := run(t, "inventory-management", nil, func(_ context.Context, id string) (int64, error) {
		switch id {
		case "down":
			return 0, fail.At("postgres", "reading stock", fail.New(codes.Unavailable, "", "gone"))
		case "none":
			return 0, fail.New(codes.NotFound, "product_not_found", "there is none")
		}
		return 7, nil
	})
	outer := front(t, false, inner.port("grpc"))
	cases := []struct {
		name, id string
		status   int
		body     string
	}{
		{"no failure", "p-1", 200, `{"stock":7}`},
		{"a business answer has no hop", "none", 404, `{"error":"there is none","code":"product_not_found","pod":"order-processing-0"}`},
		{"a database two services away", "down", 503, `{"error":"calling inventory-management: reading stock: gone","code":"unavailable","hop":"order-processing>inventory-management>postgres","pod":"inventory-management-0"}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, body, header, err := get(t, client(t), "http://"+outer.port("http")+"/stock/"+c.id)
			require.NoError(t, err)
			require.Equal(t, c.status, status)
			require.Equal(t, c.body, body)
			require.Equal(t, "order-processing-0", header.Get("x-shop-pod"))
		})
	}
	var trailer metadata.MD
	_, err := shopapi.NewInventoryManagementClient(dial(t, outer.port("grpc"))).
		GetStock(t.Context(), &shopapi.GetStockRequest{ProductId: "down"}, grpc.Trailer(&trailer))
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, []string{"order-processing>inventory-management>postgres"}, trailer.Get(shopapi.HopHeader))
	require.Equal(t, []string{"order-processing-0"}, trailer.Get(shopapi.PodHeader))
	require.Equal(t, []string{"inventory-management-0"}, trailer.Get(shopapi.FailedPodHeader))
	require.Equal(t, []string{"unavailable"}, trailer.Get(shopapi.ReasonHeader))
}

func TestAServiceThatIsAwayIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := l.Addr().String()
	require.NoError(t, l.Close())
	t.Run("at once when calls fail fast", func(t *testing.T) {
		began := time.Now()
		code, body, _, err := get(t, client(t), "http://"+front(t, true, nobody).ports["http"]+"/stock/p")
		require.NoError(t, err)
		require.Equal(t, 503, code)
		require.Contains(t, body, `"code":"unavailable","hop":"order-processing>inventory-management","pod":"order-processing-0"`)
		require.Less(t, time.Since(began), peer.CallTimeout)
	})
	t.Run("after the hop's deadline otherwise", func(t *testing.T) {
		began := time.Now()
		code, body, _, err := get(t, client(t), "http://"+front(t, false, nobody).ports["http"]+"/stock/p")
		require.NoError(t, err)
		require.Equal(t, 504, code)
		require.Contains(t, body, `"code":"deadline_exceeded","hop":"order-processing>inventory-management"`)
		require.GreaterOrEqual(t, time.Since(began), peer.CallTimeout-100*time.Millisecond)
	})
}

func TestACallWaitsForAServiceThatComesBack(t *testing.T) {
	first := run(t, "inventory-management", nil, seven)
	addr := first.port("grpc")
	outer := front(t, false, addr)
	ask := func() int {
		code, _, _, err := get(t, client(t), "http://"+outer.port("http")+"/stock/p")
		require.NoError(t, err)
		return code
	}
	require.Equal(t, 200, ask())
	first.stop()
	require.NoError(t, first.ended(t))
	answer := make(chan int, 1)
	go func() { answer <- ask() }()
	time.Sleep(200 * time.Millisecond)
	again := &running{ports: map[string]string{"grpc": addr}, done: make(chan error, 1)}
	again.start(t, "inventory-management", nil, func(context.Context, prometheus.Registerer) (*server.App, error) {
		return &server.App{Register: func(s grpc.ServiceRegistrar) { shopapi.RegisterInventoryManagementServer(s, stock{get: seven}) }}, nil
	})
	require.Equal(t, 200, <-answer)
}
