package payments_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

func TestAnOrderIsChargedOnce(t *testing.T) {
	store := shoptest.NewPayments()
	key := []byte("first")
	g := payments.New(store, func() []byte { return key }).GRPC()
	charge := func(order string, cents int64, card string) (shopapi.PaymentState, codes.Code) {
		out, err := g.Charge(t.Context(), &shopapi.ChargeRequest{OrderId: order, AmountCents: cents, CardReference: card})
		if err != nil {
			return 0, fail.From(err).Code
		}
		return out.GetState(), codes.OK
	}
	taken, declined := shopapi.PaymentState_PAYMENT_STATE_TAKEN, shopapi.PaymentState_PAYMENT_STATE_DECLINED
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
			state, code := charge(c.order, c.cents, c.card)
			require.Equal(t, c.code, code)
			require.Equal(t, c.state, state)
		})
	}
	kept, _ := store.Payment("a")
	require.Regexp(t, "^tok_[0-9a-f]{32}$", kept.CardToken)
	charge("same card", 1, "card-1")
	same, _ := store.Payment("same card")
	require.Equal(t, kept.CardToken, same.CardToken)
	key = []byte("second")
	charge("rotated key", 1, "card-1")
	rotated, _ := store.Payment("rotated key")
	require.NotEqual(t, kept.CardToken, rotated.CardToken)
}
