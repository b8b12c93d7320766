package stack

import (
	"testing"

	"github.com/stretchr/testify/require"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

func TestTheShopsPoliciesAuthorizeBeforeTheyGuard(t *testing.T) {
	all, err := shopPolicies(newBench(t).Env)
	require.NoError(t, err)
	callers, guarded := map[string][]any{}, 0
	for _, u := range all {
		require.Equal(t, NamespaceShop, u.GetNamespace())
		switch u.GetKind() {
		case "Server":
			guarded++
		case "MeshTLSAuthentication":
			require.Zero(t, guarded, "a Server without an authorization lets nobody in")
			callers[u.GetName()] = at(t, u, "spec", "identityRefs").([]any)
		default:
			require.Zero(t, guarded)
		}
	}
	require.Equal(t, len(shopchart.Services())+1, guarded, "each service, and their admin port")
	require.Equal(t, []any{map[string]any{"kind": "ServiceAccount", "name": "order-processing"}}, callers["payment-gateway-callers"])
}
