package recommend_test

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/recommend"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

type fakeStore struct{ err error }

func (f fakeStore) Picks(_ context.Context, segment string, limit int) ([]string, error) {
	return []string{"p-" + segment, "p-2", "p-3", "p-4", "p-5", "p-6", "p-7"}[:limit], f.err
}

type fakeCustomers struct{}

func (fakeCustomers) GetCustomer(_ context.Context, req *shopapi.GetCustomerRequest, _ ...grpc.CallOption) (*shopapi.GetCustomerResponse, error) {
	if req.GetId() != "c-0001" {
		return nil, fail.New(codes.NotFound, "customer_not_found", "there is none")
	}
	return &shopapi.GetCustomerResponse{Customer: &shopapi.Customer{Id: "c-0001", Segment: "audio"}}, nil
}

type fakeCatalog struct {
	shopapi.ProductCatalogClient
}

func (fakeCatalog) GetProducts(_ context.Context, req *shopapi.GetProductsRequest, _ ...grpc.CallOption) (*shopapi.GetProductsResponse, error) {
	out := &shopapi.GetProductsResponse{}
	for _, id := range req.GetIds() {
		out.Products = append(out.Products, &shopapi.Product{Id: id})
	}
	return out, nil
}

func TestWhatACustomersSegmentLikesIsRecommended(t *testing.T) {
	s := recommend.New(fakeStore{}, fakeCatalog{}, fakeCustomers{})
	out, err := s.GRPC().Recommend(t.Context(), &shopapi.RecommendRequest{CustomerId: "c-0001"})
	require.NoError(t, err)
	require.Len(t, out.GetProducts(), 6)
	require.Equal(t, "p-audio", out.GetProducts()[0].GetId())

	for url, want := range map[string]struct {
		status int
		body   string
	}{
		"/?customer=c-0001": {200, `{"customerId":"c-0001","products":[{"id":"p-audio",`},
		"/?customer=c-9":    {404, `"code":"customer_not_found"`},
		"/":                 {400, `customer is missing`},
	} {
		w := httptest.NewRecorder()
		rest.Edge{}.Handle(s.REST()["GET /api/recommendations"]).ServeHTTP(w, httptest.NewRequest("GET", url, nil))
		require.Equal(t, want.status, w.Code, url)
		require.Contains(t, w.Body.String(), want.body)
	}
	broken := recommend.New(fakeStore{err: fail.New(codes.Unavailable, "", "gone")}, fakeCatalog{}, fakeCustomers{})
	_, err = broken.GRPC().Recommend(t.Context(), &shopapi.RecommendRequest{CustomerId: "c-0001"})
	require.Equal(t, codes.Unavailable, fail.From(err).Code)
}
