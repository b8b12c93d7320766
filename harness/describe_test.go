package harness

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/topology"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

func TestTheRecordNamesWhatCameInTheBundlesPlace(t *testing.T) {
	d := cache.Dir(t.TempDir())
	folder := filepath.Join(d.Bundles(), "abc")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(d.Bundles(), "current"), []byte("abc\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "bundle.json"), []byte(`{
		"apiVersion": "meshsim.dev/v1alpha1", "hash": "abc", "base": "def", "origin": "built",
		"images": [{"name": "linkerd-proxy", "ref": "registry.example/proxy:patched", "digest": "sha256:aa", "version": "patched", "origin": "pulled", "source": "registry.example/proxy:patched"},
			{"name": "vault", "ref": "meshsim.local/vault:1", "digest": "sha256:bb", "version": "1", "origin": "built"}],
		"charts": [{"name": "linkerd-crds", "version": "1.8.0", "digest": "sha256:cc", "origin": "local", "source": "./linkerd-crds"}]}`), 0o644))
	b, err := bundle.Open(d, "")
	require.NoError(t, err)
	s, err := scenarios.Load("mtls-rollout")
	require.NoError(t, err)
	run, err := describe(t.Context(), Options{
		Scenario: s, Bundle: b, Mesh: "linkerd", Cluster: &kind.Cluster{Topology: &topology.Topology{Name: "ci"}},
	}, &kube.Client{Clientset: fake.NewClientset()})
	require.NoError(t, err)
	require.Equal(t, results.Image{
		Name: "linkerd-proxy", Ref: "registry.example/proxy:patched", Digest: "sha256:aa", Version: "patched", Origin: "pulled", Source: "registry.example/proxy:patched",
	}, run.Images[0])
	require.Empty(t, run.Images[1].Source)
	require.Equal(t, []results.Chart{{Name: "linkerd-crds", Version: "1.8.0", Digest: "sha256:cc", Origin: "local", Source: "./linkerd-crds"}}, run.Charts)
}

func TestWhatAScenarioAsksOfTheShopBecomesChartValues(t *testing.T) {
	plain, err := scenarios.Load("journeys-ci")
	require.NoError(t, err)
	values := stackValues(plain)
	require.Equal(t, []string{"shop"}, slices.Collect(maps.Keys(values)))
	require.Equal(t, 0.02, values["shop"]["provider"].(map[string]any)["declineRate"])
	require.NotContains(t, values["shop"], "postgres", "whether there is a replica is for the host's room to say")
	require.Equal(t, map[string]any{"enabled": true, "seconds": 5}, values["shop"]["drain"])
	require.Equal(t, 0, values["shop"]["minReadySeconds"])

	careful, err := scenarios.Load("mtls-rollout")
	require.NoError(t, err)
	require.Equal(t, 3, stackValues(careful)["shop"]["minReadySeconds"])

	scaling, err := scenarios.Load("scale-ci")
	require.NoError(t, err)
	values = stackValues(scaling)
	require.Equal(t, map[string]any{"resolution": "15s"}, values["metrics-server"], "an autoscaler's metrics are fresh")
	require.Equal(t, map[string]any{"replica": map[string]any{"enabled": true}}, values["shop"]["postgres"])
}
