package stack

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	injectorPath = "/apis/apps/v1/namespaces/linkerd/deployments/" + meshInjector
	configPath   = "/api/v1/namespaces/linkerd/configmaps/" + meshConfig
)

// published is what the chart's release leaves of the injector: the values that
// it mounts, and its own pods' log level.
func (b *bench) published(values, logLevel string) {
	b.cluster.put(configPath, object{"kind": "ConfigMap", "apiVersion": "v1",
		"metadata": object{"name": meshConfig, "namespace": NamespaceMesh}, "data": object{"values": values}})
	path, injector := workloadReady("Deployment", NamespaceMesh, meshInjector)
	injector["spec"].(object)["template"] = object{"spec": object{"containers": []any{
		object{"name": ProxyContainer, "env": []any{object{"name": "LINKERD2_PROXY_LOG", "value": logLevel}}},
	}}}
	b.cluster.put(path, injector)
}

func (b *bench) restarts() (n int) {
	for _, call := range b.cluster.log {
		if strings.HasPrefix(call, "PATCH "+injectorPath) {
			n++
		}
	}
	return n
}

func TestTheInjectorIsRestartedWhenItsValuesChangeAndItsPodsDoNot(t *testing.T) {
	for name, tc := range map[string]struct {
		values, logLevel string
		restarts         int
	}{
		"an upgrade that changes nothing disturbs nobody":            {"proxy: {waitBeforeExitSeconds: 0}", "info", 0},
		"a value of the data plane alone leaves the injector's pods": {"proxy: {waitBeforeExitSeconds: 10}", "info", 1},
		"a value of every proxy's rolls the injector as it is":       {"proxy: {logLevel: debug}", "debug", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.namespace("kube-system", object{})
			b.published("proxy: {waitBeforeExitSeconds: 0}", "info")
			b.releases.onPut = func(release string) {
				if release == linkerdControlPlane {
					b.published(tc.values, tc.logLevel)
				}
			}
			require.NoError(t, mesh{}.Install(t.Context(), b.Env))
			require.Equal(t, []string{"put linkerd/linkerd-crds", "put linkerd/linkerd-control-plane"}, b.releases.calls)
			require.Equal(t, tc.restarts, b.restarts())
		})
	}
}

func TestAnInjectorThatIsNewIsNotRestarted(t *testing.T) {
	b := newBench(t)
	b.namespace("kube-system", object{})
	b.releases.onPut = func(string) { b.published("proxy: {waitBeforeExitSeconds: 10}", "info") }
	require.NoError(t, mesh{}.Install(t.Context(), b.Env))
	require.Zero(t, b.restarts())
}

func TestAnInjectorThatCannotBeRestartedFailsTheUpgrade(t *testing.T) {
	b := newBench(t)
	b.namespace("kube-system", object{})
	b.published("proxy: {}", "info")
	b.cluster.fails = func(method, path string) string {
		if method == "PATCH" && path == injectorPath {
			return "no"
		}
		return ""
	}
	b.releases.onPut = func(string) { b.published("proxy: {cores: 2}", "info") }
	require.ErrorContains(t, mesh{}.Install(t.Context(), b.Env), "restart: patch deployment linkerd/linkerd-proxy-injector")
}
