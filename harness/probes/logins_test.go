package probes

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// table answers every query with the same rows.
type table struct {
	rows [][]string
	err  error
}

func (a table) Query(context.Context, string) ([][]string, error) { return a.rows, a.err }

func TestSessionsAreCountedByServiceAndLoginOverAllServers(t *testing.T) {
	all, err := Logins(t.Context(), table{rows: [][]string{{"product-catalog", "shop_vault", "3"}, {"order-processing", "", "1"}}},
		table{rows: [][]string{{"product-catalog", "shop_vault", "2"}}})
	require.NoError(t, err)
	require.Equal(t, map[string]map[string]int{"product-catalog": {"shop_vault": 5}, "order-processing": {"": 1}}, all)
	for says, db := range map[string]table{
		"ask the database who is connected":  {err: errors.New("away")},
		"has 2 columns, not 3":               {rows: [][]string{{"a", "b"}}},
		"count the database's sessions: str": {rows: [][]string{{"a", "b", "c"}}},
	} {
		_, err := Logins(t.Context(), db)
		require.ErrorContains(t, err, says)
	}
}
