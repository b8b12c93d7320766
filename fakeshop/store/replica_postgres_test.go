//go:build postgres

package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shoptest"
	"meshsim.dev/meshsim/fakeshop/store"
)

// A rolling restart of the database, as long as a client waits, is bridged:
// pods keep their pools, and no statement fails.
func TestPoolsLiveThroughARestartOfTheDatabase(t *testing.T) {
	db := fresh(t)
	over := make(chan struct{})
	var pods sync.WaitGroup
	var mu sync.Mutex
	placedIDs := 0
	for pod := range 6 {
		pods.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				if err := buyAt(db, fmt.Sprintf("o-%d-%d", pod, n)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				placedIDs++
				mu.Unlock()
			}
		})
	}
	for range 3 {
		time.Sleep(200 * time.Millisecond)
		require.NoError(t, pg.Shutdown())
		time.Sleep(300 * time.Millisecond)
		require.NoError(t, pg.Restart(ctxFor(t)))
	}
	time.Sleep(200 * time.Millisecond)
	close(over)
	pods.Wait()
	require.Positive(t, placedIDs)
	require.Equal(t, []string{strconv.Itoa(placedIDs)}, sql(t, "SELECT count(*) FROM orders.orders WHERE status = 'confirmed'"))
	ledgerIsClean(t)
}

// buyAt does the statements of an order, each with as long as a hop has.
func buyAt(db *store.DB, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	o, _, err := store.Orders{DB: db}.Begin(ctx, &orders.Order{ID: id, CustomerID: "c-0001", TotalCents: 100,
		Items: []orders.Item{{ProductID: "p-0001", Quantity: 1, UnitCents: 100}}})
	if err != nil {
		return err
	}
	r, err := store.Inventory{DB: db}.Reserve(ctx, id, []inventory.Item{{ProductID: "p-0001", Quantity: 1}}, minute)
	if err != nil {
		return err
	}
	if _, err := (store.Book{DB: db}).Enter(ctx, payments.Charge{Key: id, AmountCents: 100, State: payments.Captured, CardToken: "t"}); err != nil {
		return err
	}
	if _, err := (store.Payments{DB: db}).Keep(ctx, payments.Payment{OrderID: id, AmountCents: 100, State: payments.Taken, CardToken: "t"}); err != nil {
		return err
	}
	how := end(id, orders.Confirmed, "")
	how.HeldUntil = r.HeldUntil
	_, err = store.Orders{DB: db}.Settle(ctx, o, how)
	return err
}

// A restart that takes longer than the caller waits is told as what it is.
func TestADatabaseThatStaysAwayIsNamed(t *testing.T) {
	db := fresh(t)
	require.NoError(t, pg.Shutdown())
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, _, err := store.Inventory{DB: db}.Stock(ctx, "p-0001")
	require.ErrorContains(t, err, "connect")
	require.Less(t, time.Since(began), time.Second)
	require.NoError(t, pg.Restart(ctxFor(t)))
	_, _, err = store.Inventory{DB: db}.Stock(ctxFor(t), "p-0001")
	require.NoError(t, err)
}

func TestAReplicaFollowsAndServesWhatMayBeOld(t *testing.T) {
	fresh(t)
	replica, err := pg.StartReplica(ctxFor(t))
	require.NoError(t, err)
	stopped := false
	defer func() {
		if !stopped {
			require.NoError(t, replica.Stop())
		}
	}()
	credentials := func(context.Context) (string, string, error) { return pg.User, pg.Password, nil }
	// Both have their own port, so that a proxy is spared: what goes to the
	// replica is seen in its own statistics.
	db := openWith(t, store.Config{Credentials: credentials, ReadHost: replica.Host, ReadPort: replica.Port})
	on := func(p *shoptest.Postgres, statement string) string {
		rows, err := p.SQL(statement)
		require.NoError(t, err)
		return strings.Join(rows, " ")
	}
	require.Equal(t, "t", on(replica, "SELECT pg_is_in_recovery()"))
	_, err = replica.SQL("UPDATE inventory.products SET stock = 0 WHERE id = 'p-0001'")
	require.ErrorContains(t, err, "read-only")

	connections := func(p *shoptest.Postgres) string {
		return on(p, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test'")
	}
	before, err := store.Catalog{DB: db}.Edition(ctxFor(t))
	require.NoError(t, err)
	require.Equal(t, "1", connections(replica))
	sql(t, "UPDATE catalog.products SET name = 'Renamed' WHERE id = 'p-2999'")
	require.Eventually(t, func() bool {
		edition, err := store.Catalog{DB: db}.Edition(ctxFor(t))
		return err == nil && edition > before
	}, 5*time.Second, 5*time.Millisecond)
	defer sql(t, "DELETE FROM schema_migrations WHERE version = 9")
	require.NoError(t, buyAt(db, "o-1"), "what is written goes to the primary")
	t.Logf("the replica uses %d KiB of its own", ownMemory(t, replica))

	t.Run("it is no loss when it goes", func(t *testing.T) {
		require.NoError(t, replica.Shutdown())
		for range 20 {
			_, known, err := store.Customers{DB: db}.Customer(ctxFor(t), "c-0001")
			require.NoError(t, err)
			require.True(t, known)
		}
	})
	t.Run("it goes on where it was", func(t *testing.T) {
		require.NoError(t, buyAt(db, "o-2"))
		require.NoError(t, replica.Restart(ctxFor(t)))
		require.Eventually(t, func() bool { return on(replica, "SELECT count(*) FROM orders.orders") == "2" }, 5*time.Second, 10*time.Millisecond)
	})
	t.Run("it follows a primary that was restarted", func(t *testing.T) {
		require.NoError(t, pg.Shutdown())
		require.NoError(t, pg.Restart(ctxFor(t)))
		require.NoError(t, buyAt(db, "o-3"))
		require.Eventually(t, func() bool { return on(replica, "SELECT count(*) FROM orders.orders") == "3" }, 15*time.Second, 50*time.Millisecond)
	})
	t.Run("it copies another primary that took its place", func(t *testing.T) {
		require.NoError(t, replica.Shutdown())
		other, err := shoptest.StartPostgres(ctxFor(t))
		require.NoError(t, err)
		defer func() { require.NoError(t, other.Stop()) }()
		require.Eventually(t, func() bool {
			rows, err := other.SQLIn("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'replicator'")
			return err == nil && rows[0] == "1"
		}, 10*time.Second, 50*time.Millisecond)
		require.NoError(t, replica.Follow(other))
		require.NoError(t, replica.Restart(ctxFor(t)))
		_, err = replica.SQL("SELECT 1 FROM orders.orders")
		require.ErrorContains(t, err, "does not exist", "the other one is empty")
		require.NoError(t, replica.Stop())
		stopped = true
	})
}

// ownMemory is the proportional memory of a PostgreSQL's processes, in KiB.
func ownMemory(t *testing.T, p *shoptest.Postgres) (kib int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	for _, link := range stats {
		if cwd, err := os.Readlink(link); err != nil || cwd != p.DataDir() {
			continue
		}
		rollup, err := os.ReadFile(filepath.Join(filepath.Dir(link), "smaps_rollup"))
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(rollup)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
				n, err := strconv.Atoi(fields[1])
				require.NoError(t, err)
				kib += n
			}
		}
	}
	return kib
}
