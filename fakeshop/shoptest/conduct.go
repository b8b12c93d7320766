package shoptest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
)

// deadline is longer than any conduct takes.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// InventoryConduct holds a store to what reserving means. It needs products
// p-0001 to p-0003 with plenty, and p-0040 and p-0080 with five pieces each.
func InventoryConduct(t *testing.T, s inventory.Store) {
	t.Run("an unknown product is not known", func(t *testing.T) {
		_, known, err := s.Stock(deadline(t), "p-none")
		require.NoError(t, err)
		require.False(t, known)
	})
	t.Run("a repeated reservation takes stock once", func(t *testing.T) { reserveTwice(t, s) })
	t.Run("all items are taken or none", func(t *testing.T) { allOrNone(t, s) })
	t.Run("a refusal is kept though stock came back", func(t *testing.T) { refusalIsKept(t, s) })
	t.Run("a release gives back once", func(t *testing.T) { releaseOnce(t, s) })
	t.Run("of many buyers at once only as many get a unique item as there are", func(t *testing.T) { neverOversold(t, s) })
	t.Run("carts in any order never wait for each other", func(t *testing.T) { noDeadlock(t, s) })
}

func pieces(t *testing.T, s inventory.Store, id string) int64 {
	t.Helper()
	stock, known, err := s.Stock(deadline(t), id)
	require.NoError(t, err)
	require.True(t, known, id)
	return stock.Stock
}

func reserveTwice(t *testing.T, s inventory.Store) {
	before := pieces(t, s, "p-0001")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			state, short, err := s.Reserve(deadline(t), "twice", []inventory.Item{{ProductID: "p-0001", Quantity: 3}})
			if err != nil || state != inventory.Reserved || len(short) != 0 {
				t.Errorf("state %q, short of %v, error %v", state, short, err)
			}
		})
	}
	all.Wait()
	require.Equal(t, before-3, pieces(t, s, "p-0001"))
}

func allOrNone(t *testing.T, s inventory.Store) {
	before := pieces(t, s, "p-0002")
	items := []inventory.Item{{ProductID: "p-0002", Quantity: 1}, {ProductID: "p-0040", Quantity: 6}, {ProductID: "p-none", Quantity: 1}}
	for range 2 {
		state, short, err := s.Reserve(deadline(t), "too-much", items)
		require.NoError(t, err)
		require.Equal(t, inventory.Refused, state)
		require.ElementsMatch(t, []string{"p-0040", "p-none"}, short)
	}
	require.Equal(t, before, pieces(t, s, "p-0002"))
	require.Equal(t, int64(5), pieces(t, s, "p-0040"))
}

func refusalIsKept(t *testing.T, s inventory.Store) {
	ctx := deadline(t)
	all := []inventory.Item{{ProductID: "p-0040", Quantity: 5}}
	one := []inventory.Item{{ProductID: "p-0040", Quantity: 1}}
	state, _, err := s.Reserve(ctx, "all-five", all)
	require.NoError(t, err)
	require.Equal(t, inventory.Reserved, state)
	state, _, err = s.Reserve(ctx, "late", one)
	require.NoError(t, err)
	require.Equal(t, inventory.Refused, state)
	_, err = s.Release(ctx, "all-five")
	require.NoError(t, err)
	state, _, err = s.Reserve(ctx, "late", one)
	require.NoError(t, err)
	require.Equal(t, inventory.Refused, state)
	state, err = s.Release(ctx, "late")
	require.NoError(t, err)
	require.Equal(t, inventory.Refused, state)
	require.Equal(t, int64(5), pieces(t, s, "p-0040"))
}

func releaseOnce(t *testing.T, s inventory.Store) {
	before := pieces(t, s, "p-0003")
	_, _, err := s.Reserve(deadline(t), "given-back", []inventory.Item{{ProductID: "p-0003", Quantity: 4}})
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			state, err := s.Release(deadline(t), "given-back")
			if err != nil || state != inventory.Released {
				t.Errorf("state %q, error %v", state, err)
			}
		})
	}
	all.Wait()
	require.Equal(t, before, pieces(t, s, "p-0003"))
	state, _, err := s.Reserve(deadline(t), "given-back", []inventory.Item{{ProductID: "p-0003", Quantity: 4}})
	require.NoError(t, err)
	require.Equal(t, inventory.Released, state, "what was given back is not taken again under the same id")
	state, err = s.Release(deadline(t), "never-reserved")
	require.NoError(t, err)
	require.Equal(t, inventory.None, state)
}

