package shoptest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/orders"
)

// Ground is where a World stands: stores that can be emptied and looked into.
type Ground struct {
	Stores Stores
	// Fresh empties the stores: p-0001 to p-0003 are plentiful, of p-0040 and
	// p-0080 there are five.
	Fresh func(t *testing.T)
	Audit Auditor
}

// Rest is a moment without failures: pods that come later finish what was left,
// until there is nothing left. It returns when all is settled and told.
func (g *Ground) Rest(t *testing.T) {
	t.Helper()
	w := NewWorld(g.Stores, WorldOptions{})
	defer w.Close()
	for range 50 {
		ctx := deadline(t)
		require.NoError(t, w.RecoverLeft(ctx, 0))
		require.NoError(t, w.Outbox.TellLeft(ctx, 0))
		require.NoError(t, w.Inventory.EndOverdue(ctx, 0))
		left, err := g.Stores.Orders.Claim(ctx, 0, 1)
		require.NoError(t, err)
		events, err := g.Stores.Orders.TakeEvents(ctx, 0, 1)
		require.NoError(t, err)
		if len(left)+len(events) == 0 {
			return
		}
	}
	t.Fatal("the shop does not come to rest")
}

func item(product string, quantity int) orders.Item {
	return orders.Item{ProductID: product, Quantity: quantity}
}

// story is an order and what happens to it.
type story struct {
	name     string
	customer string
	config   string
	items    []orders.Item
	options  WorldOptions
	// meets are fates that belong to the story, before any other.
	meets func(step string, nth int) Fate
	// between happens after the first attempt.
	between func(t *testing.T, g *Ground)
	ends    func(status orders.Status, why orders.Reason) bool // when nothing else fails
}

func endsAs(status orders.Status, why orders.Reason) func(orders.Status, orders.Reason) bool {
	return func(s orders.Status, w orders.Reason) bool { return s == status && w == why }
}

// diesWhenPaid is a pod that dies between taking the money and confirming.
func diesWhenPaid(step string, nth int) Fate {
	if step == "Charge" && nth == 0 {
		return CrashAfter
	}
	return Done
}

// lapses ends every reservation, as if the order had been left alone for long.
func lapses(t *testing.T, g *Ground) {
	t.Helper()
	w := NewWorld(g.Stores, WorldOptions{})
	defer w.Close()
	require.NoError(t, w.Inventory.EndOverdue(deadline(t), -2*time.Hour))
}

// soldOut is somebody else who buys all of p-0040.
func soldOut(t *testing.T, g *Ground) {
	t.Helper()
	lapses(t, g)
	w := NewWorld(g.Stores, WorldOptions{})
	defer w.Close()
	_, _, err := w.Create(deadline(t), &orders.Order{ID: "somebody-else", CustomerID: Pays, Items: []orders.Item{item("p-0040", 5)}})
	require.NoError(t, err)
}

func stories() []story {
	plain := []orders.Item{item("p-0001", 2), item("p-0040", 1)}
	return []story{
		{name: "bought", customer: Pays, items: plain, ends: endsAs(orders.Confirmed, "")},
		{name: "configured", customer: Pays, items: plain, config: "cfg-1", ends: endsAs(orders.Confirmed, "")},
		{name: "declined", customer: Declined, items: plain, ends: endsAs(orders.Cancelled, orders.PaymentDeclined)},
		{name: "out of stock", customer: Pays, items: []orders.Item{item("p-0001", 1), item("p-0040", 6)},
			ends: endsAs(orders.Cancelled, orders.OutOfStock)},
		{name: "left until it expired, and bought again", customer: Pays, items: plain, meets: diesWhenPaid, between: lapses,
			ends: endsAs(orders.Confirmed, "")},
		{name: "left until its stock was gone", customer: Pays, items: plain, meets: diesWhenPaid, between: soldOut,
			ends: endsAs(orders.Cancelled, orders.ReservationExpired)},
		{name: "given up", customer: Pays, items: plain, options: WorldOptions{GiveUp: time.Nanosecond}, meets: func(step string, nth int) Fate {
			if step == "provider.Enter" && nth < 2 {
				return LostAfter // the money was taken, and nobody can say so
			}
			return Done
		}, ends: endsAs(orders.Cancelled, orders.PaymentUnresolved)},
	}
}

// place lets the story's customer order, and says whether it was acknowledged.
func (s story) place(t *testing.T, w *World, id string) (acknowledged bool, err error) {
	o := &orders.Order{ID: id, CustomerID: s.customer, ConfigurationID: s.config, Items: slices.Clone(s.items)}
	_, _, err = w.Create(Attempt(deadline(t)), o)
	return err == nil, err
}

