package proxy_test

import (
	"log/slog"
	"strings"
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

func TestTheLevelOfTheOwnModuleCountsBeforeTheGeneralOne(t *testing.T) {
	for text, want := range map[string]struct {
		level   slog.Level
		unknown []string
	}{
		"":                          {slog.LevelInfo, nil},
		"debug":                     {slog.LevelDebug, nil},
		"warn,linkerd=info":         {slog.LevelInfo, nil},
		"linkerd=debug,warn":        {slog.LevelDebug, nil},
		"linkerd=error,debug":       {slog.LevelError, nil},
		"warn,linkerd2_proxy=info":  {slog.LevelInfo, nil},
		"linkerd=warn,linkerd=info": {slog.LevelInfo, nil},
		"debug, error":              {slog.LevelError, nil},
		"warn,linkerd":              {slog.LevelDebug, nil},
		"WARN":                      {slog.LevelWarn, nil},
		"off":                       {slog.LevelError, nil},
		"warn,hyper=trace":          {slog.LevelWarn, nil},
		"wran":                      {slog.LevelInfo, []string{"wran"}},
		"warn,linkerd=dbug":         {slog.LevelWarn, []string{"linkerd=dbug"}},
		"warn,hyper=loud,linkerd=":  {slog.LevelWarn, []string{"hyper=loud", "linkerd="}},
	} {
		c, _ := proxy.FromEnv(only(contract.EnvLog, text))
		require.Equal(t, want.level, c.LogLevel, text)
		require.Equal(t, want.unknown, c.LogUnknown, text)
	}
}

func FuzzTheLogFilter(f *testing.F) {
	for _, text := range []string{"warn,linkerd=info", "linkerd=debug,warn", "=", ",,", "linkerd2_proxy"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, _ := proxy.FromEnv(only(contract.EnvLog, text))
		require.Contains(t, []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}, c.LogLevel)
		require.LessOrEqual(t, len(c.LogUnknown), strings.Count(text, ",")+1)
	})
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
