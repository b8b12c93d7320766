package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
)

func TestErrorsOfTheDatabaseGetTheirKind(t *testing.T) {
	cases := []struct {
		name string
		err  error
		want codes.Code
	}{
		{"a value it cannot keep", &pgconn.PgError{Code: "22021"}, codes.InvalidArgument},
		{"too many connections", &pgconn.PgError{Code: "53300"}, codes.Unavailable},
		{"shutting down", &pgconn.PgError{Code: "57P01"}, codes.Unavailable},
		{"a wrong password", &pgconn.PgError{Code: "28P01"}, codes.Unavailable},
		{"a connection that ended", fmt.Errorf("x: %w", io.ErrUnexpectedEOF), codes.Unavailable},
		{"a deadlock", &pgconn.PgError{Code: "40P01"}, codes.Aborted},
		{"a broken rule", &pgconn.PgError{Code: "23514"}, codes.Internal},
		{"no code at all", &pgconn.PgError{}, codes.Internal},
		{"no connection", fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), codes.Unavailable},
		{"the time is over", fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{"nobody waits", fmt.Errorf("x: %w", context.Canceled), codes.Canceled},
		{"anything else", errors.New("x"), codes.Internal},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := at("reading", c.err)
			require.Equal(t, c.want, fail.From(err).Code)
			require.Equal(t, "s>postgres", fail.From(err).Chain("s"))
			require.ErrorIs(t, err, c.err)
		})
	}
	require.NoError(t, at("reading", nil))
}

func TestMigrationsAreNumberedWithoutGaps(t *testing.T) {
	list, err := readMigrations(migrations, programmed)
	require.NoError(t, err)
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = m.name
		require.Equal(t, i+1, m.version)
		require.Equal(t, m.sql == "", m.work != nil)
	}
	require.Equal(t, []string{"0001_schema", "0002_seed", "0003_ledger", "0004_orders", "0005_reservations", "0006_payments",
		"0007_ledger", "0008_analytics", "0009_assortment"}, names)

	for name, files := range map[string]fstest.MapFS{
		"there are no migrations":                  {},
		"migration 0002_b: number 1 is wanted":     {"migrations/0002_b.sql": {}},
		"migration 0003_c: number 2 is wanted":     {"migrations/0001_a.sql": {}, "migrations/0003_c.sql": {}},
		"migration 0001_other: number 2 is wanted": {"migrations/0001_a.sql": {}, "migrations/0001_other.sql": {}},
		"migration nonsense: number 1 is wanted":   {"migrations/nonsense.sql": {}},
		"migration 00x2_bad: number 2 is wanted":   {"migrations/0001_a.sql": {}, "migrations/00x2_bad.sql": {}},
	} {
		_, err := readMigrations(files, nil)
		require.EqualError(t, err, name)
	}
	mixed, err := readMigrations(fstest.MapFS{"migrations/0001_a.sql": {}, "migrations/0003_c.sql": {}}, map[int]migration{2: {name: "0002_b"}, 4: {name: "0004_d"}})
	require.NoError(t, err)
	require.Len(t, mixed, 4)
	require.Equal(t, migration{version: 2, name: "0002_b"}, mixed[1])
	require.Equal(t, "0003_c", mixed[2].name)
}
