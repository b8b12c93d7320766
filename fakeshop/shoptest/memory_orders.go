package shoptest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakeshop/orders"
)

// Orders is an orders.Store in memory.
type Orders struct {
	mu      sync.Mutex
	kept    map[string]*orders.Order
	touched map[string]time.Time
	outbox  map[string]orders.Event
	taken   map[string]time.Time // events
}

// NewOrders holds none.
func NewOrders() *Orders {
	return &Orders{kept: map[string]*orders.Order{}, touched: map[string]time.Time{}, outbox: map[string]orders.Event{}, taken: map[string]time.Time{}}
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

// Begin writes a placed order unless the id is taken.
func (s *Orders) Begin(_ context.Context, o *orders.Order) (*orders.Order, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept := s.kept[o.ID]; kept != nil {
		return copyOf(kept), false, nil
	}
	kept := copyOf(o)
	kept.Status, kept.CreatedAt = orders.Placed, time.Now().UTC()
	s.kept[o.ID], s.touched[o.ID] = kept, kept.CreatedAt
	return copyOf(kept), true, nil
}

// Advance notes that an order is reserved, or paid.
func (s *Orders) Advance(_ context.Context, id string, to orders.Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.kept[id]; o.Status == orders.Placed || o.Status == orders.Reserved && to == orders.Paid {
		o.Status, s.touched[id] = to, time.Now()
	}
	return nil
}

// Decide notes that an order is going to be cancelled.
func (s *Orders) Decide(_ context.Context, o *orders.Order, why orders.Reason) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.kept[o.ID]
	if kept.Cancelling == "" && !kept.Status.Settled() {
		kept.Cancelling = why
	}
	o.Status, o.Reason, o.Cancelling = kept.Status, kept.Reason, kept.Cancelling
	return nil
}

// Settle ends an order, unless it is settled already or cannot be confirmed.
func (s *Orders) Settle(_ context.Context, o *orders.Order, end orders.Outcome) (mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.kept[o.ID]
	confirm := end.Status == orders.Confirmed
	if !kept.Status.Settled() && (!confirm || kept.Cancelling == "" && time.Now().Before(end.HeldUntil)) {
		kept.Status, kept.Reason = end.Status, end.Reason
		s.outbox[end.Event.ID], s.taken[end.Event.ID] = end.Event, time.Now()
		mine = true
	}
	o.Status, o.Reason, o.Cancelling = kept.Status, kept.Reason, kept.Cancelling
	return mine, nil
}

// Claim returns orders left unsettled for so long.
func (s *Orders) Claim(_ context.Context, left time.Duration, limit int) ([]*orders.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*orders.Order
	for id, o := range s.kept {
		if !o.Status.Settled() && time.Since(s.touched[id]) >= left && len(out) < limit {
			s.touched[id] = time.Now()
			out = append(out, copyOf(o))
		}
	}
	return out, nil
}

// Statuses leaves out unknown orders.
func (s *Orders) Statuses(_ context.Context, ids []string) (map[string]orders.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]orders.Status{}
	for _, id := range ids {
		if o := s.kept[id]; o != nil {
			out[id] = o.Status
		}
	}
	return out, nil
}

// TakeEvents returns events that nobody has taken for so long.
func (s *Orders) TakeEvents(_ context.Context, left time.Duration, limit int) (out []orders.Event, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, e := range s.outbox {
		if time.Since(s.taken[id]) >= left && len(out) < limit {
			s.taken[id] = time.Now()
			out = append(out, e)
		}
	}
	return out, nil
}

// DropEvents removes events that everyone concerned has been told.
func (s *Orders) DropEvents(_ context.Context, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.outbox, id)
	}
	return nil
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