func neverOversold(t *testing.T, s inventory.Store) {
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[inventory.State]int{}
	for n := range 40 {
		all.Go(func() {
			state, _, err := s.Reserve(deadline(t), fmt.Sprintf("rush-%d", n), []inventory.Item{{ProductID: "p-0080", Quantity: 1}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			got[state]++
			mu.Unlock()
		})
	}
	all.Wait()
	require.Equal(t, map[inventory.State]int{inventory.Reserved: 5, inventory.Refused: 35}, got)
	require.Equal(t, int64(0), pieces(t, s, "p-0080"))
}

func noDeadlock(t *testing.T, s inventory.Store) {
	ids := []string{"p-0001", "p-0002", "p-0003"}
	var all sync.WaitGroup
	for n := range 30 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			var items []inventory.Item
			for _, i := range r.Perm(3) {
				items = append(items, inventory.Item{ProductID: ids[i], Quantity: 1})
			}
			order := fmt.Sprintf("mixed-%d", n)
			if _, _, err := s.Reserve(deadline(t), order, items); err != nil {
				t.Error(err)
			}
			if _, err := s.Release(deadline(t), order); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// PaymentsConduct holds a store to one payment an order.
func PaymentsConduct(t *testing.T, s payments.Store) {
	first := payments.Payment{OrderID: "paid", AmountCents: 100, State: payments.Taken, CardToken: "tok_a"}
	kept, err := s.Keep(deadline(t), first)
	require.NoError(t, err)
	require.Equal(t, first, kept)
	kept, err = s.Keep(deadline(t), payments.Payment{OrderID: "paid", AmountCents: 200, State: payments.Declined, CardToken: "tok_b"})
	require.NoError(t, err)
	require.Equal(t, first, kept)
}

// OrdersConduct holds a store to orders that are written once and settled once.
func OrdersConduct(t *testing.T, s orders.Store) {
	wanted := &orders.Order{ID: "o-conduct", CustomerID: "c-0001", TotalCents: 700, ConfigurationID: "cfg-1", Items: []orders.Item{
		{ProductID: "p-0001", Quantity: 2, UnitCents: 100}, {ProductID: "p-0002", Quantity: 1, UnitCents: 500}}}
	t.Run("an unknown order is nil", func(t *testing.T) {
		o, err := s.Order(deadline(t), "o-none")
		require.NoError(t, err)
		require.Nil(t, o)
	})
	t.Run("of many that begin an order one creates it", func(t *testing.T) {
		var all sync.WaitGroup
		var mu sync.Mutex
		created := 0
		for range 8 {
			all.Go(func() {
				o, mine, err := s.Begin(deadline(t), wanted)
				if err != nil || o.Status != orders.Pending || len(o.Items) != 2 || o.TotalCents != 700 {
					t.Errorf("order %+v, error %v", o, err)
				}
				mu.Lock()
				defer mu.Unlock()
				if mine {
					created++
				}
			})
		}
		all.Wait()
		require.Equal(t, 1, created)
	})
	t.Run("what was written is read again", func(t *testing.T) {
		o, err := s.Order(deadline(t), wanted.ID)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), o.CreatedAt, time.Minute)
		o.CreatedAt = time.Time{}
		want := *wanted
		want.Status = orders.Pending
		require.Equal(t, &want, o)
	})
	t.Run("an order is claimed once in a while, and only when left", func(t *testing.T) {
		none, err := s.Claim(deadline(t), time.Hour, 10)
		require.NoError(t, err)
		require.Empty(t, none)
		time.Sleep(20 * time.Millisecond)
		mine, err := s.Claim(deadline(t), 10*time.Millisecond, 10)
		require.NoError(t, err)
		require.Len(t, mine, 1)
		require.Equal(t, wanted.ID, mine[0].ID)
		require.Len(t, mine[0].Items, 2)
		again, err := s.Claim(deadline(t), 5*time.Second, 10)
		require.NoError(t, err)
		require.Empty(t, again)
	})
	t.Run("the first to settle an order wins", func(t *testing.T) {
		status, err := s.Settle(deadline(t), wanted.ID, orders.Confirmed)
		require.NoError(t, err)
		require.Equal(t, orders.Confirmed, status)
		status, err = s.Settle(deadline(t), wanted.ID, orders.OutOfStock)
		require.NoError(t, err)
		require.Equal(t, orders.Confirmed, status)
		left, err := s.Claim(deadline(t), 0, 10)
		require.NoError(t, err)
		require.Empty(t, left)
	})
}
