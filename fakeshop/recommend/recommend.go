// Package recommend is the service recommendation-service: what a customer may
// like, from what the customer's segment likes and what is bought together.
package recommend

import (
	"context"
	"log/slog"
	"net/http"
	"slices"

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

// Store knows what segments like.
type Store interface {
	// Picks are the ids of products for customers of a segment, best first, at
	// most limit.
	Picks(ctx context.Context, segment string, limit int) ([]string, error)
}

// Peers are the services that recommending needs.
type Peers struct {
	Catalog   shopapi.ProductCatalogClient
	Customers shopapi.CustomerProfileClient
	Analytics shopapi.AnalyticsServiceClient
}

// Service recommends.
type Service struct {
	store      Store
	peers      Peers
	companions *companions
}

// New makes the service. Its Refresh must run beside it.
func New(store Store, peers Peers, log *slog.Logger) *Service {
	return &Service{store: store, peers: peers, companions: newCompanions(peers.Analytics, log)}
}

// For returns what to recommend to a customer, best first: what the segment
// likes, each followed by what is most often bought with it.
func (s *Service) For(ctx context.Context, customerID string) ([]*shopapi.Product, error) {
	if customerID == "" {
		return nil, fail.New(codes.InvalidArgument, "", "customer is missing")
	}
	c, err := s.peers.Customers.GetCustomer(ctx, &shopapi.GetCustomerRequest{Id: customerID})
	if err != nil {
		return nil, err
	}
	picks, err := s.store.Picks(ctx, c.GetCustomer().GetSegment(), most)
	if err != nil {
		return nil, err
	}
	products, err := s.peers.Catalog.GetProducts(ctx, &shopapi.GetProductsRequest{Ids: s.mix(picks)})
	return products.GetProducts(), err
}

// mix puts behind each pick the best companion that is not there yet.
func (s *Service) mix(picks []string) []string {
	var mixed []string
	for _, pick := range picks {
		if !slices.Contains(mixed, pick) {
			mixed = append(mixed, pick)
		}
		for _, other := range s.companions.of(pick) {
			if !slices.Contains(mixed, other) && !slices.Contains(picks, other) {
				mixed = append(mixed, other)
				break
			}
		}
	}
	return mixed[:min(len(mixed), most)]
}

// Refresh keeps what is bought together up to date until ctx ends.
func (s *Service) Refresh(ctx context.Context) { s.companions.refresh(ctx) }

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

func (a api) Related(_ context.Context, req *shopapi.RelatedRequest) (*shopapi.RelatedResponse, error) {
	if req.GetProductId() == "" {
		return nil, fail.New(codes.InvalidArgument, "", "product_id is missing")
	}
	return &shopapi.RelatedResponse{ProductIds: a.s.companions.of(req.GetProductId())}, nil
}
