//go:build postgres

package shoptest

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/secrets"
)

// MoveSecrets puts the services' login, and that of the rotator, into a Vault, as
// meshsim does on a cluster.
func MoveSecrets(t testing.TB, pg *Postgres, vault *Vault, services []string) {
	t.Helper()
	script, err := chart.RotationSQL()
	require.NoError(t, err)
	shop, rotator, login := rand.Text(), rand.Text(), chart.Logins(chart.Rotator)[0]
	_, err = pg.SQL(script,
		"CREATE ROLE shop_vault LOGIN PASSWORD '"+shop+"' IN ROLE shop_app",
		"CREATE ROLE "+login+" LOGIN PASSWORD '"+rotator+"' IN ROLE shop_rotation")
	require.NoError(t, err)
	for _, name := range services {
		values := map[string]string{secrets.KeyUser: "shop_vault", secrets.KeyPassword: shop}
		if name == "payment-gateway" {
			values[secrets.KeyPayment] = rand.Text()
		}
		vault.Put(name, values, time.Now())
	}
	vault.Put(chart.Rotator, map[string]string{secrets.KeyUser: login, secrets.KeyPassword: rotator}, time.Now())
}
