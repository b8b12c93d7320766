package shoptest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/analytics"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
)

// PaymentsConduct holds a store to one payment an order, which at most a refund
// replaces.
func PaymentsConduct(t *testing.T, s payments.Store) {
	keep := func(p payments.Payment) payments.Payment {
		kept, err := s.Keep(deadline(t), p)
		require.NoError(t, err)
		return kept
	}
	first := payments.Payment{OrderID: "paid", AmountCents: 100, State: payments.Taken, CardToken: "tok_a"}
	require.Equal(t, first, keep(first))
	require.Equal(t, first, keep(payments.Payment{OrderID: "paid", AmountCents: 200, State: payments.Declined, CardToken: "tok_b"}))
	refund := payments.Payment{OrderID: "paid", State: payments.Refunded}
	refunded := first
	refunded.State = payments.Refunded
	for range 2 {
		require.Equal(t, refunded, keep(refund))
	}
	require.Equal(t, refunded, keep(first), "it is not taken again")

	declined := payments.Payment{OrderID: "declined", AmountCents: 100, State: payments.Declined, CardToken: "tok_a"}
	require.Equal(t, declined, keep(declined))
	require.Equal(t, declined, keep(payments.Payment{OrderID: "declined", State: payments.Refunded}))
	never := payments.Payment{OrderID: "never-paid", State: payments.Refunded}
	require.Equal(t, never, keep(never))
	require.Equal(t, never, keep(payments.Payment{OrderID: "never-paid", AmountCents: 100, State: payments.Taken, CardToken: "tok_a"}))
}

// BookConduct holds a provider's book to one charge a key, which at most a void
// replaces.
func BookConduct(t *testing.T, b payments.Book) {
	enter := func(c payments.Charge) payments.Charge {
		kept, err := b.Enter(deadline(t), c)
		require.NoError(t, err)
		return kept
	}
	first := payments.Charge{Key: "k", AmountCents: 100, State: payments.Captured, CardToken: "tok_a"}
	require.Equal(t, first, enter(first))
	require.Equal(t, first, enter(payments.Charge{Key: "k", AmountCents: 300, State: payments.Refused, CardToken: "tok_b"}))
	voided := first
	voided.State = payments.Voided
	for range 2 {
		require.Equal(t, voided, enter(payments.Charge{Key: "k", State: payments.Voided}))
	}
	require.Equal(t, voided, enter(first))
	refused := payments.Charge{Key: "refused", AmountCents: 100, State: payments.Refused, CardToken: "tok_a"}
	require.Equal(t, refused, enter(refused))
	require.Equal(t, refused, enter(payments.Charge{Key: "refused", State: payments.Voided}))
}

// OrdersConduct holds a store to orders that are written once, go forward only
// and are settled once.
func OrdersConduct(t *testing.T, s orders.Store) {
	t.Run("an unknown order is nil", func(t *testing.T) {
		o, err := s.Order(deadline(t), "o-none")
		require.NoError(t, err)
		require.Nil(t, o)
		found, err := s.Statuses(deadline(t), []string{"o-none"})
		require.NoError(t, err)
		require.Empty(t, found)
	})
	t.Run("of many that begin an order one creates it", func(t *testing.T) { begunOnce(t, s) })
	t.Run("an order is claimed once in a while, and only when left", func(t *testing.T) { claimedOnce(t, s) })
	t.Run("an order goes forward only", func(t *testing.T) { goesForward(t, s) })
	t.Run("the first to settle an order wins", func(t *testing.T) { settledOnce(t, s) })
	t.Run("an order that is going to be cancelled is not confirmed", func(t *testing.T) { decided(t, s) })
	t.Run("an order is not confirmed when its stock is kept no longer", func(t *testing.T) { tooLate(t, s) })
	t.Run("an event is written with its order and taken once in a while", func(t *testing.T) { toldOnce(t, s) })
}

func newOrder(id string) *orders.Order {
	return &orders.Order{ID: id, CustomerID: "c-0001", TotalCents: 700, ConfigurationID: "cfg-1", Items: []orders.Item{
		{ProductID: "p-0001", Quantity: 2, UnitCents: 100}, {ProductID: "p-0002", Quantity: 1, UnitCents: 500}}}
}

