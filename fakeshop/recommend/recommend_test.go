package recommend_test

import (
	"context"
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

type fakeAnalytics struct {
	shopapi.AnalyticsServiceClient
	asked atomic.Int32
	err   error
}

func (f *fakeAnalytics) BoughtTogether(_ context.Context, req *shopapi.BoughtTogetherRequest, _ ...grpc.CallOption) (*shopapi.BoughtTogetherResponse, error) {
	f.asked.Add(1)
	return &shopapi.BoughtTogetherResponse{Products: []*shopapi.Companions{
		{ProductId: "p-audio", With: []string{"p-2", "p-100"}}, {ProductId: "p-3", With: []string{"p-100", "p-101"}},
	}}, f.err
}

func newService(store fakeStore, analytics *fakeAnalytics) *recommend.Service {
	return recommend.New(store, recommend.Peers{Catalog: fakeCatalog{}, Customers: fakeCustomers{}, Analytics: analytics}, slog.New(slog.DiscardHandler))
}

func TestWhatACustomersSegmentLikesIsRecommended(t *testing.T) {
	s := newService(fakeStore{}, &fakeAnalytics{})
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
	broken := newService(fakeStore{err: fail.New(codes.Unavailable, "", "gone")}, &fakeAnalytics{})
	_, err = broken.GRPC().Recommend(t.Context(), &shopapi.RecommendRequest{CustomerId: "c-0001"})
	require.Equal(t, codes.Unavailable, fail.Code(err))
	_, err = s.GRPC().Related(t.Context(), &shopapi.RelatedRequest{})
	require.Equal(t, codes.InvalidArgument, fail.Code(err))
}

func TestWhatIsBoughtTogetherIsRecommended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		analytics := &fakeAnalytics{}
		s := newService(fakeStore{}, analytics)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go s.Refresh(ctx)
		related := func(id string) []string {
			out, err := s.GRPC().Related(ctx, &shopapi.RelatedRequest{ProductId: id})
			require.NoError(t, err)
			synctest.Wait()
			return out.GetProductIds()
		}
		require.Empty(t, related("p-audio"), "nobody waits for analytics")
		require.Equal(t, []string{"p-2", "p-100"}, related("p-audio"))
		require.Empty(t, related("p-9"))

		out, err := s.GRPC().Recommend(ctx, &shopapi.RecommendRequest{CustomerId: "c-0001"})
		require.NoError(t, err)
		var ids []string
		for _, p := range out.GetProducts() {
			ids = append(ids, p.GetId())
		}
		require.Equal(t, []string{"p-audio", "p-100", "p-2", "p-3", "p-101", "p-4"}, ids)

		require.Equal(t, int32(1), analytics.asked.Load())
		time.Sleep(time.Hour)
		require.Equal(t, int32(1), analytics.asked.Load(), "nobody asked")
		analytics.err = fail.New(codes.Unavailable, "", "gone")
		related("p-audio")
		require.Equal(t, []string{"p-2", "p-100"}, related("p-audio"), "what is known stays")
		require.Equal(t, int32(2), analytics.asked.Load())
	})
}
