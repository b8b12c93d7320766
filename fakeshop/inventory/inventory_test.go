package inventory_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

func newService() *inventory.Service {
	return inventory.New(shoptest.NewInventory(map[string]int64{"p-0001": 1_000_000, "p-0040": 5}), nil, inventory.Options{}, slog.New(slog.DiscardHandler))
}

func TestStockByREST(t *testing.T) {
	cases := map[string]struct {
		status int
		body   string
	}{
		"p-0001": {200, `{"productId":"p-0001","stock":1000000,"unique":false}`},
		"p-0040": {200, `{"productId":"p-0040","stock":5,"unique":true}`},
		"p-9999": {404, `{"error":"there is no product \"p-9999\"","code":"product_not_found","pod":""}`},
	}
	h := rest.Edge{}.Handle(newService().REST()["GET /api/inventory/{id}"])
	for id, c := range cases {
		t.Run(id, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.SetPathValue("id", id)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, c.status, w.Code)
			require.Equal(t, c.body+"\n", w.Body.String())
		})
	}
}

func TestReservingByGRPC(t *testing.T) {
	g := newService().GRPC()
	reserve := func(order, product string, quantity int32) (*shopapi.ReserveResponse, error) {
		return g.Reserve(t.Context(), &shopapi.ReserveRequest{OrderId: order, Items: []*shopapi.Item{{ProductId: product, Quantity: quantity}}})
	}
	out, err := reserve("a", "p-0040", 4)
	require.NoError(t, err)
	require.Equal(t, shopapi.ReservationState_RESERVATION_STATE_RESERVED, out.GetState())
	require.WithinDuration(t, time.Now().Add(15*time.Minute), time.UnixMicro(out.GetHeldUntilUnixUs()), time.Minute)
	out, err = reserve("b", "p-0040", 2)
	require.NoError(t, err)
	require.Equal(t, shopapi.ReservationState_RESERVATION_STATE_REFUSED, out.GetState())
	require.Equal(t, []string{"p-0040"}, out.GetShortOf())
	require.Zero(t, out.GetHeldUntilUnixUs())
	stock, err := g.GetStock(t.Context(), &shopapi.GetStockRequest{ProductId: "p-0040"})
	require.NoError(t, err)
	require.Equal(t, int64(1), stock.GetStock())
	require.True(t, stock.GetUnique())
	back, err := g.Release(t.Context(), &shopapi.ReleaseRequest{OrderId: "a"})
	require.NoError(t, err)
	require.Equal(t, shopapi.ReservationState_RESERVATION_STATE_RELEASED, back.GetState())
	back, err = g.Release(t.Context(), &shopapi.ReleaseRequest{OrderId: "never"})
	require.NoError(t, err)
	require.Equal(t, shopapi.ReservationState_RESERVATION_STATE_UNSPECIFIED, back.GetState())

	_, err = reserve("c", "p-0040", 2)
	require.NoError(t, err)
	for range 2 {
		sold, err := g.Commit(t.Context(), &shopapi.CommitRequest{OrderIds: []string{"c", "a", "b"}})
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, sold.GetNotHeld())
	}
	out, err = reserve("c", "p-0040", 2)
	require.NoError(t, err)
	require.Equal(t, shopapi.ReservationState_RESERVATION_STATE_COMMITTED, out.GetState())

	_, err = g.GetStock(t.Context(), &shopapi.GetStockRequest{ProductId: "p-9999"})
	require.Equal(t, codes.NotFound, fail.From(err).Code)
}

func TestStrangeReservationsAreRefused(t *testing.T) {
	item := func(id string, n int32) *shopapi.Item { return &shopapi.Item{ProductId: id, Quantity: n} }
	cases := map[string]*shopapi.ReserveRequest{
		"no order":      {Items: []*shopapi.Item{item("p-0001", 1)}},
		"no items":      {OrderId: "o"},
		"no product":    {OrderId: "o", Items: []*shopapi.Item{item("", 1)}},
		"nothing of it": {OrderId: "o", Items: []*shopapi.Item{item("p-0001", 0)}},
		"taking back":   {OrderId: "o", Items: []*shopapi.Item{item("p-0001", -1)}},
		"twice":         {OrderId: "o", Items: []*shopapi.Item{item("p-0001", 1), item("p-0001", 1)}},
	}
	g := newService().GRPC()
	for name, req := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := g.Reserve(t.Context(), req)
			require.Equal(t, codes.InvalidArgument, fail.From(err).Code)
		})
	}
	_, err := g.Release(t.Context(), &shopapi.ReleaseRequest{})
	require.Equal(t, codes.InvalidArgument, fail.From(err).Code)
	_, err = g.Commit(t.Context(), &shopapi.CommitRequest{OrderIds: make([]string, 501)})
	require.Equal(t, codes.InvalidArgument, fail.Code(err))
}

// fakeOrders is order-processing that knows where orders stand, or is away.
type fakeOrders struct {
	shopapi.OrderProcessingClient
	statuses map[string]string
	away     atomic.Bool
	asked    atomic.Int64
}

func (f *fakeOrders) GetStatuses(context.Context, *shopapi.GetStatusesRequest, ...grpc.CallOption) (*shopapi.GetStatusesResponse, error) {
	f.asked.Add(1)
	if f.away.Load() {
		return nil, errors.New("away")
	}
	return &shopapi.GetStatusesResponse{Statuses: f.statuses}, nil
}

func TestReservationsEndWhenTheirTimeIsOverUnlessTheirOrderIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		orders := &fakeOrders{statuses: map[string]string{"sold": "confirmed", "cancelled": "cancelled", "stuck": "reserved"}}
		orders.away.Store(true)
		store := shoptest.NewInventory(map[string]int64{"p-0001": 100})
		s := inventory.New(store, orders, inventory.Options{Keep: 10 * time.Minute}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go s.Sweep(ctx)
		state := func(order string) inventory.State {
			r, err := store.Release(t.Context(), order) // which tells, of what is not reserved
			require.NoError(t, err)
			return r
		}
		for _, order := range []string{"sold", "cancelled", "stuck", "unknown"} {
			_, err := s.GRPC().Reserve(ctx, &shopapi.ReserveRequest{OrderId: order, Items: []*shopapi.Item{{ProductId: "p-0001", Quantity: 10}}})
			require.NoError(t, err)
		}
		time.Sleep(10 * time.Minute)
		require.Zero(t, orders.asked.Load(), "while nothing is overdue nobody is asked")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Positive(t, orders.asked.Load())
		stock, err := s.Stock(ctx, "p-0001")
		require.NoError(t, err)
		require.Equal(t, int64(60), stock.Stock, "what cannot be asked for stays")
		orders.away.Store(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		stock, err = s.Stock(ctx, "p-0001")
		require.NoError(t, err)
		require.Equal(t, int64(90), stock.Stock)
		require.Equal(t, inventory.Committed, state("sold"))
		for _, order := range []string{"cancelled", "stuck", "unknown"} {
			require.Equal(t, inventory.Expired, state(order))
		}
	})
}
