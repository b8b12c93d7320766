package probes

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/results"
)

// Database answers one SQL statement with its rows, a column a field.
type Database interface {
	Query(ctx context.Context, sql string) ([][]string, error)
}

// How long the database may be out of reach, as where it is just starting anew,
// and how long one statement may take.
const (
	unreachable = 2 * time.Minute
	oneAnswer   = time.Minute
)

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
// The database must hold the orders of this run alone. patience is how long the
// shop may take to settle the orders that it has begun; what is open then is named.
func Ledger(ctx context.Context, db Database, orders Orders, patience time.Duration) (results.Ledger, error) {
	db = insistent{db}
	if err := awaitSettled(ctx, db, patience); err != nil {
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
		switch row[1] {
		case confirmed:
			ledger.Written++
			if orders[id] == results.ToldNothing {
				answers.Unasked = append(answers.Unasked, id)
			}
		case cancelled:
		default:
			ledger.Unsettled = append(ledger.Unsettled, id)
		}
	}
	for id, told := range orders {
		is := status[id]
		switch told {
		case results.ToldYes:
			ledger.Acknowledged++
			if is == cancelled || is == "" {
				ledger.Lost = append(ledger.Lost, id)
			}
		case results.ToldNo:
			answers.Refused++
			if is == confirmed {
				answers.Contradicted = append(answers.Contradicted, id)
			}
		default:
			ledger.Ambiguous++
			switch is {
			case confirmed:
				answers.AmbiguousWritten++
			case cancelled:
				answers.AmbiguousCancelled++
			case "":
				answers.AmbiguousAbsent++
			}
		}
	}
	slices.Sort(ledger.Lost)
	slices.Sort(answers.Contradicted)
	return ledger, nil
}

// The states of orders that are settled; any other may become either.
const (
	confirmed = "confirmed"
	cancelled = "cancelled"
)

// awaitSettled waits until no order is open, for as long as patience lasts.
func awaitSettled(ctx context.Context, db Database, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		rows, err := column(ctx, db, "SELECT count(*) FROM orders.orders WHERE settled_at IS NULL")
		if err != nil {
			return fmt.Errorf("count unsettled orders: %w", err)
		}
		unsettled, err := strconv.Atoi(strings.Join(rows, ""))
		if err != nil {
			return fmt.Errorf("count unsettled orders: %w", err)
		}
		if unsettled == 0 || !time.Now().Before(deadline) {
			return nil
		}
		if err := pause.For(ctx, time.Second); err != nil {
			return err
		}
	}
}

// insistent asks again while the database is out of reach.
type insistent struct{ Database }

// Query implements Database. The error is that of the last time.
func (i insistent) Query(ctx context.Context, sql string) ([][]string, error) {
	deadline := time.Now().Add(unreachable)
	for {
		rows, err := i.once(ctx, sql)
		if err == nil || !time.Now().Before(deadline) || pause.For(ctx, time.Second) != nil {
			return rows, err
		}
	}
}

func (i insistent) once(ctx context.Context, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, oneAnswer)
	defer cancel()
	return i.Database.Query(ctx, sql)
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
