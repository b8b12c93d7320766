package stack

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/topology"
)

func TestTheShopIsFittedAndTakesItsImagesFromTheBundle(t *testing.T) {
	b := newBench(t)
	b.Env.Values = map[string]map[string]any{"shop": {"drain": map[string]any{"enabled": false}, "fit": map[string]any{"cpu": 0.5}}}
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	v := b.releases.values["shop"]
	require.Equal(t, map[string]any{
		"shop":       map[string]any{"repository": "meshsim.local/fakeshop", "tag": "v1"},
		"postgres":   map[string]any{"repository": "meshsim.local/postgres", "tag": "v1", "uid": 999, "gid": 999, "major": 15},
		"pullPolicy": "IfNotPresent",
	}, v["images"])
	require.Equal(t, map[string]any{"cpu": 0.5, "memory": 0.5}, v["fit"], "what is given goes over what is reckoned")
	require.Equal(t, map[string]any{"enabled": false}, v["drain"])
	require.NotContains(t, v, "password")
	labels := b.cluster.get("/api/v1/namespaces/prod-app")["metadata"].(object)["labels"].(object)
	require.Equal(t, "privileged", labels["pod-security.kubernetes.io/enforce"], "linkerd-init needs NET_ADMIN")
}

func TestARoomyHostHoldsAReplicaOfTheDatabase(t *testing.T) {
	const secret = "/api/v1/namespaces/prod-app/secrets/postgres-replication"
	b := newBench(t)
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.Equal(t, 3, b.releases.values["shop"]["replicaLimit"])
	require.False(t, hasReplica(b.releases.values["shop"]))
	require.NotContains(t, b.cluster.paths(), secret)

	b.Env.Fit = topology.Fit{CPU: 0.5, Memory: 1}
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.NotContains(t, b.releases.values["shop"], "replicaLimit")
	require.True(t, hasReplica(b.releases.values["shop"]))
	password := b.cluster.get(secret)["data"].(object)["password"]
	require.Len(t, password, 36, "26 characters, in base64")
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.Equal(t, password, b.cluster.get(secret)["data"].(object)["password"], "it stays what it is")

	b.Env.Values = map[string]map[string]any{"shop": {"postgres": map[string]any{"replica": map[string]any{"enabled": false}}}}
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.False(t, hasReplica(b.releases.values["shop"]), "unless it is not wanted")
}

// A Deployment's selector cannot be changed, only the Deployment replaced.
func TestAShopOfAnEarlierProgramIsReplaced(t *testing.T) {
	b := newBench(t)
	b.releases.fail = []error{errors.New(`upgrade release shop: Deployment.apps "product-catalog" is invalid: spec.selector: field is immutable`)}
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	require.Equal(t, []string{"put prod-app/shop", "put prod-app/shop"}, b.releases.calls)
	b.releases.fail = []error{errors.New("no such host")}
	require.ErrorContains(t, shop{}.Install(t.Context(), b.Env), "no such host")
}

func TestPostgresMajor(t *testing.T) {
	tests := map[string]struct {
		version string
		want    int
		err     string
	}{
		"a Debian package":    {"15.14-0+deb12u1", 15, ""},
		"an official image":   {"14", 14, ""},
		"no number at all":    {"bookworm", 0, "does not begin with a number"},
		"nothing is not zero": {"", 0, "does not begin with a number"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			major, err := postgresMajor(bundle.Image{Name: "postgres", Version: tc.version})
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.want, major)
		})
	}
}

func TestTheShopIsReadyWhenItsDatabaseAndEveryVersionOfEveryServiceAre(t *testing.T) {
	b := newBench(t)
	b.Env.Values = map[string]map[string]any{"shop": {"canaries": map[string]any{"product-catalog": map[string]any{"v2": map[string]any{}, "v3": map[string]any{}}}}}
	values, err := shop{}.values(b.Env)
	require.NoError(t, err)
	require.Equal(t, []string{"product-catalog", "product-catalog-v2", "product-catalog-v3", "inventory-management"}, shopDeployments(values)[:4])
	for _, s := range shopDeployments(values) {
		b.cluster.put(workloadReady("Deployment", NamespaceShop, s))
	}
	require.Error(t, waitShortly(t, b), "not yet")
	b.cluster.put(workloadReady("StatefulSet", NamespaceShop, "postgres"))
	require.NoError(t, waitShortly(t, b))
	b.Env.Fit = topology.Fit{CPU: 1}
	require.Error(t, waitShortly(t, b), "the replica is not")
	b.cluster.put(workloadReady("StatefulSet", NamespaceShop, "postgres-replica"))
	require.NoError(t, waitShortly(t, b))
}

// waitShortly waits for the shop no longer than a test may.
func waitShortly(t *testing.T, b *bench) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	return shop{}.Ready(ctx, b.Env)
}

func TestRemovingTheShopTakesItsDataAndSecrets(t *testing.T) {
	b := newBench(t)
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	for _, claim := range shopClaims {
		b.cluster.put("/api/v1/namespaces/prod-app/persistentvolumeclaims/"+claim, object{"kind": "PersistentVolumeClaim"})
	}
	b.cluster.put("/api/v1/namespaces/prod-app/configmaps/vault-ca", object{"kind": "ConfigMap"})
	for range 2 {
		require.NoError(t, shop{}.Remove(t.Context(), b.Env))
	}
	require.Equal(t, []string{"/api/v1/namespaces/prod-app", "/api/v1/namespaces/vault/secrets/vault-tls"}, b.cluster.paths())
	require.Equal(t, []string{"put prod-app/shop", "drop prod-app/shop", "drop prod-app/shop"}, b.releases.calls)
}
