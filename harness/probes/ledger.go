package probes

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/results"
)

// Database answers one SQL statement with its rows, a column a field.
type Database interface {
	Query(ctx context.Context, sql string) ([][]string, error)
}

// settling is how long orders may stay unsettled after the last request: the
// shop finishes what a stopped pod left behind within a minute.
const settling = 2 * time.Minute

// Orders are the client's side of the ledger, by the ids that it chose.
type Orders struct {
	Acknowledged []string // the client was told that the order is placed
	Ambiguous    []string // no answer came, or one that says nothing: it may have happened
}

// ReadOrders collects the orders of a run from its requests.
func ReadOrders(folder *results.Folder) (Orders, error) {
	acknowledged, ambiguous := map[string]bool{}, map[string]bool{}
	_, err := folder.EachRequest(func(r results.Request) error {
		switch {
		case r.OrderID == "":
		case r.Outcome == results.OK:
			acknowledged[r.OrderID] = true
		case r.Outcome == results.Failed:
			ambiguous[r.OrderID] = true
		}
		return nil
	})
	if err != nil {
		return Orders{}, fmt.Errorf("read the run's orders: %w", err)
	}
	orders := Orders{}
	for id := range acknowledged {
		orders.Acknowledged = append(orders.Acknowledged, id)
		delete(ambiguous, id) // a later answer settled it
	}
	for id := range ambiguous {
		orders.Ambiguous = append(orders.Ambiguous, id)
	}
	slices.Sort(orders.Acknowledged)
	slices.Sort(orders.Ambiguous)
	return orders, nil
}

// Ledger compares what the client was told with what the shop's database says.
func Ledger(ctx context.Context, db Database, orders Orders) (results.Ledger, error) {
	if err := awaitSettled(ctx, db); err != nil {
		return results.Ledger{}, err
	}
	confirmed, err := column(ctx, db, "SELECT id FROM orders.orders WHERE status = 'confirmed' ORDER BY id")
	if err != nil {
		return results.Ledger{}, fmt.Errorf("read confirmed orders: %w", err)
	}
	written := make(map[string]bool, len(confirmed))
	for _, id := range confirmed {
		written[id] = true
	}
	ledger := results.Ledger{
		Acknowledged: len(orders.Acknowledged), Ambiguous: len(orders.Ambiguous), Written: len(confirmed), Lost: []string{},
	}
	for _, id := range orders.Acknowledged {
		if !written[id] {
			ledger.Lost = append(ledger.Lost, id)
		}
	}
	for _, view := range []struct {
		sql  string
		into *[]string
	}{
		{"SELECT DISTINCT order_id FROM ledger.doubled ORDER BY 1", &ledger.Doubled},
		{"SELECT product_id FROM ledger.oversold ORDER BY 1", &ledger.Oversold},
		{"SELECT order_id FROM ledger.payment_mismatch ORDER BY 1", &ledger.PaymentMismatch},
	} {
		if *view.into, err = column(ctx, db, view.sql); err != nil {
			return results.Ledger{}, fmt.Errorf("check the ledger: %w", err)
		}
	}
	return ledger, nil
}

func awaitSettled(ctx context.Context, db Database) error {
	deadline := time.Now().Add(settling)
	for {
		rows, err := column(ctx, db, "SELECT count(*) FROM orders.orders WHERE settled_at IS NULL")
		if err != nil {
			return fmt.Errorf("count unsettled orders: %w", err)
		}
		unsettled, err := strconv.Atoi(strings.Join(rows, ""))
		if err != nil {
			return fmt.Errorf("count unsettled orders: %w", err)
		}
		if unsettled == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d orders are still unsettled %s after the last request", unsettled, settling)
		}
		if err := kube.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// column returns the first field of every row, never nil.
func column(ctx context.Context, db Database, sql string) ([]string, error) {
	rows, err := db.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	values := make([]string, 0, len(rows))
	for _, row := range rows {
		if len(row) > 0 {
			values = append(values, row[0])
		}
	}
	return values, nil
}
