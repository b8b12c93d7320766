package proxy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy"
)

func TestCoresAreAWholeNumberOrAll(t *testing.T) {
	for text, want := range map[string]int{"": 0, "0": 0, "1": 1, "16": 16} {
		c, err := proxy.FromEnv(only(contract.EnvCores, text))
		require.Equal(t, want, c.Cores, text)
		require.NotContains(t, err.Error(), contract.EnvCores)
	}
	for _, text := range []string{"-1", "1.5", "two", "70000"} {
		_, err := proxy.FromEnv(only(contract.EnvCores, text))
		require.ErrorContains(t, err, contract.EnvCores+": ", text)
	}
}

func TestTheProxysOwnProbesAreLetIn(t *testing.T) {
	c, _ := proxy.FromEnv(only(contract.EnvProbes, "8081/healthz"))
	require.Equal(t, []policy.Probe{{Port: 8081, Path: "/healthz"}, {Port: 4191, Path: "/live"}, {Port: 4191, Path: "/ready"}}, c.Policy.Probes)
}

// only is an environment of one variable; what else is needed is reported as missing.
func only(name, value string) func(string) string {
	return func(n string) string {
		if n == name {
			return value
		}
		return ""
	}
}
