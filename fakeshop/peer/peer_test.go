package peer

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakeshop/fail"
)

// A new method is sent again only when its proto says that it may be.
func TestOnlyWhatItsProtoDeclaresIdempotentIsSentAgain(t *testing.T) {
	again := map[string]bool{}
	for _, m := range idempotentMethods() {
		again[m.Service+"/"+m.Method] = true
	}
	require.True(t, again["shop.v1.InventoryManagement/Reserve"])
	require.True(t, again["shop.v1.PaymentGateway/Charge"])
	require.True(t, again["shop.v1.AnalyticsService/RecordAll"])
	require.False(t, again["shop.v1.AnalyticsService/Record"], "it may make an id of its own")
	require.Len(t, again, 20)

	config, err := serviceConfig(1)
	require.NoError(t, err)
	require.True(t, json.Valid([]byte(config)))
	require.Contains(t, config, `"maxAttempts": 2`)
	config, err = serviceConfig(0)
	require.NoError(t, err)
	require.Equal(t, "{}", config)
	_, err = Dialer{Retries: 4, Namespace: "shop"}.Dial("product-catalog")
	require.NoError(t, err, "gRPC takes the config")
}

func TestAttemptsAreReadFromWhoeverKnowsThem(t *testing.T) {
	cases := []struct {
		name    string
		err     error
		trailer metadata.MD
		want    int
	}{
		{"one", nil, nil, 1},
		{"a good one that was not the first", nil, metadata.Pairs("x-shop-attempt", "2"), 2},
		{"several in vain", status.Error(codes.Unavailable, "max retries exhausted: failed after 3 attempts: rpc error: EOF"), nil, 3},
		{"one in vain", status.Error(codes.Unavailable, "EOF"), nil, 1},
		{"nonsense", nil, metadata.Pairs("x-shop-attempt", "many"), 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, attempts(c.err, c.trailer)) })
	}
}

func TestAnErrorSaysWhere(t *testing.T) {
	gone := status.Error(codes.Unavailable, "gone")
	err := explain("inventory-management", gone, nil)
	require.Equal(t, "order-processing>inventory-management", fail.From(err).Chain("order-processing"))
	require.Equal(t, "calling inventory-management: gone", err.Error())
	err = explain("inventory-management", gone, metadata.Pairs("x-shop-hop", "inventory-management>postgres", "x-shop-failed-pod", "i-0", "x-shop-reason", "r"))
	require.Equal(t, "order-processing>inventory-management>postgres", fail.From(err).Chain("order-processing"))
	require.Equal(t, "i-0", fail.From(err).Pod)
	require.Equal(t, "r", fail.From(err).Word())
	var f *fail.Error
	require.True(t, errors.As(explain("inventory-management", status.Error(codes.NotFound, "none"), nil), &f))
	require.Empty(t, f.Hops, "a business answer failed nowhere")
}
