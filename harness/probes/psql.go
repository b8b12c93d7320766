package probes

import (
	"context"
	"fmt"
	"strings"

	"meshsim.dev/meshsim/clusters/stack"
)

// PSQL asks the shop's database with psql inside its pod.
type PSQL struct {
	Exec    stack.Exec
	Replica bool // the database's replica is asked, not the primary
}

var _ Database = PSQL{}

// fieldSeparator is ASCII's own; no value of the shop holds it.
const fieldSeparator = "\x1f"

// Query implements Database.
func (p PSQL) Query(ctx context.Context, sql string) ([][]string, error) {
	ask := stack.PSQL
	if p.Replica {
		ask = stack.ReplicaPSQL
	}
	stdout, stderr, err := ask(ctx, p.Exec, sql+";\n", "--no-align", "--tuples-only", "--field-separator="+fieldSeparator)
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
TRUNCATE orders.order_items, orders.orders, orders.outbox, inventory.reservations, payments.payments, provider.charges,
	configurator.configurations, analytics.events, analytics.bought_together;
UPDATE inventory.products SET stock = stock_initial WHERE stock <> stock_initial;
COMMIT`)
	return err
}
