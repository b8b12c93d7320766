package orders_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

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
		{"a new order is created", "POST /api/orders", "", good, 201, `"status":"confirmed","totalCents":350,"items":[{"productId":"p-0001","quantity":2,"unitCents":175}],"configurationId":"cfg-1"`},
		{"the same again is found", "POST /api/orders", "", good, 200, `"status":"confirmed"`},
		{"and read", "GET /api/orders/{id}", "o-1", "", 200, `"orderId":"o-1","customerId":"c-0001"`},
		{"another under its id is a conflict", "POST /api/orders", "", strings.Replace(good, ":2", ":3", 1), 409, `"code":"order_conflict"`},
		{"more than there is", "POST /api/orders", "", `{"orderId":"o-2","customerId":"c-0001","items":[{"productId":"p-0040","quantity":6}]}`, 409, `"code":"out_of_stock"`},
		{"a card that is declined", "POST /api/orders", "", `{"orderId":"o-3","customerId":"c-0050","items":[{"productId":"p-0001","quantity":1}]}`, 402, `"code":"payment_declined"`},
		{"what was cancelled says why", "GET /api/orders/{id}", "o-3", "", 200, `"status":"cancelled","reason":"payment_declined"`},
		{"an unknown configuration", "POST /api/orders", "", `{"orderId":"o-7","customerId":"c-0001","configurationId":"cfg-9","items":[{"productId":"p-0001","quantity":1}]}`, 404, `"code":"configuration_not_found"`},
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
