package orders_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
)

func order(id, customer string, items ...orders.Item) *orders.Order {
	return &orders.Order{ID: id, CustomerID: customer, Items: items}
}

func item(product string, quantity int) orders.Item {
	return orders.Item{ProductID: product, Quantity: quantity}
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return fail.From(err).Word()
}

func TestAnOrderIsPricedReservedPaidAndConfirmed(t *testing.T) {
	s := newShop(t)
	o, created, err := s.Create(t.Context(), order("o-1", "c-0001", item("p-0002", 2), item("p-0001", 3)))
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, orders.Confirmed, o.Status)
	require.Equal(t, int64(800), o.TotalCents)
	require.Equal(t, []orders.Item{{ProductID: "p-0001", Quantity: 3, UnitCents: 100}, {ProductID: "p-0002", Quantity: 2, UnitCents: 250}}, o.Items)
	paid, _ := s.payments.Payment("o-1")
	require.Equal(t, payments.Taken, paid.State)
	require.Equal(t, int64(800), paid.AmountCents)
	require.Regexp(t, `^tok_[0-9a-f]{32}$`, paid.CardToken)
	require.Equal(t, map[string]int{"order.confirmed o-1": 1}, s.noted.events)

	again, created, err := s.Create(t.Context(), order("o-1", "c-0001", item("p-0001", 3), item("p-0002", 2)))
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, o, again)
	require.Equal(t, 1, s.wire.count("Charge"))
	require.Equal(t, 1, s.wire.count("Reserve"))

	read, err := s.Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, o, read)
}

func TestRefusedOrdersStayRefused(t *testing.T) {
	cases := []struct {
		name     string
		order    *orders.Order
		reason   string
		payments int
	}{
		{"not enough in stock: nothing is charged", order("o", "c-0001", item("p-0001", 1), item("p-0040", 6)), "out_of_stock", 0},
		{"a declined card: the stock is given back", order("o", "c-0050", item("p-0040", 5)), "payment_declined", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			for range 3 {
				o, created, err := s.Create(t.Context(), c.order)
				require.Nil(t, o)
				require.False(t, created)
				require.Equal(t, c.reason, reason(err))
				require.False(t, fail.IsFailure(fail.From(err).Code))
			}
			require.Equal(t, c.payments, s.wire.count("Charge"))
			require.Empty(t, s.inventory.Held("o"))
			stock, _, _ := s.inventory.Stock(t.Context(), "p-0040")
			require.Equal(t, int64(5), stock.Stock)
			kept, err := s.Order(t.Context(), "o")
			require.NoError(t, err)
			require.Equal(t, c.reason, string(kept.Status))
		})
	}
}

func TestWhatIsNoOrderIsRefusedBeforeAnythingIsAsked(t *testing.T) {
	many := make([]orders.Item, 21)
	cases := []struct {
		name  string
		order *orders.Order
		says  string
	}{
		{"no id", order("", "c-0001", item("p-0001", 1)), "orderId: wants"},
		{"an id with a space", order("a b", "c-0001", item("p-0001", 1)), "orderId: wants"},
		{"an id too long", order(strings.Repeat("a", 65), "c-0001", item("p-0001", 1)), "orderId: wants"},
		{"no customer", order("o", "", item("p-0001", 1)), "customerId"},
		{"no items", order("o", "c-0001"), "items: wants 1 to 20"},
		{"too many items", order("o", "c-0001", many...), "items: wants 1 to 20"},
		{"no product", order("o", "c-0001", item("", 1)), "productId"},
		{"nothing of it", order("o", "c-0001", item("p-0001", 0)), "quantity must be 1 to 100"},
		{"less than nothing", order("o", "c-0001", item("p-0001", -1)), "quantity must be 1 to 100"},
		{"too much of it", order("o", "c-0001", item("p-0001", 101)), "quantity must be 1 to 100"},
		{"a product twice", order("o", "c-0001", item("p-0001", 1), item("p-0002", 1), item("p-0001", 1)), "p-0001 is there twice"},
		{"a strange configuration", &orders.Order{ID: "o", CustomerID: "c-0001", ConfigurationID: "ü", Items: []orders.Item{item("p-0001", 1)}}, "configurationId"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newShop(t)
			_, _, err := s.Create(t.Context(), c.order)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, codes.InvalidArgument, fail.From(err).Code)
			require.Empty(t, s.wire.calls)
		})
	}
}

