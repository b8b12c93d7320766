//go:build postgres

// Tests against a real PostgreSQL, which they start themselves:
//
//	go test -tags postgres ./fakeshop/...
//
// They need Debian's postgresql package and root (to become its user).
package store_test

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/assortment"
	"meshsim.dev/meshsim/fakeshop/configurator"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shoptest"
	"meshsim.dev/meshsim/fakeshop/store"
)

var pg *shoptest.Postgres

func TestMain(m *testing.M) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if pg, err = shoptest.StartPostgres(ctx); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	if err := pg.Stop(); err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func ctxFor(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func open(t *testing.T, user, password string) *store.DB {
	t.Helper()
	return openWith(t, store.Config{Credentials: func(context.Context) (string, string, error) { return user, password, nil }})
}

func openWith(t *testing.T, cfg store.Config) *store.DB {
	t.Helper()
	cfg.Host, cfg.Port, cfg.Application = pg.Host, pg.Port, "test"
	cfg.Name = cmp.Or(cfg.Name, "shop")
	db, err := store.Open(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// clearing empties the order book, as harness/probes does between rehearsals.
const clearing = `TRUNCATE orders.order_items, orders.orders, orders.outbox, inventory.reservations, payments.payments,
	provider.charges, configurator.configurations, analytics.events, analytics.bought_together;
	UPDATE inventory.products SET stock = stock_initial WHERE stock <> stock_initial`

// fresh is the shop's database with nothing sold yet.
func fresh(t *testing.T) *store.DB {
	t.Helper()
	db := open(t, pg.User, pg.Password)
	require.NoError(t, db.Migrate(ctxFor(t)))
	sql(t, clearing)
	return db
}

func sql(t *testing.T, statements ...string) []string {
	t.Helper()
	rows, err := pg.SQL(statements...)
	require.NoError(t, err)
	return rows
}

func ledgerIsClean(t *testing.T) {
	t.Helper()
	require.Empty(t, sql(t, "SELECT * FROM ledger.oversold"))
	require.Empty(t, sql(t, "SELECT * FROM ledger.doubled"))
	require.Empty(t, sql(t, "SELECT * FROM ledger.payment_mismatch"))
}

func TestManyPodsMigrateAtOnceAndTheGroupRoleOwnsEverything(t *testing.T) {
	var all sync.WaitGroup
	for range 6 {
		db := open(t, pg.User, pg.Password)
		all.Go(func() {
			if err := db.Migrate(ctxFor(t)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, []string{"9|9"}, sql(t, "SELECT count(*), max(version) FROM schema_migrations"))
	require.Equal(t, []string{"shop_app"}, sql(t, `SELECT DISTINCT tableowner FROM pg_tables
		WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`))
	require.Equal(t, []string{"240|6"}, sql(t, "SELECT count(*), count(*) FILTER (WHERE stock_initial = 5) FROM inventory.products WHERE id <= 'p-0240'"))
	require.Equal(t, []string{"3000|3000"}, sql(t, "SELECT count(*), count(p.id) FROM inventory.products JOIN catalog.products p USING (id)"))
	require.Equal(t, []string{"500|10"}, sql(t, "SELECT count(*), count(*) FILTER (WHERE card_reference LIKE 'declined-%') FROM customers.customers"))
	require.Equal(t, []string{"0"}, sql(t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), "the lock is given back")
}

func TestASchemaFromALaterProgramIsLeftAlone(t *testing.T) {
	db := fresh(t)
	sql(t, "INSERT INTO schema_migrations (version, name) VALUES (99, 'later')")
	defer sql(t, "DELETE FROM schema_migrations WHERE version = 99")
	require.NoError(t, db.Migrate(ctxFor(t)))
}

func TestStoresInPostgreSQLShowTheConduct(t *testing.T) {
	db := fresh(t)
	t.Run("inventory", func(t *testing.T) { shoptest.InventoryConduct(t, store.Inventory{DB: db}) })
	t.Run("payments", func(t *testing.T) { shoptest.PaymentsConduct(t, store.Payments{DB: db}) })
	t.Run("the provider's book", func(t *testing.T) { shoptest.BookConduct(t, store.Book{DB: db}) })
	t.Run("events", func(t *testing.T) { shoptest.EventsConduct(t, store.Events{DB: db}) })
	t.Run("orders", func(t *testing.T) { shoptest.OrdersConduct(t, store.Orders{DB: db}) })
	require.Empty(t, sql(t, "SELECT * FROM ledger.oversold"), "the stock follows from the reservations")
}

const minute = time.Minute

// end is how an order ends, with an event of its own.
func end(id string, status orders.Status, why orders.Reason) orders.Outcome {
	return orders.Outcome{Status: status, Reason: why, HeldUntil: time.Now().Add(minute),
		Event: orders.Event{ID: "e:" + id, Kind: "order.ended", OrderID: id, ProductIDs: []string{"p-0001"}}}
}

func placed(t *testing.T, db *store.DB, id string) *orders.Order {
	t.Helper()
	o, created, err := store.Orders{DB: db}.Begin(ctxFor(t), &orders.Order{ID: id, CustomerID: "c-0001", TotalCents: 100,
		Items: []orders.Item{{ProductID: "p-0001", Quantity: 1, UnitCents: 100}}})
	require.NoError(t, err)
	require.True(t, created)
	return o
}

func reserved(t *testing.T, db *store.DB, id string) {
	t.Helper()
	_, err := store.Inventory{DB: db}.Reserve(ctxFor(t), id, []inventory.Item{{ProductID: "p-0001", Quantity: 1}}, minute)
	require.NoError(t, err)
}

func paid(t *testing.T, db *store.DB, id string) {
	t.Helper()
	_, err := store.Book{DB: db}.Enter(ctxFor(t), payments.Charge{Key: id, AmountCents: 100, State: payments.Captured, CardToken: "t"})
	require.NoError(t, err)
	_, err = store.Payments{DB: db}.Keep(ctxFor(t), payments.Payment{OrderID: id, AmountCents: 100, State: payments.Taken, CardToken: "t"})
	require.NoError(t, err)
}

func settled(t *testing.T, db *store.DB, o *orders.Order, how orders.Outcome) {
	t.Helper()
	mine, err := store.Orders{DB: db}.Settle(ctxFor(t), o, how)
	require.NoError(t, err)
	require.True(t, mine)
}

func TestTheLedgerFindsWhatAShopMustNotDo(t *testing.T) {
	db := fresh(t)
	good := placed(t, db, "good")
	reserved(t, db, "good")
	paid(t, db, "good")
	settled(t, db, good, end("good", orders.Confirmed, ""))
	ledgerIsClean(t)

	unpaid := placed(t, db, "unpaid")
	reserved(t, db, "unpaid")
	settled(t, db, unpaid, end("unpaid", orders.Confirmed, ""))
	nothing := placed(t, db, "paid-for-nothing")
	reserved(t, db, "paid-for-nothing")
	paid(t, db, "paid-for-nothing")
	settled(t, db, nothing, end("paid-for-nothing", orders.Cancelled, orders.OutOfStock))
	mismatch := func() []string { return sql(t, "SELECT order_id FROM ledger.payment_mismatch ORDER BY 1") }
	require.Equal(t, []string{"paid-for-nothing", "unpaid"}, mismatch())
	require.Equal(t, []string{"paid-for-nothing"}, sql(t, "SELECT order_id FROM ledger.doubled"), "stock kept for a cancelled order")

	sql(t, "UPDATE inventory.reservations SET quantity = 2 WHERE order_id = 'good'")
	require.Equal(t, []string{"good|1|2", "paid-for-nothing|0|1"},
		sql(t, "SELECT order_id, wanted, reserved FROM ledger.doubled ORDER BY 1"))
	require.Equal(t, []string{"p-0001"}, sql(t, "SELECT product_id FROM ledger.oversold"))

	for _, wrong := range []string{
		"UPDATE provider.charges SET amount_cents = 99 WHERE key = 'good'",
		"UPDATE provider.charges SET state = 'voided' WHERE key = 'good'",
		"UPDATE orders.order_items SET unit_cents = 99 WHERE order_id = 'good'",
		"DELETE FROM payments.payments WHERE order_id = 'good'",
	} {
		require.NotContains(t, mismatch(), "good")
		rows := sql(t, "BEGIN", wrong, "SELECT order_id FROM ledger.payment_mismatch", "ROLLBACK")
		require.Contains(t, rows, "good", wrong)
	}
	sql(t, "INSERT INTO provider.charges (key, amount_cents, state, card_token) VALUES ('nobodys', 1, 'captured', 't')")
	require.Contains(t, mismatch(), "nobodys")
}

// No program, however wrong, gets these past the database.
func TestTheDatabaseItselfRefusesWhatMustNotBe(t *testing.T) {
	db := fresh(t)
	good := placed(t, db, "good")
	reserved(t, db, "good")
	settled(t, db, good, end("good", orders.Confirmed, ""))
	placed(t, db, "open")
	for name, wrong := range map[string]string{
		"stock below nothing":                        "UPDATE inventory.products SET stock = -1 WHERE id = 'p-0001'",
		"more stock than was made":                   "UPDATE inventory.products SET stock = stock_initial + 1 WHERE id = 'p-0001'",
		"a reservation without an end":               "UPDATE inventory.reservations SET expires_at = 'infinity' WHERE order_id = 'good'",
		"an order twice":                             "INSERT INTO orders.orders (id, customer_id, status, total_cents) VALUES ('good', 'c', 'placed', 1)",
		"an order that goes back":                    "UPDATE orders.orders SET status = 'reserved', settled_at = NULL WHERE id = 'good'",
		"a confirmed order that is cancelled":        "UPDATE orders.orders SET status = 'cancelled', reason = 'out_of_stock' WHERE id = 'good'",
		"an order confirmed that was never paid":     "UPDATE orders.orders SET status = 'confirmed', settled_at = now(), reserved_at = now() WHERE id = 'open'",
		"an order paid that was never reserved":      "UPDATE orders.orders SET status = 'paid', paid_at = now() WHERE id = 'open'",
		"an order cancelled without a reason":        "UPDATE orders.orders SET status = 'cancelled', settled_at = now() WHERE id = 'open'",
		"an order settled at no time":                "UPDATE orders.orders SET status = 'cancelled', reason = 'out_of_stock' WHERE id = 'open'",
		"an order confirmed though it is cancelling": "UPDATE orders.orders SET status = 'confirmed', cancelling = 'payment_unresolved', settled_at = now(), reserved_at = now(), paid_at = now() WHERE id = 'open'",
		"an event twice":                             "INSERT INTO orders.outbox (id, kind, order_id, product_ids) VALUES ('e:good', 'k', 'good', '{}')",
		"a product bought with itself":               "INSERT INTO analytics.bought_together VALUES ('p-0001', 'p-0001', 1)",
	} {
		_, err := pg.SQL(wrong)
		require.Error(t, err, name)
	}
	require.Equal(t, []string{"confirmed", "placed"}, sql(t, "SELECT status FROM orders.orders ORDER BY id"))
}

// A database of the program before this one is brought along with what is in it.
func TestAnOlderShopIsBroughtAlong(t *testing.T) {
	fresh(t)
	sql(t, "DROP DATABASE IF EXISTS older", "CREATE DATABASE older OWNER shop_app")
	older := func(statements ...string) []string {
		rows, err := pg.SQLIn("older", statements...)
		require.NoError(t, err)
		return rows
	}
	for n, file := range []string{"0001_schema", "0002_seed", "0003_ledger"} {
		text, err := os.ReadFile("migrations/" + file + ".sql")
		require.NoError(t, err)
		older("SET ROLE shop_app", string(text), `CREATE TABLE IF NOT EXISTS public.schema_migrations (
			version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
			fmt.Sprintf("INSERT INTO public.schema_migrations (version, name) VALUES (%d, '%s')", n+1, file))
	}
	older(`INSERT INTO orders.orders (id, customer_id, status, total_cents) VALUES
			('a', 'c-0001', 'confirmed', 100), ('b', 'c-0001', 'out_of_stock', 100), ('c', 'c-0050', 'payment_declined', 100), ('d', 'c-0001', 'pending', 100);
		INSERT INTO orders.order_items SELECT id, 'p-0001', 1, 100 FROM orders.orders;
		INSERT INTO inventory.reservations (order_id, product_id, quantity, state) VALUES
			('a', 'p-0001', 1, 'reserved'), ('b', 'p-0001', 1, 'refused'), ('c', 'p-0001', 1, 'released'), ('d', 'p-0001', 1, 'reserved');
		UPDATE inventory.products SET stock = stock - 2 WHERE id = 'p-0001';
		INSERT INTO payments.payments VALUES ('a', 100, 'taken', 't'), ('c', 100, 'declined', 't')`)
	db := openWith(t, store.Config{Name: "older", Credentials: func(context.Context) (string, string, error) { return pg.User, pg.Password, nil }})
	older("GRANT CONNECT ON DATABASE older TO shop_app")
	require.NoError(t, db.Migrate(ctxFor(t)))
	require.Equal(t, []string{"a|confirmed|", "b|cancelled|out_of_stock", "c|cancelled|payment_declined", "d|placed|"},
		older("SELECT id, status, reason FROM orders.orders ORDER BY id"))
	require.Equal(t, []string{"a|committed", "d|reserved"}, older("SELECT order_id, state FROM inventory.reservations WHERE state IN ('reserved', 'committed') ORDER BY 1"))
	for _, view := range []string{"oversold", "doubled", "payment_mismatch"} {
		require.Empty(t, older("SELECT * FROM ledger."+view))
	}
	db.Close()
	sql(t, "DROP DATABASE older")
}

func TestSeedIsReadAsTheServicesReadIt(t *testing.T) {
	db := fresh(t)
	products, err := store.Catalog{DB: db}.Products(ctxFor(t))
	require.NoError(t, err)
	require.Len(t, products, 3000)
	require.Equal(t, "p-0001", products[0].ID)
	require.Equal(t, "p-0006", products[5].ID)
	require.Equal(t, "keyboard", products[5].Category)
	require.Equal(t, "switches", products[5].Options[0].Name)
	require.Equal(t, int64(500), products[5].Options[0].Values[1].ExtraCents)
	require.Empty(t, products[2].Options, "not everything can be configured")
	items := assortment.Make(assortment.Seed, assortment.Count)
	for i, p := range products {
		require.ElementsMatch(t, items[i].Options, p.Options, p.ID)
		require.Equal(t, items[i].Name, p.Name)
	}
	edition := func() int64 {
		e, err := store.Catalog{DB: db}.Edition(ctxFor(t))
		require.NoError(t, err)
		return e
	}
	before := edition()
	require.Equal(t, before, edition())
	sql(t, "UPDATE catalog.products SET price_cents = price_cents WHERE id = 'p-0001'")
	require.Greater(t, edition(), before)

	c, known, err := store.Customers{DB: db}.Customer(ctxFor(t), "c-0050")
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, "declined-0050", c.CardReference)
	_, known, err = store.Customers{DB: db}.Customer(ctxFor(t), "c-0501")
	require.NoError(t, err)
	require.False(t, known)

	ids, err := store.Picks{DB: db}.Picks(ctxFor(t), "keyboard", 6)
	require.NoError(t, err)
	require.Len(t, ids, 6)
}

func TestConfigurationsAreKeptOnce(t *testing.T) {
	db := fresh(t)
	c := configurator.Configuration{ID: "cfg-1", ProductID: "p-0006", Options: map[string]string{"layout": "iso"}, PriceCents: 5}
	for _, want := range []bool{true, false} {
		created, err := store.Configurations{DB: db}.Save(ctxFor(t), c)
		require.NoError(t, err)
		require.Equal(t, want, created)
	}
	read, known, err := store.Configurations{DB: db}.Configuration(ctxFor(t), "cfg-1")
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, c, read)
	_, known, err = store.Configurations{DB: db}.Configuration(ctxFor(t), "cfg-none")
	require.NoError(t, err)
	require.False(t, known)
}

func TestASecondLoginRoleMayDoEverything(t *testing.T) {
	fresh(t)
	sql(t, "DROP ROLE IF EXISTS rotated", "CREATE ROLE rotated LOGIN PASSWORD 'second' IN ROLE shop_app")
	db := open(t, "rotated", "second")
	require.NoError(t, db.Migrate(ctxFor(t)))
	_, created, err := store.Orders{DB: db}.Begin(ctxFor(t), &orders.Order{ID: "by-rotated", CustomerID: "c-0001", TotalCents: 1,
		Items: []orders.Item{{ProductID: "p-0001", Quantity: 1, UnitCents: 1}}})
	require.NoError(t, err)
	require.True(t, created)
}

func TestRotatedCredentialsAreTakenUpAfterARefusal(t *testing.T) {
	fresh(t)
	password := make(chan string, 1)
	password <- "stale"
	refused := 0
	db := openWith(t, store.Config{
		Credentials: func(context.Context) (string, string, error) { p := <-password; password <- p; return pg.User, p, nil },
		Refused:     func() { refused++; <-password; password <- pg.Password },
	})
	require.Equal(t, codes.Unavailable, fail.From(db.Ping(ctxFor(t))).Code)
	require.Equal(t, 1, refused)
	require.NoError(t, db.Ping(ctxFor(t)))
	require.Equal(t, 1, refused)
}

func TestErrorsSayPostgreSQLAndTheirKind(t *testing.T) {
	fresh(t)
	wrong := open(t, pg.User, "wrong")
	err := wrong.Ping(ctxFor(t))
	require.Equal(t, codes.Unavailable, fail.From(err).Code)
	require.Equal(t, "inventory-management>postgres", fail.From(err).Chain("inventory-management"))
	require.NotContains(t, err.Error(), pg.Password)

	_, _, err = store.Inventory{DB: open(t, pg.User, pg.Password)}.Stock(ctxFor(t), "p-\x00")
	require.Equal(t, codes.InvalidArgument, fail.From(err).Code)
	require.Equal(t, "reading stock: a value cannot be stored", err.Error())

	late, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	_, _, err = store.Inventory{DB: open(t, pg.User, pg.Password)}.Stock(late, "p-0001")
	require.Equal(t, codes.DeadlineExceeded, fail.From(err).Code)
}

func TestTheSuperuserCannotComeOverTheNetwork(t *testing.T) {
	db := open(t, "postgres", "")
	require.ErrorContains(t, db.Ping(ctxFor(t)), "pg_hba.conf")
}

func TestPostgreSQLEndsFastUnderConnectionsAndComesBackWithItsData(t *testing.T) {
	db := fresh(t)
	_, _, err := store.Orders{DB: db}.Begin(ctxFor(t), &orders.Order{ID: "kept", CustomerID: "c-0001", TotalCents: 1,
		Items: []orders.Item{{ProductID: "p-0001", Quantity: 1, UnitCents: 1}}})
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, pg.Shutdown(), "the entry script ends with 0")
	require.Less(t, time.Since(began), 5*time.Second)
	require.Equal(t, codes.Unavailable, fail.From(db.Ping(ctxFor(t))).Code)
	require.NoError(t, os.Rename(pg.SecretsDir, pg.SecretsDir+".away"), "the secret is needed only at first")
	defer func() { require.NoError(t, os.Rename(pg.SecretsDir+".away", pg.SecretsDir)) }()
	require.NoError(t, pg.Restart(ctxFor(t)))
	o, err := store.Orders{DB: db}.Order(ctxFor(t), "kept")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(orders.Placed), fmt.Sprint(o.Status))
}

// Stock and payment wait for no disk, the order's end does: it takes them along.
func TestASettledOrderIsOnTheDiskWithItsStockAndPayment(t *testing.T) {
	db := fresh(t)
	deferred := openWith(t, store.Config{Deferred: true, Credentials: func(context.Context) (string, string, error) { return pg.User, pg.Password, nil }})
	for n := range 2 {
		id := fmt.Sprintf("crash-%d", n)
		require.NoError(t, deferred.Ping(ctxFor(t)))
		o := placed(t, db, id)
		reserved(t, deferred, id)
		paid(t, deferred, id)
		settled(t, db, o, end(id, orders.Confirmed, ""))
		require.NoError(t, pg.Crash())
		require.NoError(t, pg.Restart(ctxFor(t)))
		require.Equal(t, []string{"confirmed"}, sql(t, "SELECT status FROM orders.orders WHERE id = '"+id+"'"))
		require.Equal(t, []string{"1"}, sql(t, "SELECT count(*) FROM orders.outbox WHERE order_id = '"+id+"'"))
		ledgerIsClean(t)
		require.Eventually(t, func() bool { return db.Ping(ctxFor(t)) == nil && deferred.Ping(ctxFor(t)) == nil }, 5*time.Second, 10*time.Millisecond)
	}
}
