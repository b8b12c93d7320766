//go:build postgres

// Rotations on a real PostgreSQL, beneath a shop that never stops:
//
//	go test -tags postgres ./fakeshop/rotation
package rotation

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/secrets"
	"meshsim.dev/meshsim/fakeshop/shoptest"
	"meshsim.dev/meshsim/fakeshop/store"
)

// world is a PostgreSQL, a Vault that the secrets were just moved into, and a
// rotator of two services' secrets.
type world struct {
	t       *testing.T
	pg      *shoptest.Postgres
	vault   *shoptest.Vault
	servers Servers
	rotator Rotator
}

// reads is how often the services' pods read Vault; what a rotator gives them is
// some times as much.
const reads = 40 * time.Millisecond

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := shoptest.StartPostgres(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Stop()) })
	vault := shoptest.StartVault(t, Name)
	shoptest.MoveSecrets(t, pg, vault, services)
	w := &world{t: t, pg: pg, vault: vault, servers: Servers{Host: pg.Host, Port: pg.Port, Database: "shop"}}
	w.rotator = Rotator{
		Vault: &secrets.KV{Vault: vault.As(Name)}, Database: w.servers, Log: slog.New(slog.DiscardHandler),
		Options: Options{Base: shoptest.VaultBase, Services: services, Period: 720 * time.Hour, Lead: 48 * time.Hour,
			TakeUp: 8 * reads, Patience: 20 * time.Second, Poll: 5 * time.Millisecond, Now: true},
	}
	return w
}

// pod is a service's database as its pod has it: the login is read from Vault, and
// connections are made anew when it is another.
func (w *world) pod(ctx context.Context, service string, keeping *sync.WaitGroup) *store.DB {
	w.t.Helper()
	k := secrets.NewKeeper(w.vault.As(service), false, reads, slog.New(slog.DiscardHandler))
	require.NoError(w.t, k.Load(ctx))
	db, err := store.Open(context.Background(), store.Config{
		Host: w.pg.Host, Port: w.pg.Port, ReadHost: w.servers.ReplicaHost, ReadPort: w.servers.ReplicaPort,
		Name: "shop", Application: service, Refused: k.Nudge,
		Credentials: func(context.Context) (string, string, error) { s := k.Latest(); return s.DBUser, s.DBPassword, nil },
	})
	require.NoError(w.t, err)
	k.OnRenewal(db.Renew)
	keeping.Go(func() { k.Keep(ctx) })
	return db
}

// sell lets pods of both services take orders until stop is called, which returns
// how many there were. None may fail.
func (w *world) sell() (stop func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	var keeping, selling sync.WaitGroup
	var sold atomic.Int64
	var dbs []*store.DB
	over := make(chan struct{})
	for pod := range 3 {
		ordering, paying := w.pod(ctx, "order-processing", &keeping), w.pod(ctx, "payment-gateway", &keeping)
		dbs = append(dbs, ordering, paying)
		if pod == 0 {
			require.NoError(w.t, ordering.Migrate(ctx))
		}
		for client := range 2 {
			selling.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-over:
						return
					default:
					}
					if err := order(ordering, paying, fmt.Sprintf("o-%d-%d-%d", pod, client, n)); err != nil {
						w.t.Errorf("an order failed: %v", err)
						return
					}
					sold.Add(1)
				}
			})
		}
	}
	end := sync.OnceFunc(func() {
		close(over)
		selling.Wait()
		cancel()
		keeping.Wait()
		for _, db := range dbs {
			db.Close()
		}
	})
	w.t.Cleanup(end) // before the database goes
	return func() int { end(); return int(sold.Load()) }
}

// order does the statements of one, with as long as a client waits.
func order(ordering, paying *store.DB, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o, _, err := store.Orders{DB: ordering}.Begin(ctx, &orders.Order{ID: id, CustomerID: "c-0001", TotalCents: 100,
		Items: []orders.Item{{ProductID: "p-0001", Quantity: 1, UnitCents: 100}}})
	if err != nil {
		return err
	}
	r, err := store.Inventory{DB: ordering}.Reserve(ctx, id, []inventory.Item{{ProductID: "p-0001", Quantity: 1}}, time.Minute)
	if err != nil {
		return err
	}
	if _, err := (store.Book{DB: paying}).Enter(ctx, payments.Charge{Key: id, AmountCents: 100, State: payments.Captured, CardToken: "t"}); err != nil {
		return err
	}
	if _, err := (store.Payments{DB: paying}).Keep(ctx, payments.Payment{OrderID: id, AmountCents: 100, State: payments.Taken, CardToken: "t"}); err != nil {
		return err
	}
	if _, _, err := (store.Customers{DB: ordering}).Customer(ctx, "c-0001"); err != nil {
		return err
	}
	_, err = store.Orders{DB: ordering}.Settle(ctx, o, orders.Outcome{Status: orders.Confirmed, HeldUntil: r.HeldUntil,
		Event: orders.Event{ID: "e:" + id, Kind: "order.confirmed", OrderID: id, ProductIDs: []string{"p-0001"}}})
	return err
}