func TestUnknownCustomersAndProductsLeaveNoOrder(t *testing.T) {
	s := newShop(t)
	_, _, err := s.Create(t.Context(), order("o", "c-9999", item("p-0001", 1)))
	require.Equal(t, "customer_not_found", reason(err))
	_, _, err = s.Create(t.Context(), order("o", "c-0001", item("p-9999", 1)))
	require.Equal(t, "product_not_found", reason(err))
	_, err = s.Order(t.Context(), "o")
	require.Equal(t, "order_not_found", reason(err))
	require.Zero(t, s.wire.count("Reserve"))
}

func TestAnIDIsNotUsedForTwoOrders(t *testing.T) {
	s := newShop(t)
	_, _, err := s.Create(t.Context(), order("o", "c-0001", item("p-0001", 1)))
	require.NoError(t, err)
	for _, other := range []*orders.Order{
		order("o", "c-0001", item("p-0001", 2)),
		order("o", "c-0001", item("p-0002", 1)),
		order("o", "c-0050", item("p-0001", 1)),
		{ID: "o", CustomerID: "c-0001", ConfigurationID: "cfg-1", Items: []orders.Item{item("p-0001", 1)}},
	} {
		_, _, err := s.Create(t.Context(), other)
		require.Equal(t, "order_conflict", reason(err))
	}
	require.Equal(t, 1, s.wire.count("Charge"))
}

