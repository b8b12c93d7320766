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
	t.Run("what expires is given back, and taken again if it can be", func(t *testing.T) { expires(t, s) })
	t.Run("what is asked for again does not expire", func(t *testing.T) { prolonged(t, s) })
	t.Run("what is sold is neither given back nor expires", func(t *testing.T) { committed(t, s) })
}

// keep is longer than any conduct takes.
const keep = time.Hour

func reserve(t *testing.T, s inventory.Store, order string, keep time.Duration, items ...inventory.Item) inventory.Reservation {
	t.Helper()
	r, err := s.Reserve(deadline(t), order, items, keep)
	require.NoError(t, err)
	return r
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
			r, err := s.Reserve(deadline(t), "twice", []inventory.Item{{ProductID: "p-0001", Quantity: 3}}, keep)
			if err != nil || r.State != inventory.Reserved || len(r.ShortOf) != 0 || time.Until(r.HeldUntil) < keep/2 {
				t.Errorf("reservation %+v, error %v", r, err)
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
		r := reserve(t, s, "too-much", keep, items...)
		require.Equal(t, inventory.Refused, r.State)
		require.ElementsMatch(t, []string{"p-0040", "p-none"}, r.ShortOf)
		require.True(t, r.HeldUntil.IsZero())
	}
	require.Equal(t, before, pieces(t, s, "p-0002"))
	require.Equal(t, int64(5), pieces(t, s, "p-0040"))
}

func refusalIsKept(t *testing.T, s inventory.Store) {
	ctx := deadline(t)
	all := inventory.Item{ProductID: "p-0040", Quantity: 5}
	one := inventory.Item{ProductID: "p-0040", Quantity: 1}
	require.Equal(t, inventory.Reserved, reserve(t, s, "all-five", keep, all).State)
	require.Equal(t, inventory.Refused, reserve(t, s, "late", keep, one).State)
	_, err := s.Release(ctx, "all-five")
	require.NoError(t, err)
	require.Equal(t, inventory.Refused, reserve(t, s, "late", keep, one).State)
	state, err := s.Release(ctx, "late")
	require.NoError(t, err)
	require.Equal(t, inventory.Refused, state)
	require.Equal(t, int64(5), pieces(t, s, "p-0040"))
}

func releaseOnce(t *testing.T, s inventory.Store) {
	before := pieces(t, s, "p-0003")
	four := inventory.Item{ProductID: "p-0003", Quantity: 4}
	reserve(t, s, "given-back", keep, four)
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
	require.Equal(t, inventory.Released, reserve(t, s, "given-back", keep, four).State, "what was given back is not taken again under the same id")
	state, err := s.Release(deadline(t), "never-reserved")
	require.NoError(t, err)
	require.Equal(t, inventory.None, state)
}

func neverOversold(t *testing.T, s inventory.Store) {
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[inventory.State]int{}
	for n := range 40 {
		all.Go(func() {
			r, err := s.Reserve(deadline(t), fmt.Sprintf("rush-%d", n), []inventory.Item{{ProductID: "p-0080", Quantity: 1}}, keep)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			got[r.State]++
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
			if _, err := s.Reserve(deadline(t), order, items, keep); err != nil {
				t.Error(err)
			}
			if _, err := s.Release(deadline(t), order); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// lapse is so short that it is over at once.
const lapse = time.Millisecond

func expires(t *testing.T, s inventory.Store) {
	ctx := deadline(t)
	before := pieces(t, s, "p-0001")
	two := inventory.Item{ProductID: "p-0001", Quantity: 2}
	reserve(t, s, "lapsed", lapse, two)
	require.Equal(t, before-2, pieces(t, s, "p-0001"))
	time.Sleep(20 * time.Millisecond)
	none, err := s.Overdue(ctx, time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, none)
	state, err := s.Expire(ctx, "lapsed", time.Hour)
	require.NoError(t, err)
	require.Equal(t, inventory.Reserved, state, "it is not overdue for so long")

	ids, err := s.Overdue(ctx, 0, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"lapsed"}, ids)
	var all sync.WaitGroup
	for range 6 { // as many pods may look at once
		all.Go(func() {
			state, err := s.Expire(deadline(t), "lapsed", 0)
			if err != nil || state != inventory.Expired {
				t.Errorf("state %q, error %v", state, err)
			}
		})
	}
	all.Wait()
	require.Equal(t, before, pieces(t, s, "p-0001"))
	notHeld, err := s.Commit(ctx, []string{"lapsed"})
	require.NoError(t, err)
	require.Equal(t, []string{"lapsed"}, notHeld)

	require.Equal(t, inventory.Reserved, reserve(t, s, "lapsed", keep, two).State)
	require.Equal(t, before-2, pieces(t, s, "p-0001"))
	_, err = s.Release(ctx, "lapsed")
	require.NoError(t, err)

	five := inventory.Item{ProductID: "p-0040", Quantity: 5}
	reserve(t, s, "lapsed-for-good", lapse, five, two)
	time.Sleep(20 * time.Millisecond)
	_, err = s.Expire(ctx, "lapsed-for-good", 0)
	require.NoError(t, err)
	reserve(t, s, "quicker", keep, inventory.Item{ProductID: "p-0040", Quantity: 1})
	require.Equal(t, inventory.Expired, reserve(t, s, "lapsed-for-good", keep, five, two).State, "all of it or none")
	require.Equal(t, before, pieces(t, s, "p-0001"))
	state, err = s.Release(ctx, "lapsed-for-good")
	require.NoError(t, err)
	require.Equal(t, inventory.Expired, state)
	_, err = s.Release(ctx, "quicker")
	require.NoError(t, err)
	require.Equal(t, int64(5), pieces(t, s, "p-0040"))
}

func prolonged(t *testing.T, s inventory.Store) {
	one := inventory.Item{ProductID: "p-0002", Quantity: 1}
	reserve(t, s, "prolonged", lapse, one)
	time.Sleep(20 * time.Millisecond)
	require.Greater(t, time.Until(reserve(t, s, "prolonged", keep, one).HeldUntil), keep/2)
	state, err := s.Expire(deadline(t), "prolonged", 0)
	require.NoError(t, err)
	require.Equal(t, inventory.Reserved, state)
}

func committed(t *testing.T, s inventory.Store) {
	ctx := deadline(t)
	before := pieces(t, s, "p-0003")
	three := inventory.Item{ProductID: "p-0003", Quantity: 3}
	reserve(t, s, "sold", lapse, three)
	for range 2 {
		notHeld, err := s.Commit(ctx, []string{"sold", "never-reserved"})
		require.NoError(t, err)
		require.Equal(t, []string{"never-reserved"}, notHeld)
	}
	time.Sleep(20 * time.Millisecond)
	state, err := s.Expire(ctx, "sold", 0)
	require.NoError(t, err)
	require.Equal(t, inventory.Committed, state)
	state, err = s.Release(ctx, "sold")
	require.NoError(t, err)
	require.Equal(t, inventory.Committed, state)
	require.Equal(t, inventory.Committed, reserve(t, s, "sold", keep, three).State)
	require.Equal(t, before-3, pieces(t, s, "p-0003"))
}
