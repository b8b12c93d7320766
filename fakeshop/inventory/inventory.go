// Package inventory is the service inventory-management: how many pieces there
// are of each product, and for which orders they are kept.
package inventory

import (
	"context"
	"log/slog"
	"net/http"
	"time"

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
	None      State = ""
	Reserved  State = "reserved"
	Refused   State = "refused"
	Released  State = "released"
	Committed State = "committed" // sold
	Expired   State = "expired"
)

// Reservation is what is kept for an order.
type Reservation struct {
	State     State
	ShortOf   []string  // products without enough stock (or unknown), when refused
	HeldUntil time.Time // by the store's clock, when reserved
}

// Store keeps stock and reservations.
type Store interface {
	// Stock answers false for an unknown product.
	Stock(ctx context.Context, productID string) (Stock, bool, error)
	// Reserve takes all items or none for an order id and keeps them for so
	// long. A later call returns what became of it: what is held is held so
	// long again, and what has expired is taken again if all of it can be.
	Reserve(ctx context.Context, orderID string, items []Item, keep time.Duration) (Reservation, error)
	// Release gives back what is reserved for the order, once.
	Release(ctx context.Context, orderID string) (State, error)
	// Commit makes what is held of the orders final; notHeld are those of which
	// nothing is held or committed.
	Commit(ctx context.Context, orderIDs []string) (notHeld []string, err error)
	// Overdue names orders of which something is held that should have ended
	// so long ago, the oldest first.
	Overdue(ctx context.Context, overdue time.Duration, limit int) (orderIDs []string, err error)
	// Expire gives back what is held of the order, if it is still overdue.
	Expire(ctx context.Context, orderID string, overdue time.Duration) (State, error)
}

// Options are what may be set.
type Options struct {
	// Keep is how long a reservation is kept for an order that is not confirmed;
	// 0 is 15 min.
	Keep time.Duration
}

// Service counts and reserves.
type Service struct {
	store  Store
	orders shopapi.OrderProcessingClient
	keep   time.Duration
	log    *slog.Logger
}

// New makes the service; orders tells what became of an order whose reservation
// is to end.
func New(store Store, orders shopapi.OrderProcessingClient, o Options, log *slog.Logger) *Service {
	if o.Keep <= 0 {
		o.Keep = 15 * time.Minute
	}
	return &Service{store: store, orders: orders, keep: o.Keep, log: log}
}

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
	r, err := a.s.store.Reserve(ctx, req.GetOrderId(), items, a.s.keep)
	if err != nil {
		return nil, err
	}
	out := &shopapi.ReserveResponse{State: states[r.State], ShortOf: r.ShortOf}
	if r.State == Reserved {
		out.HeldUntilUnixUs = r.HeldUntil.UnixMicro()
	}
	return out, nil
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

func (a api) Commit(ctx context.Context, req *shopapi.CommitRequest) (*shopapi.CommitResponse, error) {
	if len(req.GetOrderIds()) > commitLimit {
		return nil, fail.New(codes.InvalidArgument, "", "%d orders at once, at most %d are committed", len(req.GetOrderIds()), commitLimit)
	}
	notHeld, err := a.s.store.Commit(ctx, req.GetOrderIds())
	if err != nil {
		return nil, err
	}
	return &shopapi.CommitResponse{NotHeld: notHeld}, nil
}

// commitLimit is how many orders are committed at once.
const commitLimit = 500

var states = map[State]shopapi.ReservationState{
	None:      shopapi.ReservationState_RESERVATION_STATE_UNSPECIFIED,
	Reserved:  shopapi.ReservationState_RESERVATION_STATE_RESERVED,
	Refused:   shopapi.ReservationState_RESERVATION_STATE_REFUSED,
	Released:  shopapi.ReservationState_RESERVATION_STATE_RELEASED,
	Committed: shopapi.ReservationState_RESERVATION_STATE_COMMITTED,
	Expired:   shopapi.ReservationState_RESERVATION_STATE_EXPIRED,
}
