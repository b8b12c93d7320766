package stack

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/bundle"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
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

func TestTheShopIsReadyWhenItsDatabaseAndEveryServiceAre(t *testing.T) {
	b := newBench(t)
	b.cluster.put(workloadReady("StatefulSet", NamespaceShop, "postgres"))
	for _, s := range shopchart.Services() {
		b.cluster.put(workloadReady("Deployment", NamespaceShop, s))
	}
	require.NoError(t, shop{}.Ready(t.Context(), b.Env))
}

func TestRemovingTheShopTakesItsDataAndSecrets(t *testing.T) {
	b := newBench(t)
	require.NoError(t, shop{}.Install(t.Context(), b.Env))
	b.cluster.put("/api/v1/namespaces/prod-app/persistentvolumeclaims/data-postgres-0", object{"kind": "PersistentVolumeClaim"})
	b.cluster.put("/api/v1/namespaces/prod-app/configmaps/vault-ca", object{"kind": "ConfigMap"})
	for range 2 {
		require.NoError(t, shop{}.Remove(t.Context(), b.Env))
	}
	require.Equal(t, []string{"/api/v1/namespaces/prod-app", "/api/v1/namespaces/vault/secrets/vault-tls"}, b.cluster.paths())
	require.Equal(t, []string{"put prod-app/shop", "drop prod-app/shop", "drop prod-app/shop"}, b.releases.calls)
}
