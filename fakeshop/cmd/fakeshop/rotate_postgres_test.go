//go:build postgres

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// All secrets are rotated beneath customers who buy, by the very program that the
// CronJob runs: no request fails, also when it is killed and run again.
func TestNoRequestFailsWhileTheSecretsAreRotated(t *testing.T) {
	pg := startPostgres(t)
	vault := shoptest.StartVault(t, chart.Rotator)
	shoptest.MoveSecrets(t, pg, vault, chart.Services())
	s := openShop(t, pg, "SHOP_SECRETS=vault", "SHOP_SECRETS_EVERY=1s", "VAULT_ADDR="+vault.Addr, "VAULT_CACERT="+vault.CACert,
		"VAULT_TOKEN_FILE="+vault.Token, "ROTATE_TAKE_UP=2500ms", "ROTATE_PATIENCE=1m")
	key := vault.Newest("payment-gateway").Values["payment-key"]
	acknowledged, failed := s.buyWhile(few, func() {
		require.NoError(t, s.rotate(t, 0))
		for _, after := range []time.Duration{150 * time.Millisecond, 400 * time.Millisecond, time.Second, 3 * time.Second} {
			err := s.rotate(t, after)
			t.Logf("killed after %s: %v", after, err)
			require.NoError(t, s.rotate(t, 0))
		}
	})
	require.Zero(t, failed)
	require.NotEqual(t, key, vault.Newest("payment-gateway").Values["payment-key"])
	require.Empty(t, vault.Denied())
	checkLedger(t, pg, acknowledged)

	want := map[string]bool{}
	for _, name := range chart.Services() {
		newest := vault.Newest(name)
		require.GreaterOrEqual(t, newest.Version, 6, name)
		require.Equal(t, "720h0m0s", newest.Custom[chart.RotationPeriod])
		want[name+"|"+newest.Values["db-user"]] = true
	}
	// Each service is connected by its own login, and by no other.
	for _, name := range chart.Services() {
		s.waitReady(name) // which asks the database
	}
	rows, err := pg.SQL("SELECT DISTINCT application_name, usename FROM pg_stat_activity WHERE application_name LIKE '%-%'")
	require.NoError(t, err)
	have := map[string]bool{}
	for _, row := range rows {
		have[row] = true
	}
	require.Equal(t, want, have)
}

// rotate runs the program that rotates; one that is to be killed is, some time
// after it has begun.
func (s *wholeShop) rotate(t *testing.T, kill time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0])
	var said bytes.Buffer
	c.Env, c.Stderr = append(s.env, "SHOP_TEST_ROTATE=1"), &said
	require.NoError(t, c.Start())
	if kill > 0 {
		killer := time.AfterFunc(kill, func() { _ = c.Process.Signal(syscall.SIGKILL) }) // one that is done needs none
		defer killer.Stop()
	}
	err := c.Wait()
	if err != nil && kill == 0 {
		t.Log(said.String())
	}
	if kill == 0 {
		require.True(t, strings.Contains(said.String(), `"rotation is done"`), said.String())
	}
	return err
}
