// Package inventory is the service inventory-management: how many pieces there
// are of each product, and for which orders they are kept.
package inventory

import (
	"context"
	"net/http"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "inventory-management"

// uniqueUpTo is the number of pieces ever made up to which a product is unique.
const uniqueUpTo = 5

// Stock is what there is of a product.
type Stock struct {
	ProductID string `json:"productId"`
	Stock     int64  `json:"stock"`
	Initial   int64  `json:"-"`
	Unique    bool   `json:"unique"` // few of it were ever made
}

// Item is some pieces of a product.
type Item struct {
	ProductID string
	Quantity  int
}

// State is what became of an order's reservation.
type State string

// The states; None says that nothing was ever reserved.
const (
	None     State = ""
	Reserved State = "reserved"
	Refused  State = "refused"
	Released State = "released"
)

// Store keeps stock and reservations.
type Store interface {
	// Stock answers false for an unknown product.
	Stock(ctx context.Context, productID string) (Stock, bool, error)
	// Reserve takes all items or none, once for an order id: a later call
	// returns the state that is kept. Short are the products without enough
	// stock (or unknown) when refused.
	Reserve(ctx context.Context, orderID string, items []Item) (state State, short []string, err error)
	// Release gives back what is reserved for the order, once.
	Release(ctx context.Context, orderID string) (State, error)
}

// Service counts and reserves.
type Service struct{ store Store }

// New makes the service.
func New(store Store) *Service { return &Service{store: store} }

// Stock returns what there is of a product.
func (s *Service) Stock(ctx context.Context, productID string) (Stock, error) {
	stock, known, err := s.store.Stock(ctx, productID)
	if err != nil {
		return Stock{}, err
	}
	if !known {
		return Stock{}, fail.New(codes.NotFound, "product_not_found", "there is no product %q", productID)
	}
	stock.Unique = stock.Initial <= uniqueUpTo
	return stock, nil
}

// EdgeMethods are the gRPC methods open to outside clients.
var EdgeMethods = []string{shopapi.InventoryManagement_GetStock_FullMethodName}

// REST returns the service's routes.
func (s *Service) REST() map[string]rest.Handler {
	return map[string]rest.Handler{
		"GET /api/inventory/{id}": func(r *http.Request) (int, any, error) {
			stock, err := s.Stock(r.Context(), r.PathValue("id"))
			return http.StatusOK, stock, err
		},
	}
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.InventoryManagementServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedInventoryManagementServer
	s *Service
}

func (a api) GetStock(ctx context.Context, req *shopapi.GetStockRequest) (*shopapi.GetStockResponse, error) {
	stock, err := a.s.Stock(ctx, req.GetProductId())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetStockResponse{ProductId: stock.ProductID, Stock: stock.Stock, Unique: stock.Unique}, nil
}

func (a api) Reserve(ctx context.Context, req *shopapi.ReserveRequest) (*shopapi.ReserveResponse, error) {
	if req.GetOrderId() == "" || len(req.GetItems()) == 0 {
		return nil, fail.New(codes.InvalidArgument, "", "a reservation needs an order id and items")
	}
	seen := map[string]bool{}
	items := make([]Item, 0, len(req.GetItems()))
	for _, i := range req.GetItems() {
		if i.GetQuantity() < 1 || i.GetProductId() == "" || seen[i.GetProductId()] {
			return nil, fail.New(codes.InvalidArgument, "", "item %q: wants a product named once and a quantity from 1 on", i.GetProductId())
		}
		seen[i.GetProductId()] = true
		items = append(items, Item{ProductID: i.GetProductId(), Quantity: int(i.GetQuantity())})
	}
	state, short, err := a.s.store.Reserve(ctx, req.GetOrderId(), items)
	if err != nil {
		return nil, err
	}
	return &shopapi.ReserveResponse{State: states[state], ShortOf: short}, nil
}

func (a api) Release(ctx context.Context, req *shopapi.ReleaseRequest) (*shopapi.ReleaseResponse, error) {
	if req.GetOrderId() == "" {
		return nil, fail.New(codes.InvalidArgument, "", "a release needs an order id")
	}
	state, err := a.s.store.Release(ctx, req.GetOrderId())
	if err != nil {
		return nil, err
	}
	return &shopapi.ReleaseResponse{State: states[state]}, nil
}

var states = map[State]shopapi.ReservationState{
	None:     shopapi.ReservationState_RESERVATION_STATE_UNSPECIFIED,
	Reserved: shopapi.ReservationState_RESERVATION_STATE_RESERVED,
	Refused:  shopapi.ReservationState_RESERVATION_STATE_REFUSED,
	Released: shopapi.ReservationState_RESERVATION_STATE_RELEASED,
}
