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

func (f *fakeStore) Configuration(_ context.Context, id string) (configurator.Configuration, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, there := f.kept[id]
	return c, there, nil
}

type fakeCatalog struct {
	shopapi.ProductCatalogClient
}

func (fakeCatalog) GetProduct(_ context.Context, req *shopapi.GetProductRequest, _ ...grpc.CallOption) (*shopapi.GetProductResponse, error) {
	p := &shopapi.Product{Id: req.GetId(), PriceCents: 1000}
	switch req.GetId() {
	case "p-0001":
		p.Model = "handheld"
		p.Options = []*shopapi.ProductOption{
			{Name: "screen", Required: true, Values: []*shopapi.OptionValue{{Name: "original"}, {Name: "ips", ExtraCents: 50}}},
			{Name: "battery", Required: true, Values: []*shopapi.OptionValue{{Name: "cells"}, {Name: "rechargeable", ExtraCents: 7}}},
			{Name: "shell", Values: []*shopapi.OptionValue{{Name: "standard"}, {Name: "metal", ExtraCents: 400}}},
			{Name: "board", Values: []*shopapi.OptionValue{{Name: "32-pin"}, {Name: "40-pin", ExtraCents: 60}}},
			{Name: "charger", Values: []*shopapi.OptionValue{{Name: "none"}, {Name: "usb-c", ExtraCents: 5000}}},
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
		{"the first time it is created", `{"productId":"p-0001","options":{"screen":"ips","battery":"cells"}}`, 201, `{"id":"cfg-`},
		{"the second time it is the same, completed and priced", `{"productId":"p-0001","options":{"battery":"cells","screen":"ips"}}`, 200,
			`"productId":"p-0001","options":{"battery":"cells","board":"40-pin","charger":"none","screen":"ips","shell":"metal"},"priceCents":1510,"available":true}`},
		{"what would be chosen anyway is the same when it is chosen", `{"productId":"p-0001","options":{"battery":"cells","screen":"ips","board":"40-pin"}}`, 200, `"priceCents":1510`},
		{"everything wrong is told at once", `{"productId":"p-0001","options":{"screen":"soft","colour":"red"}}`, 422,
			`{"error":"p-0001: screen has no \"soft\", battery is not chosen, there is no option \"colour\"","code":"invalid_configuration","pod":"pod"}`},
		{"parts that do not go together", `{"productId":"p-0001","options":{"screen":"ips","battery":"cells","board":"32-pin","charger":"usb-c"}}`, 422,
			`{"error":"p-0001: ips and oled screens are driven by 40-pin boards, cells must not be charged","code":"invalid_configuration","pod":"pod"}`},
		{"a part that this product does not offer", `{"productId":"p-0001","options":{"screen":"oled","battery":"cells"}}`, 422, `screen has no \"oled\"`},
		{"no choices", `{"productId":"p-0001"}`, 422, `screen is not chosen, battery is not chosen`},
		{"a product without options", `{"productId":"p-0004","options":{}}`, 422, `p-0004 cannot be configured`},
		{"an unknown product", `{"productId":"p-0099"}`, 404, `"code":"product_not_found"`},
		{"no product", `{}`, 400, `productId is missing`},
		{"options of a wrong type", `{"productId":"p-0001","options":{"screen":1}}`, 400, `options: wants a string`},
		{"no JSON", `x`, 400, `is not JSON`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := post(s, c.body)
			require.Equal(t, c.status, w.Code, w.Body)
			require.Contains(t, w.Body.String(), c.answer)
		})
	}
	out, err := s.GRPC().Configure(t.Context(), &shopapi.ConfigureRequest{ProductId: "p-0001", Options: map[string]string{"screen": "original", "battery": "cells"}})
	require.NoError(t, err)
	require.True(t, out.GetCreated())
	require.Equal(t, int64(1000), out.GetConfiguration().GetPriceCents())
	read, err := s.GRPC().GetConfiguration(t.Context(), &shopapi.GetConfigurationRequest{Id: out.GetConfiguration().GetId()})
	require.NoError(t, err)
	require.Equal(t, out.GetConfiguration().GetOptions(), read.GetConfiguration().GetOptions())
	_, err = s.GRPC().GetConfiguration(t.Context(), &shopapi.GetConfigurationRequest{Id: "cfg-none"})
	require.Equal(t, "configuration_not_found", fail.From(err).Word())
	_, err = s.GRPC().Configure(t.Context(), &shopapi.ConfigureRequest{ProductId: "p-0001"})
	require.Equal(t, codes.FailedPrecondition, fail.From(err).Code)
}

func TestAnUnreachableInventoryIsAFailure(t *testing.T) {
	gone := fail.At("inventory-management", "calling", fail.New(codes.Unavailable, "", "gone"))
	s := configurator.New(&fakeStore{kept: map[string]configurator.Configuration{}}, fakeCatalog{}, fakeInventory{err: gone})
	w := post(s, `{"productId":"p-0001","options":{"screen":"original","battery":"cells"}}`)
	require.Equal(t, 503, w.Code)
	require.Contains(t, w.Body.String(), `"hop":"configuration-engine>inventory-management"`)
}
