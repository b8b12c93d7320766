//go:build postgres

package shoptest

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/chart"
)

// MoveSecrets puts the services' login, and that of the rotator, into a Vault, as
// meshsim does on a cluster.
func MoveSecrets(t testing.TB, pg *Postgres, vault *Vault, services []string) {
	t.Helper()
	script, err := chart.RotationSQL()
	require.NoError(t, err)
	shop, rotator := rand.Text(), rand.Text()
	_, err = pg.SQL(script,
		"CREATE ROLE shop_vault LOGIN PASSWORD '"+shop+"' IN ROLE shop_app",
		"CREATE ROLE secret_rotator_a LOGIN PASSWORD '"+rotator+"' IN ROLE shop_rotation")
	require.NoError(t, err)
	for _, name := range services {
		values := map[string]string{"db-user": "shop_vault", "db-password": shop}
		if name == "payment-gateway" {
			values["payment-key"] = rand.Text()
		}
		vault.Put(name, values, time.Now())
	}
	vault.Put(chart.Rotator, map[string]string{"db-user": "secret_rotator_a", "db-password": rotator}, time.Now())
}