func TestManyRepetitionsAtOnceMakeOneOrder(t *testing.T) {
	s := newShop(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	created := 0
	for range 20 {
		all.Go(func() {
			o, mine, err := s.Create(context.Background(), order("o", "c-0001", item("p-0040", 1)))
			if err != nil || o.Status != orders.Confirmed {
				t.Errorf("order %v, error %v", o, err)
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
	stock, _, _ := s.inventory.Stock(t.Context(), "p-0040")
	require.Equal(t, int64(4), stock.Stock)
}

// A step that fails, before it was done or after, leaves an order that the same
// request brings to its end.
func TestARepetitionGoesOnWhereAFailureLeftTheOrder(t *testing.T) {
	for _, customer := range []string{"c-0001", "c-0050"} {
		for _, call := range []string{"GetCustomer", "GetProducts", "Reserve", "Charge", "Release"} {
			for _, when := range []string{"before", "after"} {
				if call == "Release" && customer == "c-0001" {
					continue // nothing to give back
				}
				t.Run(customer+" "+when+" "+call, func(t *testing.T) {
					s := newShop(t)
					lose := func(c string) error {
						if c == call {
							return errLost
						}
						return nil
					}
					if when == "before" {
						s.wire.before = lose
					} else {
						s.wire.after = lose
					}
					_, _, err := s.Create(t.Context(), order("o", customer, item("p-0040", 2)))
					require.ErrorIs(t, err, errLost)
					require.Equal(t, "order-processing>somewhere", fail.From(err).Chain(orders.Name))
					s.wire.before, s.wire.after = nil, nil
					settled(t, s, "o", customer)
				})
			}
		}
	}
}

func settled(t *testing.T, s *shop, id, customer string) {
	t.Helper()
	_, _, err := s.Create(t.Context(), order(id, customer, item("p-0040", 2)))
	paid, there := s.payments.Payment(id)
	require.True(t, there)
	stock, _, _ := s.inventory.Stock(t.Context(), "p-0040")
	if customer == "c-0050" {
		require.Equal(t, "payment_declined", reason(err))
		require.Equal(t, payments.Declined, paid.State)
		require.Equal(t, int64(5), stock.Stock)
		return
	}
	require.NoError(t, err)
	require.Equal(t, payments.Taken, paid.State)
	require.Equal(t, int64(3), stock.Stock)
}

func TestAClientThatGoesDoesNotStopItsOrder(t *testing.T) {
	s := newShop(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.wire.after = func(call string) error {
		if call == "Reserve" {
			cancel()
		}
		return nil
	}
	_, _, err := s.Create(ctx, order("o", "c-0001", item("p-0001", 1)))
	require.NoError(t, err)
}

func TestOrdersLeftPendingAreFinishedWithoutTheirClient(t *testing.T) {
	s := newShop(t)
	s.wire.after = func(call string) error {
		if call == "Charge" {
			return errLost
		}
		return nil
	}
	_, _, err := s.Create(t.Context(), order("paid", "c-0001", item("p-0001", 1)))
	require.ErrorIs(t, err, errLost)
	_, _, err = s.Create(t.Context(), order("declined", "c-0050", item("p-0001", 1)))
	require.ErrorIs(t, err, errLost)
	s.wire.after = nil
	orders.RecoverNow(t.Context(), s.Service)
	for _, o := range s.orders.All() {
		require.Equal(t, map[string]orders.Status{"paid": orders.Confirmed, "declined": orders.PaymentDeclined}[o.ID], o.Status)
	}
}

// Whatever gets lost, and however many try at once: in the end every order has
// stock and payment exactly as its status says, and no piece is sold twice.
func TestNoOrderIsLostOrDoubledUnderRandomFailures(t *testing.T) {
	for seed := range uint64(40) {
		s := newShop(t)
		var mu sync.Mutex
		r := rand.New(rand.NewPCG(seed, 7))
		lose := func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if r.Float64() < 0.25 {
				return errLost
			}
			return nil
		}
		s.wire.before, s.wire.after = lose, lose
		acknowledged := placeAtOnce(s)
		s.wire.before, s.wire.after = nil, nil
		orders.RecoverNow(t.Context(), s.Service)
		checkLedger(t, s, acknowledged)
	}
}

// placeAtOnce places 12 orders for unique items, each by two clients that give
// up after three tries, and returns the ids that were confirmed to someone.
func placeAtOnce(s *shop) []string {
	var all sync.WaitGroup
	var mu sync.Mutex
	var acknowledged []string
	for n := range 24 {
		all.Go(func() {
			id := fmt.Sprintf("o-%d", n/2)
			customer := []string{"c-0001", "c-0050", "c-0001"}[n/2%3]
			for range 3 {
				_, _, err := s.Create(context.Background(), order(id, customer, item("p-0040", 1), item("p-0001", 2)))
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, id)
					mu.Unlock()
				}
				if !errors.Is(err, errLost) {
					return
				}
			}
		})
	}
	all.Wait()
	return acknowledged
}

func checkLedger(t *testing.T, s *shop, acknowledged []string) {
	t.Helper()
	sold := int64(0)
	confirmed := map[string]bool{}
	for _, o := range s.orders.All() {
		paid, there := s.payments.Payment(o.ID)
		held := s.inventory.Held(o.ID)
		switch o.Status {
		case orders.Confirmed:
			confirmed[o.ID] = true
			require.Equal(t, payments.Taken, paid.State, o.ID)
			require.Equal(t, o.TotalCents, paid.AmountCents, o.ID)
			require.Len(t, held, 2, o.ID)
			sold++
		case orders.PaymentDeclined:
			require.Equal(t, payments.Declined, paid.State, o.ID)
			require.Empty(t, held, o.ID)
		case orders.OutOfStock:
			require.False(t, there, o.ID)
			require.Empty(t, held, o.ID)
		default:
			t.Fatalf("order %s is %s", o.ID, o.Status)
		}
	}
	stock, _, _ := s.inventory.Stock(t.Context(), "p-0040")
	require.Equal(t, 5-sold, stock.Stock)
	require.LessOrEqual(t, sold, int64(5))
	for _, id := range slices.Compact(acknowledged) {
		require.True(t, confirmed[id], "%s was acknowledged", id)
	}
}
