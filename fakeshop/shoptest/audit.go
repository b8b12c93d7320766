package shoptest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
)

// Audit is what stands in all databases at one moment.
type Audit struct {
	Orders   map[string]*orders.Order
	Stock    map[string]inventory.Stock
	Kept     map[string][]inventory.Item // off the shelf, by order: reserved or sold
	States   map[string]inventory.State  // of reservations, by order
	Payments map[string]payments.Payment // by order
	Charges  map[string]payments.Charge  // by key
	Events   map[string]int64            // how many there are of each kind
	Untold   int                         // events that are still in the outbox
}

// Auditor reads an Audit.
type Auditor func(t *testing.T) Audit

// Check holds an audit to the shop's invariants, once everything has come to
// rest: no order is left unsettled, none is lost that was acknowledged, stock
// is never negative and follows from what was sold, nothing is sold twice, and
// the money adds up to the cent, with the payment provider too.
func (a Audit) Check(t *testing.T, acknowledged []string) {
	t.Helper()
	taken := map[string]int64{}
	sum, confirmed := int64(0), int64(0)
	for id, o := range a.Orders {
		require.True(t, o.Status.Settled(), "order %s is %s", id, o.Status)
		total := int64(0)
		for _, item := range o.Items {
			total += item.UnitCents * int64(item.Quantity)
		}
		require.Equal(t, total, o.TotalCents, "order %s", id)
		a.checkOrder(t, o)
		if o.Status == orders.Confirmed {
			sum, confirmed = sum+o.TotalCents, confirmed+1
			for _, item := range o.Items {
				taken[item.ProductID] += int64(item.Quantity)
			}
		}
	}
	for id, items := range a.Kept {
		require.Contains(t, a.Orders, id, "stock is kept for no order: %v", items)
	}
	for id, stock := range a.Stock {
		require.GreaterOrEqual(t, stock.Stock, int64(0), id)
		require.Equal(t, stock.Initial-taken[id], stock.Stock, "stock of %s", id)
	}
	for id := range a.Payments {
		require.Contains(t, a.Orders, id, "a payment of no order")
	}
	for key := range a.Charges {
		require.Contains(t, a.Orders, key, "a charge of no order")
	}
	require.Equal(t, sum, sumOf(a.Payments), "what was taken")
	require.Equal(t, sum, captured(a.Charges), "what the provider captured")
	for _, id := range acknowledged {
		require.Contains(t, a.Orders, id, "it was acknowledged")
		require.Equal(t, orders.Confirmed, a.Orders[id].Status, "%s was acknowledged", id)
	}
	require.Zero(t, a.Untold)
	require.Equal(t, confirmed, a.Events["order.confirmed"], "each is counted once")
}

func (a Audit) checkOrder(t *testing.T, o *orders.Order) {
	t.Helper()
	paid, isPaid := a.Payments[o.ID]
	charge, isCharged := a.Charges[o.ID]
	require.Equal(t, isPaid, isCharged, "order %s: %s has a payment here or there only", o.ID, o.Status)
	var states [2]string
	if isPaid {
		states = [2]string{string(paid.State), string(charge.State)}
		require.Equal(t, paid.AmountCents, charge.AmountCents, o.ID)
	}
	want := map[orders.Reason][2]string{
		"": {"taken", "captured"}, orders.OutOfStock: {}, orders.PaymentDeclined: {"declined", "declined"},
		orders.ReservationExpired: {"refunded", "voided"}, orders.PaymentUnresolved: {"refunded", "voided"},
	}
	require.Equal(t, want[o.Reason], states, "order %s: %s %s", o.ID, o.Status, o.Reason)
	if o.Status == orders.Cancelled {
		require.NotEmpty(t, o.Reason, o.ID)
		require.Empty(t, a.Kept[o.ID], o.ID)
		return
	}
	require.Equal(t, o.TotalCents, paid.AmountCents, o.ID)
	require.Equal(t, inventory.Committed, a.States[o.ID], o.ID)
	var items []inventory.Item
	for _, item := range o.Items {
		items = append(items, inventory.Item{ProductID: item.ProductID, Quantity: item.Quantity})
	}
	require.ElementsMatch(t, items, a.Kept[o.ID], o.ID)
}

func sumOf(all map[string]payments.Payment) (sum int64) {
	for _, p := range all {
		if p.State == payments.Taken {
			sum += p.AmountCents
		}
	}
	return sum
}

func captured(all map[string]payments.Charge) (sum int64) {
	for _, c := range all {
		if c.State == payments.Captured {
			sum += c.AmountCents
		}
	}
	return sum
}

// Memory is all stores in memory.
type Memory struct {
	orders    *Orders
	inventory *Inventory
	payments  *Payments
	book      *Book
	events    *Events
}

// NewMemory holds the given pieces by product.
func NewMemory(stock map[string]int64) *Memory {
	return &Memory{NewOrders(), NewInventory(stock), NewPayments(), NewBook(), NewEvents()}
}

// Stores are the memory as stores.
func (m *Memory) Stores() Stores { return Stores{m.orders, m.inventory, m.payments, m.book, m.events} }

// Audit implements Auditor.
func (m *Memory) Audit(t *testing.T) Audit {
	t.Helper()
	a := Audit{Orders: map[string]*orders.Order{}, Stock: map[string]inventory.Stock{}, Kept: map[string][]inventory.Item{},
		States: map[string]inventory.State{}, Payments: m.payments.kept, Charges: m.book.kept, Untold: len(m.orders.outbox)}
	for _, o := range m.orders.All() {
		a.Orders[o.ID] = o
	}
	for id := range m.inventory.initial {
		a.Stock[id], _, _ = m.inventory.Stock(context.Background(), id)
	}
	for id, r := range m.inventory.reserved {
		a.States[id] = r.state
		if items := m.inventory.Held(id); len(items) > 0 {
			a.Kept[id] = items
		}
	}
	a.Events, _ = m.events.Counts(context.Background())
	return a
}
