package shoptest

import (
	"context"
	"strings"
	"time"

	"meshsim.dev/meshsim/fakeshop/analytics"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
)

// Stores are the databases of the services that an order goes through.
type Stores struct {
	Orders    orders.Store
	Inventory inventory.Store
	Payments  payments.Store
	Book      payments.Book
	Events    analytics.Store
}

// wired are the same stores with a wire before each statement.
func (s Stores) wired(w *Wire) Stores {
	return Stores{wiredOrders{s.Orders, w}, wiredInventory{s.Inventory, w}, wiredPayments{s.Payments, w}, wiredBook{s.Book, w}, wiredEvents{s.Events, w}}
}

type wiredOrders struct {
	inner orders.Store
	w     *Wire
}

func (s wiredOrders) Order(ctx context.Context, id string) (o *orders.Order, err error) {
	err = s.w.around(ctx, id, "orders.Order", func() error { o, err = s.inner.Order(ctx, id); return err })
	return o, err
}

func (s wiredOrders) Begin(ctx context.Context, o *orders.Order) (stored *orders.Order, created bool, err error) {
	err = s.w.around(ctx, o.ID, "orders.Begin", func() error { stored, created, err = s.inner.Begin(ctx, o); return err })
	return stored, created, err
}

func (s wiredOrders) Advance(ctx context.Context, id string, to orders.Status) error {
	return s.w.around(ctx, id, "orders.Advance", func() error { return s.inner.Advance(ctx, id, to) })
}

func (s wiredOrders) Decide(ctx context.Context, o *orders.Order, why orders.Reason) error {
	return s.w.around(ctx, o.ID, "orders.Decide", func() error { return s.inner.Decide(ctx, o, why) })
}

func (s wiredOrders) Settle(ctx context.Context, o *orders.Order, end orders.Outcome) (mine bool, err error) {
	err = s.w.around(ctx, o.ID, "orders.Settle", func() error { mine, err = s.inner.Settle(ctx, o, end); return err })
	return mine && err == nil, err
}

func (s wiredOrders) Claim(ctx context.Context, left time.Duration, limit int) (list []*orders.Order, err error) {
	err = s.w.around(ctx, "", "orders.Claim", func() error { list, err = s.inner.Claim(ctx, left, limit); return err })
	return list, err
}

func (s wiredOrders) Statuses(ctx context.Context, ids []string) (found map[string]orders.Status, err error) {
	err = s.w.around(ctx, strings.Join(ids, " "), "orders.Statuses", func() error { found, err = s.inner.Statuses(ctx, ids); return err })
	return found, err
}

func (s wiredOrders) TakeEvents(ctx context.Context, left time.Duration, limit int) (events []orders.Event, err error) {
	err = s.w.around(ctx, "", "orders.TakeEvents", func() error { events, err = s.inner.TakeEvents(ctx, left, limit); return err })
	return events, err
}

func (s wiredOrders) DropEvents(ctx context.Context, ids []string) error {
	return s.w.around(ctx, strings.Join(ids, " "), "orders.DropEvents", func() error { return s.inner.DropEvents(ctx, ids) })
}

type wiredInventory struct {
	inner inventory.Store
	w     *Wire
}

func (s wiredInventory) Stock(ctx context.Context, id string) (stock inventory.Stock, known bool, err error) {
	return s.inner.Stock(ctx, id)
}

func (s wiredInventory) Reserve(ctx context.Context, order string, items []inventory.Item, keep time.Duration) (r inventory.Reservation, err error) {
	err = s.w.around(ctx, order, "inventory.Reserve", func() error { r, err = s.inner.Reserve(ctx, order, items, keep); return err })
	return r, err
}

func (s wiredInventory) Release(ctx context.Context, order string) (state inventory.State, err error) {
	err = s.w.around(ctx, order, "inventory.Release", func() error { state, err = s.inner.Release(ctx, order); return err })
	return state, err
}

func (s wiredInventory) Commit(ctx context.Context, ids []string) (notHeld []string, err error) {
	err = s.w.around(ctx, strings.Join(ids, " "), "inventory.Commit", func() error { notHeld, err = s.inner.Commit(ctx, ids); return err })
	return notHeld, err
}

func (s wiredInventory) Overdue(ctx context.Context, overdue time.Duration, limit int) (ids []string, err error) {
	err = s.w.around(ctx, "", "inventory.Overdue", func() error { ids, err = s.inner.Overdue(ctx, overdue, limit); return err })
	return ids, err
}

func (s wiredInventory) Expire(ctx context.Context, order string, overdue time.Duration) (state inventory.State, err error) {
	err = s.w.around(ctx, order, "inventory.Expire", func() error { state, err = s.inner.Expire(ctx, order, overdue); return err })
	return state, err
}

type wiredPayments struct {
	inner payments.Store
	w     *Wire
}

func (s wiredPayments) Keep(ctx context.Context, p payments.Payment) (kept payments.Payment, err error) {
	err = s.w.around(ctx, p.OrderID, "payments.Keep", func() error { kept, err = s.inner.Keep(ctx, p); return err })
	return kept, err
}

type wiredBook struct {
	inner payments.Book
	w     *Wire
}

func (s wiredBook) Enter(ctx context.Context, c payments.Charge) (kept payments.Charge, err error) {
	err = s.w.around(ctx, c.Key, "provider.Enter", func() error { kept, err = s.inner.Enter(ctx, c); return err })
	return kept, err
}

type wiredEvents struct {
	inner analytics.Store
	w     *Wire
}

func (s wiredEvents) Record(ctx context.Context, events []analytics.Event) (recorded int, err error) {
	order := ""
	if len(events) > 0 {
		order = events[0].Subject
	}
	err = s.w.around(ctx, order, "analytics.Record", func() error { recorded, err = s.inner.Record(ctx, events); return err })
	return recorded, err
}

func (s wiredEvents) BoughtTogether(ctx context.Context, most int) ([]analytics.Companions, error) {
	return s.inner.BoughtTogether(ctx, most)
}

func (s wiredEvents) Counts(ctx context.Context) (map[string]int64, error) {
	return s.inner.Counts(ctx)
}