func begin(t *testing.T, s orders.Store, id string) *orders.Order {
	t.Helper()
	o, created, err := s.Begin(deadline(t), newOrder(id))
	require.NoError(t, err)
	require.True(t, created)
	return o
}

func confirmed(o *orders.Order) orders.Outcome {
	return orders.Outcome{Status: orders.Confirmed, HeldUntil: time.Now().Add(time.Hour),
		Event: orders.Event{ID: "order.confirmed:" + o.ID, Kind: "order.confirmed", OrderID: o.ID, ProductIDs: []string{"p-0001", "p-0002"}}}
}

func cancelled(o *orders.Order, why orders.Reason) orders.Outcome {
	return orders.Outcome{Status: orders.Cancelled, Reason: why,
		Event: orders.Event{ID: string(why) + ":" + o.ID, Kind: "order." + string(why), OrderID: o.ID, ProductIDs: []string{"p-0001"}}}
}

func settle(t *testing.T, s orders.Store, o *orders.Order, end orders.Outcome) bool {
	t.Helper()
	mine, err := s.Settle(deadline(t), o, end)
	require.NoError(t, err)
	return mine
}

func standsAt(t *testing.T, s orders.Store, id string, status orders.Status, why orders.Reason) {
	t.Helper()
	o, err := s.Order(deadline(t), id)
	require.NoError(t, err)
	require.Equal(t, status, o.Status)
	require.Equal(t, why, o.Reason)
	found, err := s.Statuses(deadline(t), []string{id, "o-none"})
	require.NoError(t, err)
	require.Equal(t, map[string]orders.Status{id: status}, found)
}

