// Package shoptest holds stores in memory, for tests of the services, and the
// conduct that every store must show, for tests of the stores: those in memory
// and those in PostgreSQL are held to the same.
package shoptest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
)

// Inventory is an inventory.Store in memory.
type Inventory struct {
	mu       sync.Mutex
	initial  map[string]int64
	stock    map[string]int64
	reserved map[string]*reservation
}

type reservation struct {
	state inventory.State
	items []inventory.Item
	short []string
}

// NewInventory holds the given pieces by product.
func NewInventory(stock map[string]int64) *Inventory {
	i := &Inventory{initial: map[string]int64{}, stock: map[string]int64{}, reserved: map[string]*reservation{}}
	for id, pieces := range stock {
		i.initial[id], i.stock[id] = pieces, pieces
	}
	return i
}

var _ inventory.Store = (*Inventory)(nil)

// Stock answers false for an unknown product.
func (i *Inventory) Stock(_ context.Context, id string) (inventory.Stock, bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	pieces, known := i.stock[id]
	return inventory.Stock{ProductID: id, Stock: pieces, Initial: i.initial[id]}, known, nil
}

// Reserve takes all items or none, once for an order id.
func (i *Inventory) Reserve(_ context.Context, orderID string, items []inventory.Item) (inventory.State, []string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r := i.reserved[orderID]; r != nil {
		return r.state, r.short, nil
	}
	r := &reservation{state: inventory.Reserved, items: items}
	for _, item := range items {
		if i.stock[item.ProductID] < int64(item.Quantity) {
			r.state, r.short = inventory.Refused, append(r.short, item.ProductID)
		}
	}
	if r.state == inventory.Reserved {
		for _, item := range items {
			i.stock[item.ProductID] -= int64(item.Quantity)
		}
	}
	i.reserved[orderID] = r
	return r.state, r.short, nil
}

// Release gives back what is reserved for the order, once.
func (i *Inventory) Release(_ context.Context, orderID string) (inventory.State, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.reserved[orderID]
	if r == nil {
		return inventory.None, nil
	}
	if r.state == inventory.Reserved {
		r.state = inventory.Released
		for _, item := range r.items {
			i.stock[item.ProductID] += int64(item.Quantity)
		}
	}
	return r.state, nil
}

// Held is what is reserved for an order.
func (i *Inventory) Held(orderID string) []inventory.Item {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r := i.reserved[orderID]; r != nil && r.state == inventory.Reserved {
		return r.items
	}
	return nil
}

// Payments is a payments.Store in memory.
type Payments struct {
	mu   sync.Mutex
	kept map[string]payments.Payment
}

// NewPayments holds none.
func NewPayments() *Payments { return &Payments{kept: map[string]payments.Payment{}} }

var _ payments.Store = (*Payments)(nil)

// Keep writes the payment unless the order has one already.
func (p *Payments) Keep(_ context.Context, n payments.Payment) (payments.Payment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kept, there := p.kept[n.OrderID]; there {
		return kept, nil
	}
	p.kept[n.OrderID] = n
	return n, nil
}

// Payment is the one of an order.
func (p *Payments) Payment(orderID string) (payments.Payment, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, there := p.kept[orderID]
	return kept, there
}

// Orders is an orders.Store in memory.
type Orders struct {
	mu      sync.Mutex
	kept    map[string]*orders.Order
	touched map[string]time.Time
}

// NewOrders holds none.
func NewOrders() *Orders {
	return &Orders{kept: map[string]*orders.Order{}, touched: map[string]time.Time{}}
}

var _ orders.Store = (*Orders)(nil)

func copyOf(o *orders.Order) *orders.Order {
	out := *o
	out.Items = slices.Clone(o.Items)
	return &out
}

// Order answers nil for an unknown id.
func (s *Orders) Order(_ context.Context, id string) (*orders.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.kept[id]; o != nil {
		return copyOf(o), nil
	}
	return nil, nil
}

// Begin writes a pending order unless the id is taken.
func (s *Orders) Begin(_ context.Context, o *orders.Order) (*orders.Order, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept := s.kept[o.ID]; kept != nil {
		return copyOf(kept), false, nil
	}
	kept := copyOf(o)
	kept.Status, kept.CreatedAt = orders.Pending, time.Now().UTC()
	s.kept[o.ID], s.touched[o.ID] = kept, kept.CreatedAt
	return copyOf(kept), true, nil
}

// Settle turns a pending order into status; of several, the first one wins.
func (s *Orders) Settle(_ context.Context, id string, status orders.Status) (orders.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.kept[id]
	if o.Status == orders.Pending {
		o.Status = status
	}
	return o.Status, nil
}

// Claim returns orders left pending for so long.
func (s *Orders) Claim(_ context.Context, left time.Duration, limit int) ([]*orders.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*orders.Order
	for id, o := range s.kept {
		if o.Status == orders.Pending && time.Since(s.touched[id]) >= left && len(out) < limit {
			s.touched[id] = time.Now()
			out = append(out, copyOf(o))
		}
	}
	return out, nil
}

// All returns every order, by id.
func (s *Orders) All() []*orders.Order {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*orders.Order
	for _, o := range s.kept {
		out = append(out, copyOf(o))
	}
	slices.SortFunc(out, func(a, b *orders.Order) int { return strings.Compare(a.ID, b.ID) })
	return out
}
