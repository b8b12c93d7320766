package orders_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shoptest"
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
	paid, _ := s.payment(t, "o-1")
	require.Equal(t, payments.Taken, paid.State)
	require.Equal(t, int64(800), paid.AmountCents)
	require.Regexp(t, `^tok_[0-9a-f]{32}$`, paid.CardToken)

	again, created, err := s.Create(t.Context(), order("o-1", "c-0001", item("p-0001", 3), item("p-0002", 2)))
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, o, again)
	require.Equal(t, 1, s.Wire.Count("Charge"))
	require.Equal(t, 1, s.Wire.Count("Reserve"))

	read, err := s.Order(t.Context(), "o-1")
	require.NoError(t, err)
	require.Equal(t, o, read)
}

func TestAConfiguredProductCostsWhatItsConfigurationDoes(t *testing.T) {
	s := newShop(t)
	configured := func(id, config string, items ...orders.Item) *orders.Order {
		return &orders.Order{ID: id, CustomerID: "c-0001", ConfigurationID: config, Items: items}
	}
	o, _, err := s.Create(t.Context(), configured("o-1", "cfg-1", item("p-0001", 2), item("p-0002", 1)))
	require.NoError(t, err)
	require.Equal(t, int64(2*175+250), o.TotalCents)
	_, _, err = s.Create(t.Context(), configured("o-2", "cfg-9", item("p-0001", 1)))
	require.Equal(t, "configuration_not_found", reason(err))
	_, _, err = s.Create(t.Context(), configured("o-3", "cfg-1", item("p-0002", 1)))
	require.ErrorContains(t, err, "configuration cfg-1 is of p-0001, which is not ordered")
	require.Equal(t, codes.InvalidArgument, fail.Code(err))
	_, err = s.Order(t.Context(), "o-3")
	require.Equal(t, "order_not_found", reason(err))
}

func TestCancelledOrdersStayCancelled(t *testing.T) {
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
				require.False(t, fail.IsFailure(fail.Code(err)))
			}
			require.Equal(t, c.payments, s.Wire.Count("Charge"))
			require.Empty(t, s.held(t, "o"))
			require.Equal(t, int64(5), s.stock(t, "p-0040"))
			kept, err := s.Order(t.Context(), "o")
			require.NoError(t, err)
			require.Equal(t, orders.Cancelled, kept.Status)
			require.Equal(t, c.reason, string(kept.Reason))
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
			require.Equal(t, codes.InvalidArgument, fail.Code(err))
			require.Empty(t, s.Wire.Steps())
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
	require.Zero(t, s.Wire.Count("Reserve"))
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
	require.Equal(t, 1, s.Wire.Count("Charge"))
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
	require.Equal(t, int64(4), s.stock(t, "p-0040"))
}

// A step that fails, before it was done or after, leaves an order that the same
// request brings to its end; and the failure names its hop.
func TestARepetitionGoesOnWhereAFailureLeftTheOrder(t *testing.T) {
	for _, customer := range []string{"c-0001", "c-0050"} {
		for _, call := range []string{"GetCustomer", "GetProducts", "Reserve", "Charge", "Release"} {
			for _, fate := range []shoptest.Fate{shoptest.LostBefore, shoptest.LostAfter} {
				if call == "Release" && customer == "c-0001" {
					continue // nothing to give back
				}
				t.Run(fmt.Sprint(customer, " ", fate, " at ", call), func(t *testing.T) {
					s := newShop(t)
					s.lose(call, fate)
					_, _, err := s.Create(t.Context(), order("o", customer, item("p-0040", 2)))
					require.ErrorIs(t, err, shoptest.ErrLost)
					require.Equal(t, "order-processing>somewhere", fail.From(err).Chain(orders.Name))
					s.Wire.Decide(nil)
					settled(t, s, "o", customer)
				})
			}
		}
	}
}

func settled(t *testing.T, s *shop, id, customer string) {
	t.Helper()
	_, _, err := s.Create(t.Context(), order(id, customer, item("p-0040", 2)))
	paid, there := s.payment(t, id)
	require.True(t, there)
	if customer == "c-0050" {
		require.Equal(t, "payment_declined", reason(err))
		require.Equal(t, payments.Declined, paid.State)
		require.Equal(t, int64(5), s.stock(t, "p-0040"))
		return
	}
	require.NoError(t, err)
	require.Equal(t, payments.Taken, paid.State)
	require.Equal(t, int64(3), s.stock(t, "p-0040"))
}

