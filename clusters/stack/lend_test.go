package stack

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestALentLoginIsItsOwnAndIsTakenBack(t *testing.T) {
	b, psql := newShopBench(t)
	require.NoError(t, LendLogin(t.Context(), b.Env, "elsewhere", "shop-login"))
	password := passwordOf(t, psql.scripts[0])
	require.Contains(t, psql.scripts[0], `\set login 'shop_lent'`)
	secret := b.cluster.get("/api/v1/namespaces/elsewhere/secrets/shop-login")
	require.Equal(t, object{
		"db-user": base64.StdEncoding.EncodeToString([]byte("shop_lent")), "db-password": base64.StdEncoding.EncodeToString([]byte(password)),
	}, secret["data"])
	require.NotContains(t, b.said.String(), password)
	require.NotEqual(t, password, storedKey(t, b, "db-password"), "not the shop's own")

	for range 2 { // taking it back is idempotent
		require.NoError(t, EndLending(t.Context(), b.Env))
	}
	require.Contains(t, psql.scripts[2], "NOLOGIN PASSWORD NULL")
	require.Contains(t, psql.scripts[2], `\set login 'shop_lent'`)
}

func TestALoginThatNobodyCanReadIsTakenBackAtOnce(t *testing.T) {
	b, psql := newShopBench(t)
	b.cluster.fails = func(_, path string) string {
		if path == "/api/v1/namespaces/elsewhere/secrets" {
			return "quota"
		}
		return ""
	}
	err := LendLogin(t.Context(), b.Env, "elsewhere", "shop-login")
	require.EqualError(t, err, "make secret elsewhere/shop-login: the API server refuses: Forbidden")
	require.Len(t, psql.scripts, 2)
	require.Contains(t, psql.scripts[1], "NOLOGIN PASSWORD NULL")
}