func begunOnce(t *testing.T, s orders.Store) {
	var all sync.WaitGroup
	var mu sync.Mutex
	created := 0
	for range 8 {
		all.Go(func() {
			o, mine, err := s.Begin(deadline(t), newOrder("o-begun"))
			if err != nil || o.Status != orders.Placed || len(o.Items) != 2 || o.TotalCents != 700 {
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
	o, err := s.Order(deadline(t), "o-begun")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), o.CreatedAt, time.Minute)
	o.CreatedAt = time.Time{}
	want := newOrder("o-begun")
	want.Status = orders.Placed
	require.Equal(t, want, o)
}

func claimedOnce(t *testing.T, s orders.Store) {
	none, err := s.Claim(deadline(t), time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, none)
	time.Sleep(20 * time.Millisecond)
	mine, err := s.Claim(deadline(t), 10*time.Millisecond, 10)
	require.NoError(t, err)
	require.Len(t, mine, 1)
	require.Equal(t, "o-begun", mine[0].ID)
	require.Len(t, mine[0].Items, 2)
	again, err := s.Claim(deadline(t), 5*time.Second, 10)
	require.NoError(t, err)
	require.Empty(t, again)
}

func goesForward(t *testing.T, s orders.Store) {
	begin(t, s, "o-forward")
	for _, step := range []struct{ to, stands orders.Status }{
		{orders.Reserved, orders.Reserved}, {orders.Reserved, orders.Reserved}, {orders.Paid, orders.Paid}, {orders.Reserved, orders.Paid},
	} {
		require.NoError(t, s.Advance(deadline(t), "o-forward", step.to))
		standsAt(t, s, "o-forward", step.stands, "")
	}
	o, err := s.Order(deadline(t), "o-forward")
	require.NoError(t, err)
	require.True(t, settle(t, s, o, cancelled(o, orders.ReservationExpired)))
	require.NoError(t, s.Advance(deadline(t), "o-forward", orders.Paid))
	standsAt(t, s, "o-forward", orders.Cancelled, orders.ReservationExpired)
}

func settledOnce(t *testing.T, s orders.Store) {
	o := begin(t, s, "o-settled")
	require.True(t, settle(t, s, o, confirmed(o)))
	require.Equal(t, orders.Confirmed, o.Status)
	for _, end := range []orders.Outcome{confirmed(o), cancelled(o, orders.OutOfStock)} {
		again := newOrder("o-settled")
		require.False(t, settle(t, s, again, end))
		require.Equal(t, orders.Confirmed, again.Status)
	}
	standsAt(t, s, "o-settled", orders.Confirmed, "")
	require.NoError(t, s.Decide(deadline(t), o, orders.PaymentUnresolved))
	require.Equal(t, orders.Confirmed, o.Status)
	require.Empty(t, o.Cancelling)
	left, err := s.Claim(deadline(t), 0, 100)
	require.NoError(t, err)
	for _, l := range left {
		require.NotEqual(t, "o-settled", l.ID)
	}
}

func decided(t *testing.T, s orders.Store) {
	o := begin(t, s, "o-decided")
	other := newOrder("o-decided")
	require.NoError(t, s.Decide(deadline(t), o, orders.PaymentUnresolved))
	require.NoError(t, s.Decide(deadline(t), other, orders.ReservationExpired))
	require.Equal(t, orders.PaymentUnresolved, other.Cancelling, "the first to decide wins")
	require.False(t, settle(t, s, other, confirmed(other)))
	require.Equal(t, orders.Placed, other.Status)
	require.Equal(t, orders.PaymentUnresolved, other.Cancelling)
	read, err := s.Order(deadline(t), "o-decided")
	require.NoError(t, err)
	require.Equal(t, orders.PaymentUnresolved, read.Cancelling)
	require.True(t, settle(t, s, o, cancelled(o, orders.PaymentDeclined)))
	standsAt(t, s, "o-decided", orders.Cancelled, orders.PaymentDeclined)
}

func tooLate(t *testing.T, s orders.Store) {
	o := begin(t, s, "o-late")
	late := confirmed(o)
	late.HeldUntil = time.Now().Add(-time.Second)
	require.False(t, settle(t, s, o, late))
	require.Equal(t, orders.Placed, o.Status)
	require.True(t, settle(t, s, o, confirmed(o)))
}

func toldOnce(t *testing.T, s orders.Store) {
	ctx := deadline(t)
	all, err := s.TakeEvents(ctx, 0, 100)
	require.NoError(t, err)
	var ids []string
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	require.ElementsMatch(t, []string{"reservation_expired:o-forward", "order.confirmed:o-settled", "payment_declined:o-decided", "order.confirmed:o-late"}, ids)
	o := begin(t, s, "o-told")
	require.True(t, settle(t, s, o, confirmed(o)))
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, s.DropEvents(ctx, ids))
	mine, err := s.TakeEvents(ctx, 10*time.Millisecond, 100)
	require.NoError(t, err)
	require.Equal(t, []orders.Event{confirmed(o).Event}, mine)
	none, err := s.TakeEvents(ctx, time.Minute, 100)
	require.NoError(t, err)
	require.Empty(t, none)
	require.NoError(t, s.DropEvents(ctx, []string{mine[0].ID}))
	none, err = s.TakeEvents(ctx, 0, 100)
	require.NoError(t, err)
	require.Empty(t, none)
}

// EventsConduct holds a store to events that count once however often they are
// recorded.
func EventsConduct(t *testing.T, s analytics.Store) {
	ctx := deadline(t)
	events := []analytics.Event{
		{ID: "e-1", Kind: "order.confirmed", Subject: "o-1", ProductIDs: []string{"p-1", "p-2", "p-3"}},
		{ID: "e-2", Kind: "order.confirmed", Subject: "o-2", ProductIDs: []string{"p-2", "p-1"}},
		{ID: "e-3", Kind: "order.out_of_stock", Subject: "o-3", ProductIDs: []string{"p-1", "p-4"}},
		{ID: "e-4", Kind: "page.view", Subject: "p-1"},
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	recorded := 0
	for n := range 8 { // by many at once, and some of them within one batch
		all.Go(func() {
			batch := slices.Concat(events[:1+n%4], events[:1+n/2%4])
			got, err := s.Record(deadline(t), batch)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			recorded += got
		})
	}
	all.Wait()
	require.Equal(t, 4, recorded)
	counts, err := s.Counts(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"order.confirmed": 2, "order.out_of_stock": 1, "page.view": 1}, counts)
	together, err := s.BoughtTogether(ctx, 2)
	require.NoError(t, err)
	require.Equal(t, []analytics.Companions{
		{ProductID: "p-1", With: []string{"p-2", "p-3"}}, {ProductID: "p-2", With: []string{"p-1", "p-3"}}, {ProductID: "p-3", With: []string{"p-1", "p-2"}},
	}, together)
	together, err = s.BoughtTogether(ctx, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"p-2"}, together[0].With)
}
