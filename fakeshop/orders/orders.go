// Package orders is the service order-processing. An order is placed, reserved,
// paid and confirmed, or cancelled on the way. Each step is kept under the
// order's id by the service that does it, and answers the same however often it
// is repeated; so any pod may take up an order wherever another left it, and
// two that do so at once come to the same end.
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
	maxStatuses = 500
)

// settleWithin bounds the steps after an order is written: they go on when the
// client has gone, but not for ever.
const settleWithin = 4 * time.Second

// Status is where an order stands.
type Status string

// The statuses; the last two are for good.
const (
	Placed    Status = "placed"
	Reserved  Status = "reserved"
	Paid      Status = "paid"
	Confirmed Status = "confirmed"
	Cancelled Status = "cancelled"
)

// Settled tells whether the status is for good.
func (s Status) Settled() bool { return s == Confirmed || s == Cancelled }

// Reason is why an order was cancelled.
type Reason string

// The reasons.
const (
	OutOfStock      Reason = "out_of_stock"
	PaymentDeclined Reason = "payment_declined"
	// ReservationExpired: the order was held up until its stock was gone.
	ReservationExpired Reason = "reservation_expired"
	// PaymentUnresolved: the payment provider could not be asked for too long.
	PaymentUnresolved Reason = "payment_unresolved"
)

// Order is what a customer bought, or tried to.
type Order struct {
	ID              string    `json:"orderId"`
	CustomerID      string    `json:"customerId"`
	Status          Status    `json:"status"`
	Reason          Reason    `json:"reason,omitempty"` // of a cancelled one
	TotalCents      int64     `json:"totalCents"`
	Items           []Item    `json:"items"` // by product
	ConfigurationID string    `json:"configurationId,omitempty"`
	CreatedAt       time.Time `json:"createdAt"`
	// Cancelling is why an order that is not settled yet is going to be
	// cancelled; there is no way back from it.
	Cancelling Reason `json:"-"`
}

// Item is some pieces of a product, at its price when ordered.
type Item struct {
	ProductID string `json:"productId"`
	Quantity  int    `json:"quantity"`
	UnitCents int64  `json:"unitCents"`
}

// Event is what others are told of an order that was settled.
type Event struct {
	ID         string // the event's own, so that it counts once however often it is told
	Kind       string // order.confirmed, or order. and the reason
	OrderID    string
	ProductIDs []string
}

// Outcome is how an order is to end.
type Outcome struct {
	Status Status // Confirmed or Cancelled
	Reason Reason
	// HeldUntil is, of one to confirm, the end of its reservation by the
	// database's clock. Later it cannot be confirmed.
	HeldUntil time.Time
	Event     Event
}

// Store keeps orders.
type Store interface {
	// Order answers nil for an unknown id.
	Order(ctx context.Context, id string) (*Order, error)
	// Begin writes a placed order with its items, unless the id is taken.
	// It returns what is stored then.
	Begin(ctx context.Context, o *Order) (stored *Order, created bool, err error)
	// Advance notes that an order is reserved, or paid. One that is farther
	// stays as it is.
	Advance(ctx context.Context, id string, to Status) error
	// Decide notes that an order is going to be cancelled, and why, unless that
	// was decided before or the order is settled. It fills in what is true then.
	Decide(ctx context.Context, o *Order, why Reason) error
	// Settle ends an order and writes the event, unless it is settled already,
	// or is to be confirmed too late or though its cancelling was decided. It
	// fills in what is true then; mine tells whether this call settled it.
	Settle(ctx context.Context, o *Order, end Outcome) (mine bool, err error)
	// Claim returns orders left unsettled for so long, and keeps others from
	// claiming them for as long again.
	Claim(ctx context.Context, left time.Duration, limit int) ([]*Order, error)
	// Statuses leaves out unknown orders. An order that it says is not confirmed
	// will not be, unless its reservation still holds.
	Statuses(ctx context.Context, ids []string) (map[string]Status, error)
	// TakeEvents returns events that nobody has taken for so long, and keeps
	// others from taking them for as long again.
	TakeEvents(ctx context.Context, left time.Duration, limit int) ([]Event, error)
	// DropEvents removes events that everyone concerned has been told.
	DropEvents(ctx context.Context, ids []string) error
}

// Peers are the services an order needs.
type Peers struct {
	Customers     shopapi.CustomerProfileClient
	Catalog       shopapi.ProductCatalogClient
	Configuration shopapi.ConfigurationEngineClient
	Inventory     shopapi.InventoryManagementClient
	Payments      shopapi.PaymentGatewayClient
}

// Teller tells others of an event that this pod has just written; it neither
// waits nor fails.
type Teller interface {
	Tell(e Event)
}

// Options are what may be set.
type Options struct {
	// GiveUp is how old an order may get whose payment cannot be resolved
	// before it is cancelled; 0 is 10 min.
	GiveUp time.Duration
}

// Service processes orders.
type Service struct {
	store  Store
	peers  Peers
	teller Teller
	log    *slog.Logger
	giveUp time.Duration
	failed chan string // ids of orders that this pod could not bring to their end
}

// New makes the service.
func New(store Store, peers Peers, teller Teller, o Options, log *slog.Logger) *Service {
	if o.GiveUp <= 0 {
		o.GiveUp = 10 * time.Minute
	}
	return &Service{store: store, peers: peers, teller: teller, log: log, giveUp: o.GiveUp, failed: make(chan string, 256)}
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

// Statuses tells where orders stand; unknown ones are left out.
func (s *Service) Statuses(ctx context.Context, ids []string) (map[string]Status, error) {
	if len(ids) > maxStatuses {
		return nil, invalid("%d orders at once, at most %d are answered", len(ids), maxStatuses)
	}
	return s.store.Statuses(ctx, ids)
}

// Create makes an order, or returns the one that the id already has. A
// cancelled order is an error with its reason, at every repetition.
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
