package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func environment(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestWrongUseIsExitCodeTwoAndSaysWhy(t *testing.T) {
	cases := []struct {
		name string
		args []string
		env  map[string]string
		says string
	}{
		{"nothing", nil, nil, `wants "serve SERVICE" or "rotate"`},
		{"no service", []string{"serve"}, nil, `wants "serve SERVICE" or "rotate"`},
		{"an unknown service", []string{"serve", "teapot"}, nil, `there is no service "teapot"`},
		{"a wrong setting", []string{"serve", "product-catalog"}, map[string]string{"SHOP_DRAIN": "5"}, "SHOP_DRAIN=5: wants a duration"},
		{"another command", []string{"sell", "product-catalog"}, nil, `wants "serve SERVICE" or "rotate"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var stderr strings.Builder
			require.Equal(t, 2, run(t.Context(), c.args, environment(c.env), &stderr))
			require.Contains(t, stderr.String(), c.says)
			require.Contains(t, stderr.String(), "services: analytics-service, configuration-engine, customer-profile, inventory-management, order-processing, payment-gateway, product-catalog, recommendation-service")
		})
	}
}

func TestAServiceThatCannotServeIsExitCodeOne(t *testing.T) {
	var stderr strings.Builder
	code := run(t.Context(), []string{"serve", "product-catalog"}, environment(map[string]string{"SHOP_ADMIN": "nowhere"}), &stderr)
	require.Equal(t, 1, code)
	require.Contains(t, stderr.String(), "opening port nowhere")
}

func TestToldToStopWhileItWaitsForItsSecretsAServiceEndsWithZero(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var stderr strings.Builder
	code := run(ctx, []string{"serve", "product-catalog"}, environment(map[string]string{"SHOP_ADMIN": "127.0.0.1:0", "SHOP_SECRETS_DIR": t.TempDir()}), &stderr)
	require.Equal(t, 0, code, stderr.String())
	require.Contains(t, stderr.String(), "missing or empty: db-user, db-password")
}

func TestSettingsAreReadFromTheEnvironment(t *testing.T) {
	s, err := readSettings("order-processing", environment(map[string]string{
		"SHOP_POD": "pod-1", "SHOP_NAMESPACE": "shop", "SHOP_DB_PORT": "6432", "SHOP_DRAIN": "0s", "SHOP_LOG": "debug",
		"SHOP_SECRETS": "vault", "VAULT_ADDR": "https://vault:8200", "SHOP_FAIL_FAST": "true",
		"SHOP_NODE": "worker", "SHOP_VERSION": "v2", "SHOP_RETRIES": "0", "SHOP_RESERVATION": "90s", "SHOP_GIVE_UP": "2m", "SHOP_DB_READ_HOST": "postgres-read",
		"SHOP_PROVIDER": `{"lostRate":0.5}`, "SHOP_BEHAVIOUR": `{"leakBytes":1}`,
		"SHOP_TARGETS": "product-catalog=127.0.0.1:1,payment-gateway=127.0.0.1:2,",
	}))
	require.NoError(t, err)
	require.Equal(t, "pod-1", s.pod)
	require.Equal(t, uint16(6432), s.dbPort)
	require.Equal(t, "postgres", s.dbHost)
	require.Equal(t, time.Duration(0), s.drain)
	require.Equal(t, 20*time.Second, s.hardStop)
	require.Equal(t, slog.LevelDebug, s.logLevel)
	require.True(t, s.failFast)
	require.Equal(t, "worker", s.node)
	require.Equal(t, "v2", s.version)
	require.Zero(t, s.retries)
	require.Equal(t, 90*time.Second, s.keep)
	require.Equal(t, 2*time.Minute, s.giveUp)
	require.Equal(t, "postgres-read", s.dbReadHost)
	require.InDelta(t, 0.5, s.provider.LostRate, 0)
	require.Equal(t, 1, s.behaviour.LeakBytes)
	require.Equal(t, "secret/data/shop/order-processing", s.vaultPath)
	require.Equal(t, "order-processing", s.vaultRole)
	require.Equal(t, "/var/run/secrets/vault/token", s.vaultToken)
	require.Equal(t, map[string]string{"product-catalog": "127.0.0.1:1", "payment-gateway": "127.0.0.1:2"}, s.targets)

	s, err = readSettings("product-catalog", environment(nil))
	require.NoError(t, err)
	require.Equal(t, ":8080", s.http)
	require.Equal(t, "v1", s.version)
	require.Equal(t, 1, s.retries)
	require.Equal(t, 5*time.Second, s.drain)
	require.Equal(t, "/etc/shop-secrets", s.secretsDir)
	require.NotEmpty(t, s.pod)
}

func TestEverythingWrongIsToldAtOnce(t *testing.T) {
	_, err := readSettings("product-catalog", environment(map[string]string{
		"SHOP_DB_PORT": "0", "SHOP_DRAIN": "-1s", "SHOP_FAIL_FAST": "yes", "SHOP_TARGETS": "a", "SHOP_LOG": "loud", "SHOP_SECRETS": "vault",
		"SHOP_RETRIES": "9", "SHOP_PROVIDER": "{", "SHOP_BEHAVIOUR": `{"leakBytes":-1}`,
	}))
	require.EqualError(t, err, strings.Join([]string{
		"SHOP_DB_PORT=0: wants a port",
		"SHOP_FAIL_FAST=yes: wants true or false",
		`SHOP_TARGETS: "a": wants service=target`,
		"SHOP_RETRIES=9: wants a number from 0 to 4",
		"SHOP_DRAIN=-1s: wants a duration such as 5s",
		"SHOP_LOG=loud: wants debug, info, warn or error",
		"SHOP_PROVIDER: payment provider: unexpected EOF",
		"SHOP_BEHAVIOUR: behaviour: leakBytes -1: wants 0 to 1073741824",
		"VAULT_ADDR is missing",
	}, "\n"))
	_, err = readSettings("product-catalog", environment(map[string]string{"SHOP_SECRETS": "air"}))
	require.EqualError(t, err, "SHOP_SECRETS=air: wants file or vault")
}

func FuzzSettings(f *testing.F) {
	f.Add("5432", "5s", "a=b,c=d", "info")
	f.Add("", "", ",,=", "")
	f.Add("65536", "-0s", "a==b", "DEBUG+4")
	f.Fuzz(func(t *testing.T, port, drain, targets, level string) {
		s, err := readSettings("product-catalog", environment(map[string]string{
			"SHOP_DB_PORT": port, "SHOP_DRAIN": drain, "SHOP_TARGETS": targets, "SHOP_LOG": level}))
		if err != nil {
			return
		}
		require.NotZero(t, s.dbPort)
		require.GreaterOrEqual(t, s.drain, time.Duration(0))
		for service, target := range s.targets {
			require.NotEmpty(t, service)
			require.NotEmpty(t, target)
		}
	})
}
