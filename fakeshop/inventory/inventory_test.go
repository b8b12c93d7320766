package inventory_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

func newService() *inventory.Service {
	return inventory.New(shoptest.NewInventory(map[string]int64{"p-0001": 1_000_000, "p-0040": 5}))
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
	out, err = reserve("b", "p-0040", 2)
	require.NoError(t, err)
	require.Equal(t, shopapi.ReservationState_RESERVATION_STATE_REFUSED, out.GetState())
	require.Equal(t, []string{"p-0040"}, out.GetShortOf())
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
}