func TestAnOrderCanBeSeenOnItsWay(t *testing.T) {
	cases := []struct {
		lost string
		fate shoptest.Fate
		at   orders.Status
	}{
		{"Reserve", shoptest.LostBefore, orders.Placed},
		{"Charge", shoptest.LostAfter, orders.Reserved},
	}
	for _, c := range cases {
		t.Run(string(c.at)+" when "+c.lost+" is lost", func(t *testing.T) {
			s := newShop(t)
			s.lose(c.lost, c.fate)
			_, _, err := s.Create(t.Context(), order("o", "c-0001", item("p-0001", 1)))
			require.ErrorIs(t, err, shoptest.ErrLost)
			o, err := s.Order(t.Context(), "o")
			require.NoError(t, err)
			require.Equal(t, c.at, o.Status)
			statuses, err := s.GRPC().GetStatuses(t.Context(), &shopapi.GetStatusesRequest{Ids: []string{"o", "none"}})
			require.NoError(t, err)
			require.Equal(t, map[string]string{"o": string(c.at)}, statuses.GetStatuses())
		})
	}
	t.Run("paid when its reservation ended before it was confirmed", func(t *testing.T) {
		s := newShopWith(t, shoptest.WorldOptions{Keep: time.Nanosecond})
		_, _, err := s.Create(t.Context(), order("o", "c-0001", item("p-0001", 1)))
		require.Equal(t, codes.Aborted, fail.Code(err))
		o, err := s.Order(t.Context(), "o")
		require.NoError(t, err)
		require.Equal(t, orders.Paid, o.Status)
	})
	_, err := newShop(t).GRPC().GetStatuses(t.Context(), &shopapi.GetStatusesRequest{Ids: make([]string, 501)})
	require.Equal(t, codes.InvalidArgument, fail.Code(err))
}

func TestAClientThatGoesDoesNotStopItsOrder(t *testing.T) {
	s := newShop(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Wire.Decide(func(_, step string, _ int) shoptest.Fate {
		if step == "Charge" {
			cancel()
		}
		return shoptest.Done
	})
	_, _, err := s.Create(ctx, order("o", "c-0001", item("p-0001", 1)))
	require.NoError(t, err)
}

func TestOrdersLeftUnsettledAreFinishedWithoutTheirClient(t *testing.T) {
	s := newShop(t)
	s.lose("Charge", shoptest.LostAfter)
	_, _, err := s.Create(t.Context(), order("paid", "c-0001", item("p-0001", 1)))
	require.ErrorIs(t, err, shoptest.ErrLost)
	_, _, err = s.Create(t.Context(), order("declined", "c-0050", item("p-0001", 1)))
	require.ErrorIs(t, err, shoptest.ErrLost)
	s.Wire.Decide(nil)
	require.NoError(t, s.RecoverLeft(t.Context(), 0))
	for id, o := range s.audit(t).Orders {
		require.Equal(t, map[string]orders.Status{"paid": orders.Confirmed, "declined": orders.Cancelled}[id], o.Status)
	}
}

// A pod tries its own failed orders again within seconds, and looks for those
// of others only now and then.
func TestAPodFinishesItsOwnOrdersSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go s.Recover(ctx)
		s.lose("Reserve", shoptest.LostBefore)
		_, _, err := s.Create(t.Context(), order("o", "c-0001", item("p-0001", 1)))
		require.ErrorIs(t, err, shoptest.ErrLost)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 2, s.Wire.Count("Reserve"), "the second try failed, too")
		s.Wire.Decide(nil)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		o, err := s.Order(t.Context(), "o")
		require.NoError(t, err)
		require.Equal(t, orders.Confirmed, o.Status)
		require.Zero(t, s.Wire.Count("orders.Claim"))
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 10*60/37, s.Wire.Count("orders.Claim"), 4, "an idle pod looks every 30 to 45 s")
	})
}
