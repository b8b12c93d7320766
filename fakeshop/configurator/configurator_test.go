package configurator_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/configurator"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

type fakeStore struct {
	mu   sync.Mutex
	kept map[string]configurator.Configuration
}

func (f *fakeStore) Save(_ context.Context, c configurator.Configuration) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there := f.kept[c.ID]
	f.kept[c.ID] = c
	return !there, nil
}

type fakeCatalog struct {
	shopapi.ProductCatalogClient
}

func (fakeCatalog) GetProduct(_ context.Context, req *shopapi.GetProductRequest, _ ...grpc.CallOption) (*shopapi.GetProductResponse, error) {
	p := &shopapi.Product{Id: req.GetId(), PriceCents: 1000}
	switch req.GetId() {
	case "p-0001":
		p.Options = []*shopapi.ProductOption{
			{Name: "switches", Values: []*shopapi.OptionValue{{Name: "linear"}, {Name: "tactile", ExtraCents: 50}}},
			{Name: "layout", Values: []*shopapi.OptionValue{{Name: "iso"}, {Name: "ortho", ExtraCents: 7}}},
		}
	case "p-0004":
	default:
		return nil, fail.New(codes.NotFound, "product_not_found", "there is none")
	}
	return &shopapi.GetProductResponse{Product: p}, nil
}

type fakeInventory struct {
	shopapi.InventoryManagementClient
	err error
}

func (f fakeInventory) GetStock(context.Context, *shopapi.GetStockRequest, ...grpc.CallOption) (*shopapi.GetStockResponse, error) {
	if f.err != nil {
		return nil, f.err
	}
	return &shopapi.GetStockResponse{Stock: 3}, nil
}

func post(s *configurator.Service, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	rest.Edge{Service: configurator.Name, Pod: "pod"}.Handle(s.REST()["POST /api/configurations"]).
		ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader(body)))
	return w
}

func TestChoicesAreCheckedAndPriced(t *testing.T) {
	s := configurator.New(&fakeStore{kept: map[string]configurator.Configuration{}}, fakeCatalog{}, fakeInventory{})
	cases := []struct {
		name, body string
		status     int
		answer     string
	}{
		{"the first time it is created", `{"productId":"p-0001","options":{"switches":"tactile","layout":"ortho"}}`, 201, `{"id":"cfg-`},
		{"the second time it is the same", `{"productId":"p-0001","options":{"layout":"ortho","switches":"tactile"}}`, 200, `"productId":"p-0001","options":{"layout":"ortho","switches":"tactile"},"priceCents":1057,"available":true}`},
		{"everything wrong is told at once", `{"productId":"p-0001","options":{"switches":"soft","colour":"red"}}`, 422,
			`{"error":"p-0001: switches has no \"soft\", layout is not chosen, there is no option \"colour\"","code":"invalid_configuration","pod":"pod"}`},
		{"no choices", `{"productId":"p-0001"}`, 422, `switches is not chosen, layout is not chosen`},
		{"a product without options", `{"productId":"p-0004","options":{}}`, 422, `p-0004 cannot be configured`},
		{"an unknown product", `{"productId":"p-0099"}`, 404, `"code":"product_not_found"`},
		{"no product", `{}`, 400, `productId is missing`},
		{"options of a wrong type", `{"productId":"p-0001","options":{"switches":1}}`, 400, `options: wants a string`},
		{"no JSON", `x`, 400, `is not JSON`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := post(s, c.body)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Contains(t, w.Body.String(), c.answer)
		})
	}
	out, err := s.GRPC().Configure(t.Context(), &shopapi.ConfigureRequest{ProductId: "p-0001", Options: map[string]string{"switches": "linear", "layout": "iso"}})
	require.NoError(t, err)
	require.True(t, out.GetCreated())
	require.Equal(t, int64(1000), out.GetConfiguration().GetPriceCents())
	_, err = s.GRPC().Configure(t.Context(), &shopapi.ConfigureRequest{ProductId: "p-0001"})
	require.Equal(t, codes.FailedPrecondition, fail.From(err).Code)
}

func TestAnUnreachableInventoryIsAFailure(t *testing.T) {
	gone := fail.At("inventory-management", "calling", fail.New(codes.Unavailable, "", "gone"))
	s := configurator.New(&fakeStore{kept: map[string]configurator.Configuration{}}, fakeCatalog{}, fakeInventory{err: gone})
	w := post(s, `{"productId":"p-0001","options":{"switches":"linear","layout":"iso"}}`)
	require.Equal(t, 503, w.Code)
	require.Contains(t, w.Body.String(), `"hop":"configuration-engine>inventory-management"`)
}
