//go:build postgres

// Tests against a real PostgreSQL, which they start themselves:
//
//	go test -tags postgres ./fakeshop/...
//
// They need Debian's postgresql package and root (to become its user).
package store_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/analytics"
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
	cfg.Host, cfg.Port, cfg.Name, cfg.Application = pg.Host, pg.Port, "shop", "test"
	db, err := store.Open(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// fresh is the shop's database with nothing sold yet.
func fresh(t *testing.T) *store.DB {
	t.Helper()
	db := open(t, pg.User, pg.Password)
	require.NoError(t, db.Migrate(ctxFor(t)))
	sql(t, `TRUNCATE orders.orders, orders.order_items, inventory.reservations, payments.payments, analytics.events, configurator.configurations`,
		`UPDATE inventory.products SET stock = stock_initial`)
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
	require.Equal(t, []string{"1", "2", "3"}, sql(t, "SELECT version FROM schema_migrations ORDER BY version"))
	require.Equal(t, []string{"shop_app"}, sql(t, `SELECT DISTINCT tableowner FROM pg_tables
		WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`))
	require.Equal(t, []string{"240|6"}, sql(t, "SELECT count(*), count(*) FILTER (WHERE stock_initial = 5) FROM inventory.products"))
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
	t.Run("orders", func(t *testing.T) { shoptest.OrdersConduct(t, store.Orders{DB: db}) })
	require.Empty(t, sql(t, "SELECT * FROM ledger.oversold"), "the stock follows from the reservations")
}

func TestTheLedgerFindsWhatAShopMustNotDo(t *testing.T) {
	db := fresh(t)
	ctx := ctxFor(t)
	begin := func(id string, status orders.Status, payment payments.State) {
		_, _, err := store.Orders{DB: db}.Begin(ctx, &orders.Order{ID: id, CustomerID: "c-0001", TotalCents: 100,
			Items: []orders.Item{{ProductID: "p-0001", Quantity: 1, UnitCents: 100}}})
		require.NoError(t, err)
		_, _, err = store.Inventory{DB: db}.Reserve(ctx, id, []inventory.Item{{ProductID: "p-0001", Quantity: 1}})
		require.NoError(t, err)
		if payment != "" {
			_, err = store.Payments{DB: db}.Keep(ctx, payments.Payment{OrderID: id, AmountCents: 100, State: payment, CardToken: "t"})
			require.NoError(t, err)
		}
		_, err = store.Orders{DB: db}.Settle(ctx, id, status)
		require.NoError(t, err)
	}
	begin("good", orders.Confirmed, payments.Taken)
	ledgerIsClean(t)

	begin("unpaid", orders.Confirmed, "")
	begin("paid-for-nothing", orders.OutOfStock, payments.Taken)
	require.Equal(t, []string{"paid-for-nothing", "unpaid"}, sql(t, "SELECT order_id FROM ledger.payment_mismatch ORDER BY 1"))
	require.Equal(t, []string{"paid-for-nothing"}, sql(t, "SELECT order_id FROM ledger.doubled"), "stock kept for a refused order")

	sql(t, "UPDATE inventory.reservations SET quantity = 2 WHERE order_id = 'good'")
	require.Equal(t, []string{"good|1|2", "paid-for-nothing|0|1"},
		sql(t, "SELECT order_id, wanted, reserved FROM ledger.doubled ORDER BY 1"))
	require.Equal(t, []string{"p-0001"}, sql(t, "SELECT product_id FROM ledger.oversold"))
}

func TestSeedIsReadAsTheServicesReadIt(t *testing.T) {
	db := fresh(t)
	products, err := store.Catalog{DB: db}.Products(ctxFor(t))
	require.NoError(t, err)
	require.Len(t, products, 240)
	require.Equal(t, "p-0001", products[0].ID)
	require.Equal(t, "p-0006", products[5].ID)
	require.Equal(t, "keyboard", products[5].Category)
	require.Equal(t, "switches", products[5].Options[0].Name)
	require.Equal(t, int64(500), products[5].Options[0].Values[1].ExtraCents)
	require.Empty(t, products[2].Options, "not everything can be configured")

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

func TestConfigurationsAndEventsAreKeptOnce(t *testing.T) {
	db := fresh(t)
	c := configurator.Configuration{ID: "cfg-1", ProductID: "p-0006", Options: map[string]string{"layout": "iso"}, PriceCents: 5}
	for _, want := range []bool{true, false} {
		created, err := store.Configurations{DB: db}.Save(ctxFor(t), c)
		require.NoError(t, err)
		require.Equal(t, want, created)
		require.NoError(t, store.Events{DB: db}.Record(ctxFor(t), analytics.Event{ID: "e-1", Kind: "k", Subject: "s"}))
	}
	require.Equal(t, []string{"1"}, sql(t, "SELECT count(*) FROM analytics.events"))
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
	require.Equal(t, fmt.Sprint(orders.Pending), fmt.Sprint(o.Status))
}

// Stock and payment wait for no disk, the order's end does: it takes them along.
func TestASettledOrderIsOnTheDiskWithItsStockAndPayment(t *testing.T) {
	db := fresh(t)
	deferred := openWith(t, store.Config{Deferred: true, Credentials: func(context.Context) (string, string, error) { return pg.User, pg.Password, nil }})
	ctx := ctxFor(t)
	for n := range 2 {
		id := fmt.Sprintf("crash-%d", n)
		require.NoError(t, deferred.Ping(ctx))
		_, created, err := store.Orders{DB: db}.Begin(ctx, &orders.Order{ID: id, CustomerID: "c-0001", TotalCents: 100,
			Items: []orders.Item{{ProductID: "p-0001", Quantity: 1, UnitCents: 100}}})
		require.NoError(t, err)
		require.True(t, created)
		_, _, err = store.Inventory{DB: deferred}.Reserve(ctx, id, []inventory.Item{{ProductID: "p-0001", Quantity: 1}})
		require.NoError(t, err)
		_, err = store.Payments{DB: deferred}.Keep(ctx, payments.Payment{OrderID: id, AmountCents: 100, State: payments.Taken, CardToken: "t"})
		require.NoError(t, err)
		_, err = store.Orders{DB: db}.Settle(ctx, id, orders.Confirmed)
		require.NoError(t, err)
		require.NoError(t, pg.Crash())
		require.NoError(t, pg.Restart(ctx))
		require.Equal(t, []string{"confirmed"}, sql(t, "SELECT status FROM orders.orders WHERE id = '"+id+"'"))
		ledgerIsClean(t)
		require.Eventually(t, func() bool { return db.Ping(ctx) == nil && deferred.Ping(ctx) == nil }, 5*time.Second, 10*time.Millisecond)
	}
}
