package probes

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Execer runs a program in a pod.
type Execer interface {
	Exec(ctx context.Context, namespace, pod, container string, argv []string, stdin io.Reader) (stdout, stderr []byte, err error)
}

// PSQL asks the shop's database with psql inside its pod, as its superuser over
// the local socket, so that no password leaves the cluster.
type PSQL struct{ Kube Execer }

var _ Database = PSQL{}

// fieldSeparator is ASCII's own; no value of the shop holds it.
const fieldSeparator = "\x1f"

// Query implements Database. The statement goes by standard input.
func (p PSQL) Query(ctx context.Context, sql string) ([][]string, error) {
	// The image says in PG_BIN where its psql is.
	argv := []string{
		"/bin/sh", "-c",
		`exec "$PG_BIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 -F "$1" -h /var/run/postgresql -U postgres -d shop -f -`,
		"psql", fieldSeparator,
	}
	stdout, stderr, err := p.Kube.Exec(ctx, shopNamespace, "postgres-0", "postgres", argv, strings.NewReader(sql+";\n"))
	if err != nil {
		return nil, fmt.Errorf("query the shop's database: %w: %s", err, strings.TrimSpace(string(stderr)))
	}
	return rows(stdout), nil
}

func rows(stdout []byte) [][]string {
	text := strings.TrimRight(string(stdout), "\n")
	if text == "" {
		return nil
	}
	var all [][]string
	for line := range strings.SplitSeq(text, "\n") {
		all = append(all, strings.Split(line, fieldSeparator))
	}
	return all
}

// ClearOrders empties the order book and puts every piece back on its shelf,
// so that a rehearsal starts from the same shop as the one before.
func ClearOrders(ctx context.Context, db Database) error {
	_, err := db.Query(ctx, `BEGIN;
TRUNCATE orders.order_items, orders.orders, inventory.reservations, payments.payments, configurator.configurations, analytics.events;
UPDATE inventory.products SET stock = stock_initial WHERE stock <> stock_initial;
COMMIT`)
	return err
}
