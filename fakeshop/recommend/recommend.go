// Package recommend is the service recommendation-service: what a customer may
// like.
package recommend

import (
	"context"
	"net/http"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/catalog"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "recommendation-service"

// most is how many products are recommended at once.
const most = 6

// Store knows what goes with what.
type Store interface {
	// Picks are the ids of products for customers of a segment, best first, at
	// most limit.
	Picks(ctx context.Context, segment string, limit int) ([]string, error)
}

// Service recommends.
type Service struct {
	store     Store
	catalog   shopapi.ProductCatalogClient
	customers shopapi.CustomerProfileClient
}

// New makes the service.
func New(store Store, catalog shopapi.ProductCatalogClient, customers shopapi.CustomerProfileClient) *Service {
	return &Service{store: store, catalog: catalog, customers: customers}
}

// For returns what to recommend to a customer, best first.
func (s *Service) For(ctx context.Context, customerID string) ([]*shopapi.Product, error) {
	if customerID == "" {
		return nil, fail.New(codes.InvalidArgument, "", "customer is missing")
	}
	c, err := s.customers.GetCustomer(ctx, &shopapi.GetCustomerRequest{Id: customerID})
	if err != nil {
		return nil, err
	}
	ids, err := s.store.Picks(ctx, c.GetCustomer().GetSegment(), most)
	if err != nil {
		return nil, err
	}
	products, err := s.catalog.GetProducts(ctx, &shopapi.GetProductsRequest{Ids: ids})
	return products.GetProducts(), err
}

// EdgeMethods are the gRPC methods open to outside clients.
var EdgeMethods = []string{shopapi.RecommendationService_Recommend_FullMethodName}

// REST returns the service's routes.
func (s *Service) REST() map[string]rest.Handler {
	return map[string]rest.Handler{
		"GET /api/recommendations": func(r *http.Request) (int, any, error) {
			customer := r.URL.Query().Get("customer")
			found, err := s.For(r.Context(), customer)
			if err != nil {
				return 0, nil, err
			}
			products := make([]catalog.Product, len(found))
			for i, p := range found {
				products[i] = catalog.FromAPI(p)
			}
			return http.StatusOK, map[string]any{"customerId": customer, "products": products}, nil
		},
	}
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.RecommendationServiceServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedRecommendationServiceServer
	s *Service
}

func (a api) Recommend(ctx context.Context, req *shopapi.RecommendRequest) (*shopapi.RecommendResponse, error) {
	products, err := a.s.For(ctx, req.GetCustomerId())
	if err != nil {
		return nil, err
	}
	return &shopapi.RecommendResponse{CustomerId: req.GetCustomerId(), Products: products}, nil
}
