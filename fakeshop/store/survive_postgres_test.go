//go:build postgres

package store_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shoptest"
	"meshsim.dev/meshsim/fakeshop/store"
)

// ground is the shop's stores on a real PostgreSQL.
func ground(t *testing.T) *shoptest.Ground {
	t.Helper()
	fresh(t)
	credentials := func(context.Context) (string, string, error) { return pg.User, pg.Password, nil }
	db := openWith(t, store.Config{Credentials: credentials})
	deferred := openWith(t, store.Config{Credentials: credentials, Deferred: true}) // as in the shop
	look := connect(t)
	return &shoptest.Ground{
		Stores: shoptest.Stores{
			Orders: store.Orders{DB: db}, Inventory: store.Inventory{DB: deferred}, Payments: store.Payments{DB: deferred},
			Book: store.Book{DB: deferred}, Events: store.Events{DB: deferred},
		},
		Fresh: func(t *testing.T) {
			t.Helper()
			_, err := look.Exec(ctxFor(t), `DELETE FROM orders.order_items; DELETE FROM orders.orders; DELETE FROM orders.outbox;
				DELETE FROM inventory.reservations; DELETE FROM payments.payments; DELETE FROM provider.charges;
				DELETE FROM analytics.events; DELETE FROM analytics.bought_together;
				UPDATE inventory.products SET stock = stock_initial WHERE stock <> stock_initial`)
			require.NoError(t, err)
		},
		Audit: func(t *testing.T) shoptest.Audit { return audit(t, look) },
	}
}

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctxFor(t), fmt.Sprintf("postgres://%s:%s@%s/shop?sslmode=disable", pg.User, pg.Password,
		net.JoinHostPort(pg.Host, strconv.Itoa(int(pg.Port)))))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// audit reads everything in one snapshot, and that the ledger finds nothing.
func audit(t *testing.T, conn *pgx.Conn) shoptest.Audit {
	t.Helper()
	ctx := ctxFor(t)
	a := shoptest.Audit{Orders: map[string]*orders.Order{}, Stock: map[string]inventory.Stock{}, Kept: map[string][]inventory.Item{},
		States: map[string]inventory.State{}, Payments: map[string]payments.Payment{}, Charges: map[string]payments.Charge{}, Events: map[string]int64{}}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	each := func(query string, into []any, do func() error) {
		rows, err := tx.Query(ctx, query)
		require.NoError(t, err)
		_, err = pgx.ForEachRow(rows, into, do)
		require.NoError(t, err)
	}
	var id, product string
	var o orders.Order
	each("SELECT id, status, reason, cancelling, total_cents FROM orders.orders", []any{&o.ID, &o.Status, &o.Reason, &o.Cancelling, &o.TotalCents}, func() error {
		kept := o
		a.Orders[o.ID] = &kept
		return nil
	})
	var item orders.Item
	each("SELECT order_id, product_id, quantity, unit_cents FROM orders.order_items", []any{&id, &item.ProductID, &item.Quantity, &item.UnitCents}, func() error {
		a.Orders[id].Items = append(a.Orders[id].Items, item)
		return nil
	})
	var stock inventory.Stock
	each("SELECT id, stock, stock_initial FROM inventory.products WHERE id <= 'p-0240'", []any{&product, &stock.Stock, &stock.Initial}, func() error {
		a.Stock[product] = stock
		return nil
	})
	var state inventory.State
	var quantity int
	each("SELECT order_id, product_id, quantity, state FROM inventory.reservations", []any{&id, &product, &quantity, &state}, func() error {
		a.States[id] = state
		if state == inventory.Reserved || state == inventory.Committed {
			a.Kept[id] = append(a.Kept[id], inventory.Item{ProductID: product, Quantity: quantity})
		}
		return nil
	})
	var p payments.Payment
	each("SELECT order_id, amount_cents, state FROM payments.payments", []any{&p.OrderID, &p.AmountCents, &p.State}, func() error {
		a.Payments[p.OrderID] = p
		return nil
	})
	var c payments.Charge
	each("SELECT key, amount_cents, state FROM provider.charges", []any{&c.Key, &c.AmountCents, &c.State}, func() error {
		a.Charges[c.Key] = c
		return nil
	})
	var n int64
	each("SELECT kind, count(*) FROM analytics.events GROUP BY kind", []any{&id, &n}, func() error {
		a.Events[id] = n
		return nil
	})
	each("SELECT count(*) FROM orders.outbox", []any{&a.Untold}, func() error { return nil })
	for _, view := range []string{"oversold", "doubled", "payment_mismatch"} {
		each("SELECT count(*) FROM ledger."+view, []any{&n}, func() error { require.Zero(t, n, view); return nil })
	}
	return a
}

func TestOrdersSurviveAFailureAtAnyStep(t *testing.T) {
	shoptest.SurviveConduct(t, ground(t))
}

// SHOP_SEED=N plays one storm alone, as a failed one is played again.
func TestOrdersSurviveAStorm(t *testing.T) {
	from, to := uint64(0), uint64(12)
	if text := os.Getenv("SHOP_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		from, to = seed, seed+1
	}
	g := ground(t)
	for seed := from; seed < to; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			stop := watchStock(t)
			shoptest.StormConduct(t, g, seed)
			require.Positive(t, stop(), "looked while it stormed")
		})
	}
}

// watchStock looks all the time whether more was promised than there is; it
// returns how often it looked.
func watchStock(t *testing.T) (stop func() int) {
	t.Helper()
	conn := connect(t)
	ctx, cancel := context.WithCancel(context.Background())
	looked := make(chan int, 1)
	go func() {
		n := 0
		for ctx.Err() == nil {
			var oversold, negative int
			err := conn.QueryRow(context.Background(), `SELECT (SELECT count(*) FROM ledger.oversold),
				(SELECT count(*) FROM inventory.products WHERE stock < 0)`).Scan(&oversold, &negative)
			if err != nil || oversold+negative > 0 {
				t.Errorf("oversold %d, negative %d, error %v", oversold, negative, err)
				break
			}
			n++
			time.Sleep(5 * time.Millisecond)
		}
		looked <- n
	}()
	return func() int { cancel(); return <-looked }
}