// run plays the story with one more failure at a step, and checks the ground
// when it has come to rest. It returns the steps that were done.
func (s story) run(t *testing.T, g *Ground, at string, nth int, fate Fate, clientReturns bool) []string {
	g.Fresh(t)
	w := NewWorld(g.Stores, s.options)
	defer w.Close()
	w.Wire.Decide(func(_, step string, n int) Fate {
		if step == at && n == nth {
			return fate
		}
		if s.meets != nil {
			return s.meets(step, n)
		}
		return Done
	})
	const id = "o-1"
	var acknowledged []string
	note := func(ok bool, err error) {
		if ok {
			acknowledged = append(acknowledged, id)
		}
		if fail.IsFailure(fail.Code(err)) {
			require.ErrorIs(t, err, ErrLost)
		}
	}
	note(s.place(t, w, id))
	if s.between != nil {
		s.between(t, g)
	}
	if clientReturns {
		note(s.place(t, w, id))
	}
	ctx := Attempt(deadline(t))
	_ = w.RecoverLeft(ctx, 0) // and these may meet the failure, too
	_ = w.Outbox.TellLeft(ctx, 0)
	_ = w.Inventory.EndOverdue(ctx, 0)
	steps := w.Wire.Steps()
	g.Rest(t)
	audit := g.Audit(t)
	audit.Check(t, acknowledged)
	if o := audit.Orders[id]; at == "" {
		require.NotNil(t, o)
		require.True(t, s.ends(o.Status, o.Reason), "%s %s", o.Status, o.Reason)
	}
	return steps
}

// SurviveConduct plays every story with one failure more, at every step that it
// has, of every kind, with a client that comes back and with one that does
// not: whatever happens, nothing is lost, doubled or oversold, and the money
// adds up.
func SurviveConduct(t *testing.T, g *Ground) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			count := map[string]int{}
			for _, returns := range []bool{true, false} {
				seen := map[string]int{}
				for _, step := range s.run(t, g, "", 0, Done, returns) {
					seen[step]++
					count[step] = max(count[step], seen[step])
				}
			}
			plays := 0
			for step, times := range count {
				for nth := range times {
					for fate := LostBefore; fate <= CrashAfter; fate++ {
						returns := (plays+nth)%2 == 0
						plays++
						ok := t.Run(fmt.Sprintf("%s at %s %d, client returns %t", fate, step, nth, returns), func(t *testing.T) {
							s.run(t, g, step, nth, fate, returns)
						})
						if !ok {
							return
						}
					}
				}
			}
			require.Greater(t, plays, 20)
		})
	}
}

// StormConduct lets many customers buy few pieces at once, each with several
// tries, while steps fail at random, reservations end early and pods look for
// what was left. The same seed has the same failures; the order in which
// things happen is the machine's.
func StormConduct(t *testing.T, g *Ground, seed uint64) {
	g.Fresh(t)
	w := NewWorld(g.Stores, WorldOptions{Keep: 60 * time.Millisecond, GiveUp: 150 * time.Millisecond})
	defer w.Close()
	w.Wire.Decide(Random(seed, 0.15))
	over := make(chan struct{})
	var pods, clients sync.WaitGroup
	for range 2 {
		pods.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond):
				}
				ctx := Attempt(context.Background())
				_ = w.RecoverLeft(ctx, 10*time.Millisecond)
				_ = w.Outbox.TellLeft(ctx, 0)
				_ = w.Inventory.EndOverdue(ctx, 40*time.Millisecond)
			}
		})
	}
	var mu sync.Mutex
	var acknowledged []string
	for n := range 24 {
		clients.Go(func() {
			id := fmt.Sprintf("o-%d", n/2) // two clients an order, as a client that comes back twice
			customer := []string{Pays, Declined, Pays}[n/2%3]
			for range 3 {
				ok, err := story{customer: customer, items: []orders.Item{item("p-0040", 1), item("p-0001", 1+n/2%2)}}.place(t, w, id)
				if ok {
					mu.Lock()
					acknowledged = append(acknowledged, id)
					mu.Unlock()
				}
				if err == nil || !fail.IsFailure(fail.Code(err)) {
					return
				}
			}
		})
	}
	clients.Wait()
	close(over)
	pods.Wait()
	w.Wire.Decide(nil)
	g.Rest(t)
	g.Audit(t).Check(t, acknowledged)
}
