// Package orders is the service order-processing. An order goes through four
// steps: written as pending, stock reserved, payment taken, settled. Each step
// is kept under the order's id by the service that does it, and answers the
// same however often it is repeated; so any pod may take up an order wherever
// another left it, and two that do so at once come to the same end.
package orders

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "order-processing"

// Limits of an order.
const (
	maxItems    = 20
	maxQuantity = 100
	maxID       = 64 // bytes
)

// settleWithin bounds the steps after an order is written: they go on when the
// client has gone, but not for ever.
const settleWithin = 4 * time.Second

// Status is where an order stands.
type Status string

// The statuses; all but Pending are for good.
const (
	Pending         Status = "pending"
	Confirmed       Status = "confirmed"
	OutOfStock      Status = "out_of_stock"
	PaymentDeclined Status = "payment_declined"
)

// Order is what a customer bought, or tried to.
type Order struct {
	ID              string    `json:"orderId"`
	CustomerID      string    `json:"customerId"`
	Status          Status    `json:"status"`
	TotalCents      int64     `json:"totalCents"`
	Items           []Item    `json:"items"` // by product
	ConfigurationID string    `json:"configurationId,omitempty"`
	CreatedAt       time.Time `json:"createdAt"`
}

// Item is some pieces of a product, at its price when ordered.
type Item struct {
	ProductID string `json:"productId"`
	Quantity  int    `json:"quantity"`
	UnitCents int64  `json:"unitCents"`
}

// Store keeps orders.
type Store interface {
	// Order answers nil for an unknown id.
	Order(ctx context.Context, id string) (*Order, error)
	// Begin writes a pending order with its items, unless the id is taken.
	// It returns what is stored then.
	Begin(ctx context.Context, o *Order) (stored *Order, created bool, err error)
	// Settle turns a pending order into status and returns what it is then:
	// the status of whoever settled it first.
	Settle(ctx context.Context, id string, status Status) (Status, error)
	// Claim returns orders left pending for so long, and keeps others from
	// claiming them for as long again.
	Claim(ctx context.Context, left time.Duration, limit int) ([]*Order, error)
}

// Peers are the services an order needs.
type Peers struct {
	Customers shopapi.CustomerProfileClient
	Catalog   shopapi.ProductCatalogClient
	Inventory shopapi.InventoryManagementClient
	Payments  shopapi.PaymentGatewayClient
}

// Events takes note of what happened; it neither waits nor fails.
type Events interface {
	Note(kind, subject string)
}

// Service processes orders.
type Service struct {
	store  Store
	peers  Peers
	events Events
	log    *slog.Logger
}

// New makes the service.
func New(store Store, peers Peers, events Events, log *slog.Logger) *Service {
	return &Service{store: store, peers: peers, events: events, log: log}
}

// Order returns the order with the id.
func (s *Service) Order(ctx context.Context, id string) (*Order, error) {
	o, err := s.store.Order(ctx, id)
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, fail.New(codes.NotFound, "order_not_found", "there is no order %q", id)
	}
	return o, nil
}

// Create makes an order, or returns the one that the id already has. A refused
// order is an error with the reason out_of_stock or payment_declined, at every
// repetition.
func (s *Service) Create(ctx context.Context, wanted *Order) (o *Order, created bool, err error) {
	if err := check(wanted); err != nil {
		return nil, false, err
	}
	o, customer, err := s.findOrPrice(ctx, wanted)
	if err != nil {
		return nil, false, err
	}
	if o == nil {
		if o, created, err = s.store.Begin(ctx, wanted); err != nil {
			return nil, false, err
		}
		if created {
			return s.settle(ctx, o, customer.GetCardReference(), true)
		}
	}
	if !same(o, wanted) {
		return nil, false, fail.New(codes.AlreadyExists, "order_conflict", "order %s exists with other contents", o.ID)
	}
	return s.settle(ctx, o, "", false)
}

// check refuses what cannot be an order, and sorts its items by product.
func check(o *Order) error {
	switch {
	case !validID(o.ID):
		return invalid("orderId: wants 1 to %d letters, digits, \"-\", \"_\", \".\" or \":\"", maxID)
	case !validID(o.CustomerID):
		return invalid("customerId is missing or no id")
	case o.ConfigurationID != "" && !validID(o.ConfigurationID):
		return invalid("configurationId is no id")
	case len(o.Items) == 0 || len(o.Items) > maxItems:
		return invalid("items: wants 1 to %d", maxItems)
	}
	slices.SortFunc(o.Items, func(a, b Item) int { return strings.Compare(a.ProductID, b.ProductID) })
	for i, item := range o.Items {
		switch {
		case !validID(item.ProductID):
			return invalid("items: productId is missing or no id")
		case item.Quantity < 1 || item.Quantity > maxQuantity:
			return invalid("items: %s: quantity must be 1 to %d", item.ProductID, maxQuantity)
		case i > 0 && o.Items[i-1].ProductID == item.ProductID:
			return invalid("items: %s is there twice", item.ProductID)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fail.New(codes.InvalidArgument, "", format, args...)
}

func validID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && c != '-' && c != '_' && c != '.' && c != ':'
	})
}

// same tells whether two orders want the same; prices may have changed since.
func same(a, b *Order) bool {
	return a.CustomerID == b.CustomerID && a.ConfigurationID == b.ConfigurationID &&
		slices.EqualFunc(a.Items, b.Items, func(x, y Item) bool {
			return x.ProductID == y.ProductID && x.Quantity == y.Quantity
		})
}
