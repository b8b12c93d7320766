package payments_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/behaviour"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

const (
	taken    = shopapi.PaymentState_PAYMENT_STATE_TAKEN
	declined = shopapi.PaymentState_PAYMENT_STATE_DECLINED
	refunded = shopapi.PaymentState_PAYMENT_STATE_REFUNDED
)

// gateway is a payment gateway with a fake provider, both in memory.
type gateway struct {
	shopapi.PaymentGatewayServer
	store *shoptest.Payments
	book  *shoptest.Book
	key   []byte
}

func open(c payments.ProviderConfig) *gateway {
	g := &gateway{store: shoptest.NewPayments(), book: shoptest.NewBook(), key: []byte("first")}
	g.PaymentGatewayServer = payments.New(g.store, payments.NewFakeProvider(g.book, c, "pod"), func() []byte { return g.key }).GRPC()
	return g
}

func (g *gateway) charge(ctx context.Context, order string, cents int64, card string) (shopapi.PaymentState, error) {
	out, err := g.Charge(ctx, &shopapi.ChargeRequest{OrderId: order, AmountCents: cents, CardReference: card})
	return out.GetState(), err
}

func (g *gateway) refund(ctx context.Context, order string) (shopapi.PaymentState, error) {
	out, err := g.Refund(ctx, &shopapi.RefundRequest{OrderId: order})
	return out.GetState(), err
}

func TestAnOrderIsChargedOnce(t *testing.T) {
	g := open(payments.ProviderConfig{})
	cases := []struct {
		name  string
		order string
		cents int64
		card  string
		state shopapi.PaymentState
		code  codes.Code
	}{
		{"a good card pays", "a", 100, "card-1", taken, codes.OK},
		{"again, it has paid", "a", 100, "card-1", taken, codes.OK},
		{"again with a bad card, it has paid", "a", 100, "declined-1", taken, codes.OK},
		{"another amount is another payment", "a", 200, "card-1", 0, codes.AlreadyExists},
		{"a bad card does not pay", "b", 100, "declined-1", declined, codes.OK},
		{"nor later with a good one", "b", 100, "card-1", declined, codes.OK},
		{"no order", "", 100, "card-1", 0, codes.InvalidArgument},
		{"no amount", "c", 0, "card-1", 0, codes.InvalidArgument},
		{"no card", "c", 100, "", 0, codes.InvalidArgument},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			state, err := g.charge(t.Context(), c.order, c.cents, c.card)
			require.Equal(t, c.code, fail.Code(err))
			require.Equal(t, c.state, state)
		})
	}
	kept, _ := g.store.Payment("a")
	require.Regexp(t, "^tok_[0-9a-f]{32}$", kept.CardToken)
	token := func(order string) string {
		_, err := g.charge(t.Context(), order, 1, "card-1")
		require.NoError(t, err)
		p, _ := g.store.Payment(order)
		return p.CardToken
	}
	require.Equal(t, kept.CardToken, token("same card"))
	g.key = []byte("second")
	require.NotEqual(t, kept.CardToken, token("rotated key"))
	require.Equal(t, kept.CardToken, token("same card"), "an order that is repeated keeps the token that it was paid with")
}

func TestARefundIsForGood(t *testing.T) {
	cases := []struct {
		name    string
		before  string // card, "" for none
		refund  shopapi.PaymentState
		charge  shopapi.PaymentState
		payment payments.Payment
		book    payments.ChargeState
	}{
		{"of what was taken", "card-1", refunded, refunded, payments.Payment{OrderID: "o", AmountCents: 100, State: payments.Refunded}, payments.Voided},
		{"of what was declined there is none", "declined-1", declined, declined, payments.Payment{OrderID: "o", AmountCents: 100, State: payments.Declined}, payments.Refused},
		{"before anything was taken", "", refunded, refunded, payments.Payment{OrderID: "o", State: payments.Refunded}, payments.Voided},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := open(payments.ProviderConfig{})
			if c.before != "" {
				_, err := g.charge(t.Context(), "o", 100, c.before)
				require.NoError(t, err)
			}
			for range 2 {
				state, err := g.refund(t.Context(), "o")
				require.NoError(t, err)
				require.Equal(t, c.refund, state)
				state, err = g.charge(t.Context(), "o", 100, "card-1")
				require.NoError(t, err)
				require.Equal(t, c.charge, state)
			}
			kept, _ := g.store.Payment("o")
			kept.CardToken = ""
			require.Equal(t, c.payment, kept)
			require.Equal(t, c.book, g.book.Charge("o").State)
		})
	}
	_, err := open(payments.ProviderConfig{}).refund(t.Context(), "")
	require.Equal(t, codes.InvalidArgument, fail.Code(err))
}

