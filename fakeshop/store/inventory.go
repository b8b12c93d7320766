package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"meshsim.dev/meshsim/fakeshop/inventory"
)

// Inventory keeps schema inventory.
type Inventory struct{ DB *DB }

var _ inventory.Store = Inventory{}

// Stock answers false for an unknown product.
func (i Inventory) Stock(ctx context.Context, productID string) (inventory.Stock, bool, error) {
	out, known := inventory.Stock{ProductID: productID}, false
	err := i.DB.do(ctx, "reading stock", func(ctx context.Context, q pool) error {
		return found(&known, q.QueryRow(ctx, "SELECT stock, stock_initial FROM inventory.products WHERE id = $1", productID).
			Scan(&out.Stock, &out.Initial))
	})
	return out, known, err
}

// reserveSQL locks the products, by id so that no two calls wait for each other,
// looks whether there is enough of each, writes the reservation with what was
// found, and takes the pieces. Of two calls with one order id the second waits
// at the products; it then writes and takes nothing. One statement, because
// the hops to the database are most of what a reservation costs.
const reserveSQL = `WITH wanted AS (
		SELECT * FROM unnest($2::text[], $3::integer[]) AS w(product_id, quantity)
	), locked AS (
		SELECT id, stock FROM inventory.products WHERE id = ANY($2) ORDER BY id FOR UPDATE
	), judged AS (
		SELECT w.product_id, w.quantity, coalesce(l.stock, 0) < w.quantity AS short
		FROM wanted w LEFT JOIN locked l ON l.id = w.product_id
	), written AS (
		INSERT INTO inventory.reservations (order_id, product_id, quantity, state, short, expires_at)
		SELECT $1, product_id, quantity, CASE WHEN refused THEN 'refused' ELSE 'reserved' END, short,
			CASE WHEN refused THEN 'infinity' ELSE now() + $4::interval END
		FROM (SELECT *, bool_or(short) OVER () AS refused FROM judged) AS all_judged ORDER BY product_id
		ON CONFLICT DO NOTHING RETURNING product_id, quantity, state, short, expires_at
	), taken AS (
		UPDATE inventory.products p SET stock = p.stock - w.quantity
		FROM written w WHERE p.id = w.product_id AND w.state = 'reserved'
	)
	SELECT state, array_remove(array_agg(CASE WHEN short THEN product_id END ORDER BY product_id), NULL),
		CASE WHEN state = 'reserved' THEN min(expires_at) END
	FROM written GROUP BY state`

// Reserve takes all items or none, once for an order id.
func (i Inventory) Reserve(ctx context.Context, orderID string, items []inventory.Item, keep time.Duration) (r inventory.Reservation, err error) {
	ids, quantities := make([]string, len(items)), make([]int32, len(items))
	for n, item := range items {
		ids[n], quantities[n] = item.ProductID, int32(item.Quantity)
	}
	err = i.DB.do(ctx, "reserving stock", func(ctx context.Context, q pool) error {
		var until *time.Time
		err := q.QueryRow(ctx, reserveSQL, orderID, ids, quantities, keep).Scan(&r.State, &r.ShortOf, &until)
		if err == pgx.ErrNoRows {
			return i.reserveAgain(ctx, q, orderID, keep, &r)
		}
		if until != nil {
			r.HeldUntil = *until
		}
		return err
	})
	return r, err
}

