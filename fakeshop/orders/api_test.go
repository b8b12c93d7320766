package orders_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

func ask(s *shop, route, id, body string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(route, " ")
	r := httptest.NewRequest(method, strings.ReplaceAll(path, "{id}", "x"), strings.NewReader(body))
	r.SetPathValue("id", id)
	w := httptest.NewRecorder()
	rest.Edge{Service: orders.Name, Pod: "pod"}.Handle(s.REST()[route]).ServeHTTP(w, r)
	return w
}

func TestOrdersByREST(t *testing.T) {
	s := newShop(t)
	good := `{"orderId":"o-1","customerId":"c-0001","items":[{"productId":"p-0001","quantity":2}],"configurationId":"cfg-1"}`
	cases := []struct {
		name, route, id, body string
		status                int
		answer                string
	}{
		{"a new order is created", "POST /api/orders", "", good, 201, `"status":"confirmed","totalCents":200,"items":[{"productId":"p-0001","quantity":2,"unitCents":100}],"configurationId":"cfg-1"`},
		{"the same again is found", "POST /api/orders", "", good, 200, `"status":"confirmed"`},
		{"and read", "GET /api/orders/{id}", "o-1", "", 200, `"orderId":"o-1","customerId":"c-0001"`},
		{"another under its id is a conflict", "POST /api/orders", "", strings.Replace(good, ":2", ":3", 1), 409, `"code":"order_conflict"`},
		{"more than there is", "POST /api/orders", "", `{"orderId":"o-2","customerId":"c-0001","items":[{"productId":"p-0040","quantity":6}]}`, 409, `"code":"out_of_stock"`},
		{"a card that is declined", "POST /api/orders", "", `{"orderId":"o-3","customerId":"c-0050","items":[{"productId":"p-0001","quantity":1}]}`, 402, `"code":"payment_declined"`},
		{"an unknown order", "GET /api/orders/{id}", "o-9", "", 404, `"code":"order_not_found"`},
		{"an unknown customer", "POST /api/orders", "", `{"orderId":"o-4","customerId":"c-9","items":[{"productId":"p-0001","quantity":1}]}`, 404, `"code":"customer_not_found"`},
		{"an empty cart", "POST /api/orders", "", `{"orderId":"o-5","customerId":"c-0001","items":[]}`, 400, `items: wants 1 to 20`},
		{"a price of one's own", "POST /api/orders", "", `{"orderId":"o-6","customerId":"c-0001","items":[{"productId":"p-0001","quantity":1,"unitCents":1}]}`, 400, `unknown field`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := ask(s, c.route, c.id, c.body)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Contains(t, w.Body.String(), c.answer)
		})
	}
}

func TestOrdersByGRPC(t *testing.T) {
	g := newShop(t).GRPC()
	req := &shopapi.CreateOrderRequest{OrderId: "o-1", CustomerId: "c-0001", Items: []*shopapi.Item{{ProductId: "p-0001", Quantity: 2}}}
	for _, created := range []bool{true, false} {
		out, err := g.CreateOrder(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, created, out.GetCreated())
		require.Equal(t, "confirmed", out.GetOrder().GetStatus())
		require.Equal(t, int64(200), out.GetOrder().GetTotalCents())
	}
	out, err := g.GetOrder(t.Context(), &shopapi.GetOrderRequest{Id: "o-1"})
	require.NoError(t, err)
	require.Equal(t, int32(2), out.GetOrder().GetItems()[0].GetQuantity())
	_, err = g.GetOrder(t.Context(), &shopapi.GetOrderRequest{Id: "o-9"})
	require.Equal(t, "order_not_found", reason(err))
	_, err = g.CreateOrder(t.Context(), &shopapi.CreateOrderRequest{})
	require.Equal(t, "invalid", reason(err))
}

func FuzzCreateByREST(f *testing.F) {
	for _, seed := range []string{
		`{"orderId":"o-1","customerId":"c-0001","items":[{"productId":"p-0001","quantity":2}]}`,
		`{"orderId":"o-1","customerId":"c-0001","items":[{"productId":"p-0040","quantity":100},{"productId":"p-0001","quantity":1}]}`,
		`{"orderId":"\u0000","customerId":"c-0050","items":[null]}`, `{"items":[{}]}`, `[]`, `{"orderId":1e9}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		w := ask(newShop(t), "POST /api/orders", "", body)
		switch w.Code {
		case 201, 400, 402, 404, 409, 413:
		default:
			t.Fatalf("status %d for %q: %s", w.Code, body, w.Body)
		}
	})
}

// sink is an analytics that keeps what it gets, or fails.
type sink struct {
	mu   sync.Mutex
	got  []string
	fail bool
	hold chan struct{}
}

func (s *sink) Record(_ context.Context, req *shopapi.RecordRequest, _ ...grpc.CallOption) (*shopapi.RecordResponse, error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return nil, fail.At("analytics-service", "calling", errLost)
	}
	s.got = append(s.got, req.GetEventId())
	return &shopapi.RecordResponse{}, nil
}

func TestNotesAreSentBeforeTheEnd(t *testing.T) {
	s := &sink{}
	n := orders.NewNotes(s, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	n.Note("order.confirmed", "o-1")
	n.Note("order.confirmed", "o-2")
	n.Close(t.Context())
	require.Equal(t, []string{"order.confirmed:o-1", "order.confirmed:o-2"}, s.got)
}

func TestLostNotesAreCountedAndHoldNobodyUp(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := &sink{fail: true, hold: make(chan struct{})}
	n := orders.NewNotes(s, registry, slog.New(slog.DiscardHandler))
	for range 300 { // more than the queue holds
		n.Note("order.confirmed", "o")
	}
	close(s.hold)
	n.Close(t.Context())
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Equal(t, float64(300), families[0].GetMetric()[0].GetCounter().GetValue())
}

func TestClosingNotesEndsInTime(t *testing.T) {
	s := &sink{hold: make(chan struct{})}
	n := orders.NewNotes(s, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	n.Note("order.confirmed", "o")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	n.Close(ctx)
	close(s.hold)
}
