package traffic

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// shop is a stand-in for the shop that answers by what it is asked, so that an
// answer tells whose it is.
type shop struct {
	shopapi.UnimplementedProductCatalogServer
	shopapi.UnimplementedInventoryManagementServer

	http, grpc string
	slow       atomic.Int64 // nanoseconds before each answer
	hang       atomic.Bool  // answer nothing
	cut        func()       // takes the shop away

	mu     sync.Mutex
	orders map[string]time.Time // when an order arrived
	calls  atomic.Int64
}

// fate decides an order's answer from its id.
func fate(orderID string) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, orderID)
	return []int{201, 200, 409, 402, 503}[h.Sum32()%5]
}

// known decides which products there are.
func known(id string) bool { return strings.HasSuffix(id, "1") || strings.HasSuffix(id, "2") }

func openShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{orders: map[string]time.Time{}}
	web := httptest.NewServer(s)
	s.http = strings.TrimPrefix(web.URL, "http://")
	door, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s.grpc = door.Addr().String()
	server := grpc.NewServer(grpc.UnaryInterceptor(s.intercept))
	shopapi.RegisterProductCatalogServer(server, s)
	shopapi.RegisterInventoryManagementServer(server, s)
	go func() { _ = server.Serve(door) }()
	s.cut = sync.OnceFunc(func() {
		web.CloseClientConnections()
		web.Close()
		server.Stop()
	})
	t.Cleanup(s.cut)
	return s
}

func (s *shop) wait(ctx context.Context) {
	if s.hang.Load() {
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond) // a gRPC server keeps the same deadline: not to answer at the last moment
		return
	}
	if d := time.Duration(s.slow.Load()); d > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	s.calls.Add(1)
	var body struct {
		OrderID string `json:"orderId"`
	}
	if data, err := io.ReadAll(r.Body); err == nil && len(data) > 0 {
		_ = json.Unmarshal(data, &body)
	}
	if body.OrderID != "" {
		s.mu.Lock()
		s.orders[body.OrderID] = arrived
		s.mu.Unlock()
	}
	if r.Header.Get(ticketHeader) != "" || r.Header.Get(vegetaSeq) != "" {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	s.wait(r.Context())
	w.Header().Set("x-shop-pod", "edge-1")
	if body.OrderID != "" {
		w.WriteHeader(fate(body.OrderID))
	}
	_, _ = io.WriteString(w, `{}`)
}

func (s *shop) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	s.calls.Add(1)
	s.wait(ctx)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-shop-pod", "edge-1"))
	return next(ctx, req)
}

func (s *shop) GetProduct(_ context.Context, r *shopapi.GetProductRequest) (*shopapi.GetProductResponse, error) {
	if !known(r.GetId()) {
		return nil, status.Error(codes.NotFound, r.GetId())
	}
	return &shopapi.GetProductResponse{Product: &shopapi.Product{Id: r.GetId()}}, nil
}

func (s *shop) GetStock(_ context.Context, r *shopapi.GetStockRequest) (*shopapi.GetStockResponse, error) {
	if !known(r.GetProductId()) {
		return nil, status.Error(codes.Internal, r.GetProductId())
	}
	return &shopapi.GetStockResponse{ProductId: r.GetProductId()}, nil
}
