package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/rotation"
	"meshsim.dev/meshsim/fakeshop/secrets"
)

func TestARotationsSettingsAreReadFromTheEnvironment(t *testing.T) {
	s, err := readRotateSettings(true, environment(map[string]string{
		"SHOP_NAMESPACE": "shop", "SHOP_DB_HOST": "db", "SHOP_DB_PORT": "6432", "SHOP_DB_READ_HOST": "db-read", "SHOP_LOG": "debug",
		"VAULT_ADDR": "https://vault:8200", "VAULT_CACERT": "/ca.crt", "ROTATE_PERIOD": "24h", "ROTATE_LEAD": "2h", "ROTATE_TAKE_UP": "75s",
		"ROTATE_PATIENCE": "7m", "SHOP_PROXY_ADMIN": "http://127.0.0.1:4191",
	}))
	require.NoError(t, err)
	require.Equal(t, rotation.Rotator{
		Vault:    &secrets.KV{Vault: secrets.Vault{Addr: "https://vault:8200", CACert: "/ca.crt", Role: "secret-rotator", TokenFile: "/var/run/secrets/vault/token"}},
		Database: rotation.Servers{Host: "db", Port: 6432, ReplicaHost: "db-read", ReplicaPort: 6432, Database: "shop"},
		Options: rotation.Options{Base: "secret/data/shop", Services: chart.Services(), Period: 24 * time.Hour, Lead: 2 * time.Hour,
			TakeUp: 75 * time.Second, Patience: 7 * time.Minute, Now: true},
	}, s.rotator)
	require.Equal(t, "http://127.0.0.1:4191", s.proxy)
	require.Equal(t, slog.LevelDebug, s.logLevel)

	s, err = readRotateSettings(false, environment(map[string]string{"VAULT_ADDR": "https://vault:8200", "VAULT_BASE": "kv/data/x"}))
	require.NoError(t, err)
	require.Equal(t, rotation.Options{Base: "kv/data/x", Services: chart.Services(), Period: 720 * time.Hour, Lead: 48 * time.Hour,
		TakeUp: 11 * time.Minute, Patience: 20 * time.Minute}, s.rotator.Options)
	require.Empty(t, s.proxy)
}

func TestARotationsWrongUseIsExitCodeTwo(t *testing.T) {
	vault := map[string]string{"VAULT_ADDR": "https://vault:8200"}
	with := func(name, value string) map[string]string {
		return map[string]string{"VAULT_ADDR": vault["VAULT_ADDR"], name: value}
	}
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		says string
	}{
		"an unknown word":        {[]string{"rotate", "--soon"}, vault, `wants "serve SERVICE" or "rotate"`},
		"no Vault":               {[]string{"rotate"}, nil, "VAULT_ADDR is missing"},
		"a lead that is all":     {[]string{"rotate"}, with("ROTATE_LEAD", "720h"), "ROTATE_LEAD=720h0m0s: wants less than ROTATE_PERIOD, 720h0m0s"},
		"patience that ends":     {[]string{"rotate", "--now"}, with("ROTATE_PATIENCE", "1m"), "ROTATE_PATIENCE=1m0s: wants no less than ROTATE_TAKE_UP, 11m0s"},
		"a period that is words": {[]string{"rotate"}, with("ROTATE_PERIOD", "monthly"), "ROTATE_PERIOD=monthly: wants a duration"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			require.Equal(t, 2, run(t.Context(), c.args, environment(c.env), &stderr))
			require.Contains(t, stderr.String(), c.says)
			require.Contains(t, stderr.String(), "fakeshop rotate [--now]")
		})
	}
}

// A proxy would keep the pod from ending, whatever became of the rotation.
func TestTheProxyIsAskedToEndAlsoWhenARotationFails(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = append(asked, r.Method+" "+r.URL.Path) }))
	defer proxy.Close()
	var stderr strings.Builder
	env := map[string]string{"VAULT_ADDR": "https://127.0.0.1:1", "VAULT_TOKEN_FILE": "/nowhere", "SHOP_PROXY_ADMIN": proxy.URL}
	require.Equal(t, 1, run(t.Context(), []string{"rotate"}, environment(env), &stderr))
	require.Contains(t, stderr.String(), "reading the pod's token")
	require.Equal(t, []string{"POST /shutdown"}, asked)

	proxy.Close()
	stderr.Reset()
	require.Equal(t, 1, run(t.Context(), []string{"rotate"}, environment(env), &stderr))
	require.Contains(t, stderr.String(), "the proxy could not be asked to end")
}
