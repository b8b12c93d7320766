package server_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakeshop/server"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// slow answers "slow" only when it is let go, or when its time is over.
type slow struct {
	entered chan struct{}
	letGo   chan struct{}
	ended   atomic.Int32
}

func newSlow() *slow { return &slow{entered: make(chan struct{}, 10), letGo: make(chan struct{})} }

func (s *slow) get(ctx context.Context, id string) (int64, error) {
	if id != "slow" {
		return 7, nil
	}
	s.entered <- struct{}{}
	defer s.ended.Add(1)
	select {
	case <-s.letGo:
		return 1, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// answers of the two kinds of clients.
type answer struct {
	code int // HTTP status, or gRPC code
	err  error
}

// startSlow begins a REST and a gRPC request and waits until both are running.
func startSlow(t *testing.T, r *running, s *slow) (http_, grpc_ chan answer) {
	t.Helper()
	http_, grpc_ = make(chan answer, 1), make(chan answer, 1)
	c := client(t)
	conn := dial(t, r.port("grpc"))
	go func() {
		code, _, _, err := get(t, c, "http://"+r.port("http")+"/stock/slow")
		http_ <- answer{code, err}
	}()
	go func() {
		_, err := shopapi.NewInventoryManagementClient(conn).GetStock(context.Background(), &shopapi.GetStockRequest{ProductId: "slow"})
		grpc_ <- answer{int(status.Code(err)), err}
	}()
	<-s.entered
	<-s.entered
	return http_, grpc_
}

func TestDrainingServesOnAndLetsRunningRequestsEnd(t *testing.T) {
	s := newSlow()
	r := run(t, "inventory-management", func(c *server.Config) { c.Drain, c.HardStop = 2*time.Second, time.Minute }, s.get)
	c := client(t)
	conn := dial(t, r.port("grpc"))
	code, _, _, err := get(t, c, "http://"+r.port("http")+"/stock/p") // a connection that idles
	require.NoError(t, err)
	require.Equal(t, 200, code)
	h, g := startSlow(t, r, s)

	r.stop()
	require.Eventually(t, func() bool { return r.ready() == 503 }, time.Second, time.Millisecond)
	code, body, header, err := get(t, c, "http://"+r.port("http")+"/stock/p")
	require.NoError(t, err, "on the idle connection")
	require.Equal(t, 200, code)
	require.Equal(t, `{"stock":7}`, body)
	require.Equal(t, "close", header.Get("Connection"))
	code, _, _, err = get(t, client(t), "http://"+r.port("http")+"/stock/p")
	require.NoError(t, err, "on a new connection")
	require.Equal(t, 200, code)
	_, err = shopapi.NewInventoryManagementClient(conn).GetStock(t.Context(), &shopapi.GetStockRequest{ProductId: "p"})
	require.NoError(t, err)

	require.Eventually(t, func() bool { // the drain is over, the ports are closed
		_, _, _, err := get(t, client(t), "http://"+r.port("http")+"/stock/p")
		return err != nil && strings.Contains(err.Error(), "connection refused")
	}, 10*time.Second, 20*time.Millisecond)
	r.mu.Lock()
	require.False(t, r.closed, "a request still runs")
	r.mu.Unlock()
	close(s.letGo)
	require.Equal(t, answer{code: http.StatusOK}, <-h)
	require.Equal(t, answer{code: int(codes.OK)}, <-g)
	require.NoError(t, r.ended(t))
	require.True(t, r.closed)
}

func TestRequestsThatDoNotEndAreCutAtTheHardStop(t *testing.T) {
	s := newSlow()
	r := run(t, "inventory-management", func(c *server.Config) {
		c.Drain, c.HardStop, c.RequestTimeout = 50*time.Millisecond, 300*time.Millisecond, time.Minute
	}, s.get)
	h, g := startSlow(t, r, s)
	began := time.Now()
	r.stop()
	require.NoError(t, r.ended(t))
	require.GreaterOrEqual(t, time.Since(began), 300*time.Millisecond)
	require.Less(t, time.Since(began), 5*time.Second, "not after the requests' own minute")
	require.ErrorContains(t, (<-h).err, "EOF")
	require.Equal(t, int(codes.Unavailable), (<-g).code)
	require.True(t, r.closed)
}

func TestWithoutDrainEverythingIsCutAtOnce(t *testing.T) {
	s := newSlow()
	r := run(t, "inventory-management", func(c *server.Config) { c.Drain = 0 }, s.get)
	h, g := startSlow(t, r, s)
	began := time.Now()
	r.stop()
	require.NoError(t, r.ended(t))
	require.Less(t, time.Since(began), 2*time.Second, "not after the requests' own time")
	require.Error(t, (<-h).err)
	require.Equal(t, int(codes.Unavailable), (<-g).code)
	require.Eventually(t, func() bool { return s.ended.Load() == 2 }, 5*time.Second, time.Millisecond, "handlers see their end")
}

func TestARequestFromOutsideHasADeadline(t *testing.T) {
	s := newSlow()
	r := run(t, "inventory-management", func(c *server.Config) { c.RequestTimeout = 100 * time.Millisecond }, s.get)
	h, g := startSlow(t, r, s)
	require.Equal(t, answer{code: http.StatusGatewayTimeout}, <-h)
	require.Equal(t, int(codes.DeadlineExceeded), (<-g).code)
}
