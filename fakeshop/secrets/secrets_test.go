package secrets_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/secrets"
)

var quiet = slog.New(slog.DiscardHandler)

func write(t *testing.T, dir string, values map[string]string) {
	t.Helper()
	for name, text := range values {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
}

func TestSecretsAreReadFromFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"db-user": "shop\n", "db-password": "p w\n"})
	k := secrets.NewKeeper(secrets.Files{Dir: dir}, false, time.Hour, quiet)
	require.False(t, k.Loaded())
	require.NoError(t, k.Load(t.Context()))
	require.True(t, k.Loaded())
	require.Equal(t, secrets.Set{DBUser: "shop", DBPassword: "p w"}, k.Latest())
}

func TestRotatedSecretsArriveByThemselves(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"db-user": "a", "db-password": "b", "payment-key": "c"})
	k := secrets.NewKeeper(secrets.Files{Dir: dir}, true, 5*time.Millisecond, quiet)
	require.NoError(t, k.Load(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { k.Keep(ctx) })
	write(t, dir, map[string]string{"db-password": "rotated"})
	require.Eventually(t, func() bool { return k.Latest().DBPassword == "rotated" }, 5*time.Second, time.Millisecond)
	require.NoError(t, os.Remove(filepath.Join(dir, "db-user")))
	time.Sleep(20 * time.Millisecond)
	require.Equal(t, "a", k.Latest().DBUser, "what cannot be read again is kept")
	stop()
	keeping.Wait()
}

func TestAnotherLoginIsToldOfAndAnotherKeyIsNot(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"db-user": "a", "db-password": "b", "payment-key": "c"})
	k := secrets.NewKeeper(secrets.Files{Dir: dir}, true, 5*time.Millisecond, quiet)
	var told []secrets.Set
	k.OnRenewal(func() { told = append(told, k.Latest()) })
	require.NoError(t, k.Load(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { k.Keep(ctx) })
	write(t, dir, map[string]string{"payment-key": "d"})
	require.Eventually(t, func() bool { return k.Latest().PaymentKey == "d" }, 5*time.Second, time.Millisecond)
	write(t, dir, map[string]string{"db-user": "a2"})
	require.Eventually(t, func() bool { return k.Latest().DBUser == "a2" }, 5*time.Second, time.Millisecond)
	stop()
	keeping.Wait()
	require.Equal(t, []secrets.Set{{DBUser: "a2", DBPassword: "b", PaymentKey: "d"}}, told, "once, and it is the latest by then")
}

func TestRefusedSecretsAreReadAgainAtOnce(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"db-user": "a", "db-password": "b"})
	k := secrets.NewKeeper(secrets.Files{Dir: dir}, false, time.Hour, quiet)
	require.NoError(t, k.Load(t.Context()))
	ctx, stop := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { k.Keep(ctx) })
	write(t, dir, map[string]string{"db-password": "rotated"})
	for range 100 {
		k.Nudge() // never blocks
	}
	require.Eventually(t, func() bool { return k.Latest().DBPassword == "rotated" }, 3*time.Second, time.Millisecond)
	stop()
	keeping.Wait()
}

func TestMissingSecretsAreWaitedForAndNamed(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	k := secrets.NewKeeper(secrets.Files{Dir: dir}, true, time.Hour, slog.New(slog.NewTextHandler(&out, nil)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, k.Load(ctx), context.DeadlineExceeded)
	require.Contains(t, out.String(), "missing or empty: db-user, db-password, payment-key")

	write(t, dir, map[string]string{"db-user": "a", "db-password": "hidden-word", "payment-key": "c"})
	require.NoError(t, k.Load(t.Context()))
	require.NotContains(t, out.String(), "hidden-word")
}

func TestASetNeverPrintsItself(t *testing.T) {
	s := secrets.Set{DBUser: "u", DBPassword: "hidden-word", PaymentKey: "hidden-word"}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "set", s)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), log.String()} {
		require.NotContains(t, text, "hidden-word")
	}
}

// vault is as much of HashiCorp Vault as reading a secret needs.
type vault struct {
	mu      sync.Mutex
	revoked int
	answer  func(w http.ResponseWriter) // of the secret's path
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	token := r.Header.Get("X-Vault-Token")
	switch r.Method + " " + r.URL.Path {
	case "POST /v1/auth/kubernetes/login":
		var in map[string]string
		if json.NewDecoder(r.Body).Decode(&in) != nil || in["jwt"] != "pod-token" || in["role"] != "payment-gateway" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":["permission denied"]}`))
			return
		}
		_, _ = w.Write([]byte(`{"auth":{"client_token":"s.1"}}`))
	case "GET /v1/secret/data/prod-app/payment-gateway":
		if token != "s.1" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		v.answer(w)
	case "POST /v1/auth/token/revoke-self":
		if token == "s.1" {
			v.revoked++
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func startVault(t *testing.T, v *vault) secrets.Vault {
	t.Helper()
	srv := httptest.NewTLSServer(v)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	write(t, dir, map[string]string{"token": "pod-token\n",
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))})
	return secrets.Vault{Addr: srv.URL + "/", CACert: filepath.Join(dir, "ca.crt"), Role: "payment-gateway",
		Path: "secret/data/prod-app/payment-gateway", TokenFile: filepath.Join(dir, "token")}
}

func TestSecretsAreReadFromVaultAndTheTokenIsRevoked(t *testing.T) {
	v := &vault{answer: func(w http.ResponseWriter) {
		_, _ = w.Write([]byte(`{"data":{"data":{"db-user":"a","db-password":"b","payment-key":"c"},"metadata":{"version":1}}}`))
	}}
	k := secrets.NewKeeper(startVault(t, v), true, time.Hour, quiet)
	require.NoError(t, k.Load(t.Context()))
	require.Equal(t, secrets.Set{DBUser: "a", DBPassword: "b", PaymentKey: "c"}, k.Latest())
	require.Equal(t, 1, v.revoked)
}

func TestVaultsRefusalsAreTold(t *testing.T) {
	v := &vault{answer: func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"errors":[]}`))
	}}
	source := startVault(t, v)
	cases := []struct {
		name   string
		change func(*secrets.Vault)
		says   string
	}{
		{"an absent path", func(*secrets.Vault) {}, "reading secret/data/prod-app/payment-gateway from Vault: 404 Not Found"},
		{"a role that is not its own", func(s *secrets.Vault) { s.Role = "other" }, "logging in to Vault as other: 403 Forbidden: permission denied"},
		{"no pod token", func(s *secrets.Vault) { s.TokenFile += "x" }, "reading the pod's token"},
		{"no CA", func(s *secrets.Vault) { s.CACert += "x" }, "reading Vault's CA"},
		{"a CA that is none", func(s *secrets.Vault) { s.CACert = s.TokenFile }, "no certificate in"},
		{"another CA", func(s *secrets.Vault) { s.CACert = "" }, "certificate"},
		{"nobody there", func(s *secrets.Vault) { s.Addr = "https://127.0.0.1:1" }, "connection refused"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := source
			c.change(&s)
			_, err := s.Read(t.Context())
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "pod-token")
		})
	}
	v.mu.Lock()
	v.answer = func(w http.ResponseWriter) {
		_, _ = w.Write([]byte(`{"data":{"data":{"db-password":["hidden-word"]}}}`))
	}
	v.mu.Unlock()
	_, err := source.Read(t.Context())
	require.ErrorContains(t, err, "not the JSON that was expected")
	require.NotContains(t, err.Error(), "hidden-word")
	require.False(t, errors.Is(err, context.Canceled))
}
