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

// Orders are the client's side of the ledger: what it was told of each order, by
// the id that it chose.
type Orders map[string]results.Told

// ReadOrders collects the orders of a run from its requests.
func ReadOrders(folder *results.Folder) (Orders, error) {
	orders := Orders{}
	_, err := folder.EachRequest(func(r results.Request) error {
		if told := r.Told(); told > orders[r.OrderID] {
			orders[r.OrderID] = told // a later answer settles an earlier silence
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the run's orders: %w", err)
	}
	return orders, nil
}

// Ledger compares what the client was told with what the shop's database says.
// The database must hold the orders of this run alone.
func Ledger(ctx context.Context, db Database, orders Orders) (results.Ledger, error) {
	if err := awaitSettled(ctx, db); err != nil {
		return results.Ledger{}, err
	}
	written, err := db.Query(ctx, "SELECT id, status FROM orders.orders ORDER BY id")
	if err != nil {
		return results.Ledger{}, fmt.Errorf("read the orders: %w", err)
	}
	ledger, err := compare(orders, written)
	if err != nil {
		return results.Ledger{}, err
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

// compare looks every order up that was sent, and those that are confirmed in
// what was sent. written are ids with their status.
func compare(orders Orders, written [][]string) (results.Ledger, error) {
	answers := &results.Answers{Contradicted: []string{}, Unasked: []string{}}
	ledger := results.Ledger{Lost: []string{}, Answers: answers}
	status := make(map[string]string, len(written))
	for _, row := range written {
		if len(row) != 2 {
			return results.Ledger{}, fmt.Errorf("read the orders: %d fields where an id and a status should be", len(row))
		}
		id := row[0]
		status[id] = row[1]
		if row[1] != confirmed {
			continue
		}
		ledger.Written++
		if orders[id] == results.ToldNothing {
			answers.Unasked = append(answers.Unasked, id)
		}
	}
	for id, told := range orders {
		is, there := status[id]
		switch told {
		case results.ToldYes:
			ledger.Acknowledged++
			if is != confirmed {
				ledger.Lost = append(ledger.Lost, id)
			}
		case results.ToldNo:
			answers.Refused++
			if is == confirmed {
				answers.Contradicted = append(answers.Contradicted, id)
			}
		default:
			ledger.Ambiguous++
			switch {
			case is == confirmed:
				answers.AmbiguousWritten++
			case there:
				answers.AmbiguousCancelled++
			default:
				answers.AmbiguousAbsent++
			}
		}
	}
	slices.Sort(ledger.Lost)
	slices.Sort(answers.Contradicted)
	return ledger, nil
}

// confirmed is the status of an order that stands.
const confirmed = "confirmed"

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