// reserveAgain answers for an order id that has a reservation: one that is held
// is prolonged, one that has expired is taken again if all of it can be.
func (i Inventory) reserveAgain(ctx context.Context, q pool, orderID string, keep time.Duration, r *inventory.Reservation) error {
	return pgx.BeginFunc(ctx, q, func(tx pgx.Tx) error {
		if err := lockProducts(ctx, tx, orderID); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `WITH wanted AS (
				SELECT r.product_id, r.quantity, p.stock FROM inventory.reservations r JOIN inventory.products p ON p.id = r.product_id
				WHERE r.order_id = $1 AND r.state = 'expired'
			), taken AS (
				UPDATE inventory.products p SET stock = p.stock - w.quantity FROM wanted w
				WHERE p.id = w.product_id AND NOT EXISTS (SELECT FROM wanted WHERE stock < quantity) RETURNING p.id
			) UPDATE inventory.reservations SET state = 'reserved', expires_at = now() + $2::interval
			WHERE order_id = $1 AND product_id IN (SELECT id FROM taken)`, orderID, keep)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE inventory.reservations SET expires_at = now() + $2::interval
			WHERE order_id = $1 AND state = 'reserved'`, orderID, keep)
		if err != nil {
			return err
		}
		var until *time.Time
		err = tx.QueryRow(ctx, `SELECT min(state), array_remove(array_agg(CASE WHEN short THEN product_id END ORDER BY product_id), NULL),
				min(expires_at) FILTER (WHERE state = 'reserved')
			FROM inventory.reservations WHERE order_id = $1`, orderID).Scan(&r.State, &r.ShortOf, &until)
		if until != nil {
			r.HeldUntil = *until
		}
		return err
	})
}

// lockProducts locks the products of a reservation before the reservation, in
// the order in which reserveSQL does.
func lockProducts(ctx context.Context, tx pgx.Tx, orderID string) error {
	_, err := tx.Exec(ctx, `SELECT id FROM inventory.products
		WHERE id IN (SELECT product_id FROM inventory.reservations WHERE order_id = $1) ORDER BY id FOR UPDATE`, orderID)
	return err
}

// giveBackSQL ends what is held of an order.
const giveBackSQL = `WITH given AS (
		UPDATE inventory.reservations SET state = $2, expires_at = 'infinity'
		WHERE order_id = $1 AND state = 'reserved' AND ($2 = 'released' OR expires_at < now() - $3::interval)
		RETURNING product_id, quantity)
	UPDATE inventory.products p SET stock = stock + g.quantity FROM given g WHERE p.id = g.product_id`

// Release gives back what is reserved for the order, once.
func (i Inventory) Release(ctx context.Context, orderID string) (inventory.State, error) {
	return i.giveBack(ctx, "releasing stock", orderID, inventory.Released, 0)
}

// Expire gives back what is reserved for the order if it is overdue.
func (i Inventory) Expire(ctx context.Context, orderID string, overdue time.Duration) (inventory.State, error) {
	return i.giveBack(ctx, "expiring a reservation", orderID, inventory.Expired, overdue)
}

func (i Inventory) giveBack(ctx context.Context, doing, orderID string, as inventory.State, overdue time.Duration) (inventory.State, error) {
	var state *string
	err := i.DB.do(ctx, doing, func(ctx context.Context, q pool) error {
		return pgx.BeginFunc(ctx, q, func(tx pgx.Tx) error {
			if err := lockProducts(ctx, tx, orderID); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, giveBackSQL, orderID, string(as), overdue); err != nil {
				return err
			}
			return tx.QueryRow(ctx, "SELECT min(state) FROM inventory.reservations WHERE order_id = $1", orderID).Scan(&state)
		})
	})
	if err != nil || state == nil {
		return inventory.None, err
	}
	return inventory.State(*state), nil
}

// Commit makes what is held of the orders final.
func (i Inventory) Commit(ctx context.Context, orderIDs []string) (notHeld []string, err error) {
	err = i.DB.do(ctx, "committing reservations", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, `WITH sold AS (
				UPDATE inventory.reservations SET state = 'committed', expires_at = 'infinity'
				WHERE order_id = ANY($1) AND state = 'reserved' RETURNING order_id)
			SELECT id FROM unnest($1::text[]) AS id WHERE id NOT IN (SELECT order_id FROM sold)
				AND NOT EXISTS (SELECT FROM inventory.reservations r WHERE r.order_id = id AND r.state = 'committed')`, orderIDs)
		if err != nil {
			return err
		}
		notHeld, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return notHeld, err
}

// Overdue names orders whose reservations should have ended so long ago.
func (i Inventory) Overdue(ctx context.Context, overdue time.Duration, limit int) (orderIDs []string, err error) {
	err = i.DB.do(ctx, "looking for overdue reservations", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, `SELECT DISTINCT order_id FROM (SELECT order_id FROM inventory.reservations
			WHERE state = 'reserved' AND expires_at < now() - $1::interval ORDER BY expires_at LIMIT $2) AS first`, overdue, limit)
		if err != nil {
			return err
		}
		orderIDs, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return orderIDs, err
}