// A provider that takes the money and loses the answer is asked again by the
// same key, and says then what it did.
func TestAnAmbiguousPaymentIsResolvedByItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := open(payments.ProviderConfig{LostRate: 0.5, Seed: 3})
		unresolved := 0
		for n := range 200 {
			order := fmt.Sprint("o-", n)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			began := time.Now()
			state, err := g.charge(ctx, order, 100, "card-1")
			if err != nil {
				require.Equal(t, "payment_pending", fail.From(err).Word())
				require.Equal(t, codes.Unavailable, fail.Code(err))
				require.Equal(t, "payment-gateway>payment-provider", fail.From(err).Chain(payments.Name))
				require.Equal(t, 1600*time.Millisecond, time.Since(began), "two tries")
				require.Equal(t, payments.Captured, g.book.Charge(order).State, "the money is gone all the same")
				unresolved++
				for err != nil { // as the order's recovery does
					state, err = g.charge(t.Context(), order, 100, "card-1")
				}
			}
			cancel()
			require.Equal(t, taken, state)
		}
		require.InDelta(t, 50, unresolved, 25)
		require.Equal(t, 200, g.book.Len(), "one charge an order")
	})
}

func TestACallThatDoesNothingIsRepeatedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := open(payments.ProviderConfig{TimeoutRate: 1})
		began := time.Now()
		_, err := g.charge(t.Context(), "o", 100, "card-1")
		require.Equal(t, "payment_pending", fail.From(err).Word())
		require.Equal(t, 1600*time.Millisecond, time.Since(began))
		require.Zero(t, g.book.Len())
		_, err = g.refund(t.Context(), "o")
		require.Equal(t, "payment_pending", fail.From(err).Word())
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began = time.Now()
		_, err = g.charge(ctx, "o", 100, "card-1")
		require.Error(t, err)
		require.Equal(t, 300*time.Millisecond, time.Since(began), "no longer than the caller waits")
	})
}

func TestTheProviderIsAsSlowAndStrictAsItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := payments.ParseProvider(`{"latency":{"kind":"constant","p50":"100ms"},"declineRate":0.3,"seed":7}`)
		require.NoError(t, err)
		g := open(c)
		fates := map[string]shopapi.PaymentState{}
		declines := 0
		for n := range 1000 {
			order := fmt.Sprint("o-", n)
			began := time.Now()
			state, err := g.charge(t.Context(), order, 100, "card-1")
			require.NoError(t, err)
			require.Equal(t, 100*time.Millisecond, time.Since(began))
			if fates[order] = state; state == declined {
				declines++
			}
		}
		require.InDelta(t, 300, declines, 60)
		again := open(c)
		for order, fate := range fates {
			state, err := again.charge(t.Context(), order, 100, "card-1")
			require.NoError(t, err)
			require.Equal(t, fate, state, "a key's fate is its own")
		}
	})
}

func TestAWrongProviderIsRefused(t *testing.T) {
	for text, says := range map[string]string{
		`{"declineRate":2,"lostRate":-1}`: "payment provider: declineRate 2: wants 0 to 1\npayment provider: lostRate -1: wants 0 to 1",
		`{"latency":{"kind":"slow"}}`:     `payment provider: latency: kind "slow"`,
		`{"declines":1}`:                  `unknown field "declines"`,
		`{}{}`:                            "more than one JSON value",
	} {
		_, err := payments.ParseProvider(text)
		require.ErrorContains(t, err, says)
	}
	c, err := payments.ParseProvider("")
	require.NoError(t, err)
	require.Equal(t, payments.ProviderConfig{Latency: behaviour.Latency{}}, c)
}
