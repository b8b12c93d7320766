// Package shoptest holds stores in memory, for tests of the services, and the
// conduct that every store must show, for tests of the stores: those in memory
// and those in PostgreSQL are held to the same.
package shoptest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/fakeshop/analytics"
	"meshsim.dev/meshsim/fakeshop/inventory"
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
	until time.Time
}

// held tells whether pieces are off the shelf for it.
func (r *reservation) held() bool {
	return r.state == inventory.Reserved || r.state == inventory.Committed
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

// Reserve takes all items or none for an order id.
func (i *Inventory) Reserve(_ context.Context, orderID string, items []inventory.Item, keep time.Duration) (inventory.Reservation, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.reserved[orderID]
	if r == nil {
		r = &reservation{state: inventory.Expired, items: items}
		i.reserved[orderID] = r
		if r.short = i.short(items); len(r.short) > 0 {
			r.state = inventory.Refused
		}
	}
	if r.state == inventory.Expired && len(i.short(r.items)) == 0 {
		i.move(r, -1)
		r.state = inventory.Reserved
	}
	if r.state == inventory.Reserved {
		r.until = time.Now().Add(keep)
	}
	return inventory.Reservation{State: r.state, ShortOf: r.short, HeldUntil: r.until}, nil
}

func (i *Inventory) short(items []inventory.Item) (short []string) {
	for _, item := range items {
		if i.stock[item.ProductID] < int64(item.Quantity) {
			short = append(short, item.ProductID)
		}
	}
	return short
}

// move takes pieces off the shelf (-1) or puts them back (+1).
func (i *Inventory) move(r *reservation, sign int64) {
	for _, item := range r.items {
		i.stock[item.ProductID] += sign * int64(item.Quantity)
	}
}

// Release gives back what is reserved for the order, once.
func (i *Inventory) Release(_ context.Context, orderID string) (inventory.State, error) {
	return i.giveBack(orderID, inventory.Released, func(*reservation) bool { return true })
}

// Expire gives back what is reserved for the order if it is overdue.
func (i *Inventory) Expire(_ context.Context, orderID string, overdue time.Duration) (inventory.State, error) {
	return i.giveBack(orderID, inventory.Expired, func(r *reservation) bool { return time.Since(r.until) > overdue })
}

func (i *Inventory) giveBack(orderID string, as inventory.State, when func(*reservation) bool) (inventory.State, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.reserved[orderID]
	if r == nil {
		return inventory.None, nil
	}
	if r.state == inventory.Reserved && when(r) {
		r.state = as
		i.move(r, 1)
	}
	return r.state, nil
}

// Commit makes what is held of the orders final.
func (i *Inventory) Commit(_ context.Context, orderIDs []string) (notHeld []string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, id := range orderIDs {
		r := i.reserved[id]
		if r == nil || !r.held() {
			notHeld = append(notHeld, id)
			continue
		}
		r.state = inventory.Committed
	}
	return notHeld, nil
}

// Overdue names orders whose reservations should have ended so long ago.
func (i *Inventory) Overdue(_ context.Context, overdue time.Duration, limit int) (ids []string, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for id, r := range i.reserved {
		if r.state == inventory.Reserved && time.Since(r.until) > overdue && len(ids) < limit {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Held is what is reserved for an order, or sold.
func (i *Inventory) Held(orderID string) []inventory.Item {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r := i.reserved[orderID]; r != nil && r.held() {
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
	kept, there := p.kept[n.OrderID]
	switch {
	case !there:
		kept = n
	case kept.State == payments.Taken && n.State == payments.Refunded:
		kept.State = payments.Refunded
	}
	p.kept[n.OrderID] = kept
	return kept, nil
}

// Payment is the one of an order.
func (p *Payments) Payment(orderID string) (payments.Payment, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, there := p.kept[orderID]
	return kept, there
}

// Book is a payments.Book in memory.
type Book struct {
	mu   sync.Mutex
	kept map[string]payments.Charge
}

// NewBook is empty.
func NewBook() *Book { return &Book{kept: map[string]payments.Charge{}} }

var _ payments.Book = (*Book)(nil)

// Enter writes a charge unless its key has one.
func (b *Book) Enter(_ context.Context, c payments.Charge) (payments.Charge, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept, there := b.kept[c.Key]
	switch {
	case !there:
		kept = c
	case kept.State == payments.Captured && c.State == payments.Voided:
		kept.State = payments.Voided
	}
	b.kept[c.Key] = kept
	return kept, nil
}

// Charge is the one of a key, the zero Charge when there is none.
func (b *Book) Charge(key string) payments.Charge {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept[key]
}

// Len is how many keys there are.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.kept)
}

// Events is an analytics.Store in memory.
type Events struct {
	mu   sync.Mutex
	kept map[string]analytics.Event
}

// NewEvents holds none.
func NewEvents() *Events { return &Events{kept: map[string]analytics.Event{}} }

var _ analytics.Store = (*Events)(nil)

// Record drops events whose ids it knows.
func (e *Events) Record(_ context.Context, events []analytics.Event) (recorded int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range events {
		if _, known := e.kept[n.ID]; !known {
			e.kept[n.ID] = n
			recorded++
		}
	}
	return recorded, nil
}

// BoughtTogether counts anew each time.
func (e *Events) BoughtTogether(_ context.Context, most int) (all []analytics.Companions, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	count := map[string]map[string]int{}
	for _, n := range e.kept {
		for _, a := range n.ProductIDs {
			for _, b := range n.ProductIDs {
				if a != b && n.Kind == "order.confirmed" {
					if count[a] == nil {
						count[a] = map[string]int{}
					}
					count[a][b]++
				}
			}
		}
	}
	for _, a := range slices.Sorted(maps.Keys(count)) {
		with := slices.SortedFunc(maps.Keys(count[a]), func(x, y string) int {
			return cmp.Or(cmp.Compare(count[a][y], count[a][x]), strings.Compare(x, y))
		})
		all = append(all, analytics.Companions{ProductID: a, With: with[:min(len(with), most)]})
	}
	return all, nil
}

// Counts returns how many events there are of each kind.
func (e *Events) Counts(context.Context) (map[string]int64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string]int64{}
	for _, n := range e.kept {
		out[n.Kind]++
	}
	return out, nil
}