func (w *world) logins() map[string]Login {
	all := map[string]Login{}
	for _, name := range append([]string{Name}, services...) {
		all[name] = loginOf(w.vault.Newest(name))
	}
	return all
}

// works is that every login in Vault is let in.
func (w *world) works(when string) {
	w.t.Helper()
	for name, login := range w.logins() {
		require.NoError(w.t, w.servers.Admits(w.ctx(), login), "%s: %s", when, name)
	}
}

// alone is that there are no other logins than those in Vault.
func (w *world) alone(when string) {
	w.t.Helper()
	w.works(when)
	var want []string
	for _, login := range w.logins() {
		want = append(want, login.User)
	}
	slices.Sort(want)
	have, err := w.pg.SQL(`SELECT rolname FROM pg_roles WHERE rolname ~ '_[ab]$' OR rolname = 'shop_vault' ORDER BY rolname COLLATE "C"`)
	require.NoError(w.t, err)
	require.Equal(w.t, want, have, when)
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

func TestLoginsAreRotatedBeneathOrdersAndNoneFails(t *testing.T) {
	w := newWorld(t)
	stop := w.sell()
	old := w.logins()
	for turn := range 5 {
		require.NoError(t, w.rotator.Run(w.ctx()))
		for name, login := range old {
			require.ErrorIs(t, w.servers.Admits(w.ctx(), login), ErrRefused, "turn %d: the old login of %s", turn, name)
		}
		w.alone(fmt.Sprint("turn ", turn))
		old = w.logins()
	}
	sold := stop()
	require.Greater(t, sold, 100)
	t.Logf("%d orders", sold)
	confirmed, err := w.pg.SQL("SELECT count(*) FROM orders.orders WHERE status = 'confirmed'")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(sold), confirmed[0])
	for _, view := range []string{"oversold", "doubled", "payment_mismatch"} {
		rows, err := w.pg.SQL("SELECT * FROM ledger." + view)
		require.NoError(t, err)
		require.Empty(t, rows, view)
	}
	require.Empty(t, w.vault.Denied())
}

// Killed before and after each action that changes something, and run again,
// beneath orders none of which may fail.
func TestARotationMayBeKilledBetweenAnyTwoActionsAndRunAgain(t *testing.T) {
	w := newWorld(t)
	stop := w.sell()
	w.rotator.Options.TakeUp = 4 * reads
	points := 0
	for at := 0; ; at++ {
		killed := &reaper{at: at, waits: true}
		dying := w.rotator
		dying.Vault, dying.Database = mortalVault{dying.Vault, killed}, mortalDatabase{dying.Database, killed}
		err := dying.Run(w.ctx())
		if !killed.dead {
			require.NoError(t, err)
			break
		}
		points++
		require.ErrorIs(t, err, errKilled)
		w.works(killed.last)
		again := w.rotator
		again.Options.Now = at%2 == 0 // else it only finishes what was begun
		require.NoError(t, again.Run(w.ctx()), "run again, killed %s", killed.last)
		w.alone("killed " + killed.last)
	}
	require.Greater(t, points, 25)
	t.Logf("killed at %d instants, %d orders", points, stop())
}

func TestTheReplicasSessionsAreWaitedFor(t *testing.T) {
	w := newWorld(t)
	replica, err := w.pg.StartReplica(w.ctx())
	require.NoError(t, err)
	defer func() { require.NoError(t, replica.Stop()) }()
	w.servers.ReplicaHost, w.servers.ReplicaPort = replica.Host, replica.Port
	w.rotator.Database = w.servers
	stop := w.sell()
	old := w.logins()["order-processing"]
	late, err := w.servers.dial(w.ctx(), replica.Host, replica.Port, old)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- w.rotator.Run(w.ctx()) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait for a session at the replica: %v", err)
	case <-time.After(20 * reads):
	}
	require.NoError(t, w.servers.Admits(w.ctx(), old), "it still works")
	require.NoError(t, late.Close(w.ctx()))
	require.NoError(t, <-done)
	require.ErrorIs(t, w.servers.Admits(w.ctx(), old), ErrRefused)
	w.alone("with a replica")

	require.NoError(t, replica.Shutdown())
	require.NoError(t, w.rotator.Run(w.ctx()), "a replica that is away hinders nobody")
	w.alone("without it")
	require.NoError(t, replica.Restart(w.ctx()))
	require.Positive(t, stop())
}

func TestTwoRotationsAtOnceGoOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	stop := w.sell()
	var both sync.WaitGroup
	for range 2 {
		one := w.rotator
		one.Vault = &secrets.KV{Vault: w.vault.As(Name)} // each is a process of its own
		both.Go(func() {
			if err := one.Run(w.ctx()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	w.alone("after two at once")
	require.Positive(t, stop())

	first, err := w.servers.Connect(w.ctx(), w.logins()[Name])
	require.NoError(t, err)
	require.NoError(t, first.Lock(w.ctx()))
	second, err := w.servers.Connect(w.ctx(), w.logins()[Name])
	require.NoError(t, err)
	defer second.Close()
	require.ErrorIs(t, second.Lock(w.ctx()), ErrLocked)
	first.Close()
	require.Eventually(t, func() bool { return second.Lock(w.ctx()) == nil }, 5*time.Second, 5*time.Millisecond, "the lock goes with its session")
}

func TestTheRotatorMayDoWhatItDoesAndNoMore(t *testing.T) {
	w := newWorld(t)
	stop := w.sell()
	require.Positive(t, func() int { time.Sleep(50 * time.Millisecond); return stop() }())
	conn, err := w.servers.dial(w.ctx(), w.pg.Host, w.pg.Port, w.logins()[Name])
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(w.ctx())) }()
	const good = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"
	for name, c := range map[string]struct {
		statement string
		args      []any
		code      string
	}{
		"read the shop's tables":        {"SELECT * FROM orders.orders", nil, "42501"},
		"become the shop":               {"SET ROLE shop_app", nil, "42501"},
		"become what the functions are": {"SET ROLE shop_keeper", nil, "42501"},
		"make a role":                   {"CREATE ROLE shop_x_a", nil, "42501"},
		"renew the superuser":           {"SELECT rotation.renew($1, $2)", []any{"postgres", good}, "42501"},
		"renew a group":                 {"SELECT rotation.renew($1, $2)", []any{"shop_app", good}, "42501"},
		"renew the login of files":      {"SELECT rotation.renew($1, $2)", []any{"shop", good}, "42501"},
		"set a password that is read":   {"SELECT rotation.renew($1, $2)", []any{"shop_x_a", "hunter2"}, "28P01"},
		"end the replication's login":   {"SELECT rotation.retire($1)", []any{"replicator"}, "42501"},
		"end itself":                    {"SELECT rotation.retire($1)", []any{"secret_rotator_a"}, "55006"},
		"end nobody it knows":           {"SELECT rotation.retire($1)", []any{"shop_nobody_b"}, ""},
	} {
		_, err := conn.Exec(w.ctx(), c.statement, c.args...)
		if c.code == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, "SQLSTATE "+c.code, name)
	}
	// Nor may the services call what it calls.
	service, err := w.servers.dial(w.ctx(), w.pg.Host, w.pg.Port, w.logins()["order-processing"])
	require.NoError(t, err)
	defer func() { require.NoError(t, service.Close(w.ctx())) }()
	_, err = service.Exec(w.ctx(), "SELECT rotation.renew($1, $2)", "shop_x_a", good)
	require.ErrorContains(t, err, "42501")
}

// The script may be run over what is there, and a login that came to own
// something can at least not log in any more.
func TestTheScriptMayBeRunAgainAndALoginThatOwnsSomethingIsClosed(t *testing.T) {
	w := newWorld(t)
	script, err := chart.RotationSQL()
	require.NoError(t, err)
	_, err = w.pg.SQL(script)
	require.NoError(t, err)
	_, err = w.pg.SQL("CREATE TABLE public.left_behind ()", "ALTER TABLE public.left_behind OWNER TO shop_vault")
	require.NoError(t, err)
	old := w.logins()["order-processing"]
	require.NoError(t, w.rotator.Run(w.ctx()))
	require.ErrorIs(t, w.servers.Admits(w.ctx(), old), ErrRefused)
	rows, err := w.pg.SQL("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'shop_vault'")
	require.NoError(t, err)
	require.Equal(t, []string{"f"}, rows)
}
