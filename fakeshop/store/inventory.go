package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"meshsim.dev/meshsim/fakeshop/inventory"
)

// Inventory keeps schema inventory.
type Inventory struct{ DB *DB }

var _ inventory.Store = Inventory{}

// Stock answers false for an unknown product.
func (i Inventory) Stock(ctx context.Context, productID string) (inventory.Stock, bool, error) {
	out := inventory.Stock{ProductID: productID}
	err := i.DB.pool.QueryRow(ctx, "SELECT stock, stock_initial FROM inventory.products WHERE id = $1", productID).
		Scan(&out.Stock, &out.Initial)
	return found("reading stock", out, err)
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
		INSERT INTO inventory.reservations (order_id, product_id, quantity, state, short)
		SELECT $1, product_id, quantity, CASE WHEN bool_or(short) OVER () THEN 'refused' ELSE 'reserved' END, short
		FROM judged ORDER BY product_id
		ON CONFLICT DO NOTHING RETURNING product_id, quantity, state, short
	), taken AS (
		UPDATE inventory.products p SET stock = p.stock - w.quantity
		FROM written w WHERE p.id = w.product_id AND w.state = 'reserved'
	)
	SELECT state, array_remove(array_agg(CASE WHEN short THEN product_id END ORDER BY product_id), NULL)
	FROM written GROUP BY state`

// Reserve takes all items or none, once for an order id.
func (i Inventory) Reserve(ctx context.Context, orderID string, items []inventory.Item) (state inventory.State, short []string, err error) {
	ids, quantities := make([]string, len(items)), make([]int32, len(items))
	for n, item := range items {
		ids[n], quantities[n] = item.ProductID, int32(item.Quantity)
	}
	err = i.DB.pool.QueryRow(ctx, reserveSQL, orderID, ids, quantities).Scan(&state, &short)
	if err == pgx.ErrNoRows {
		state, short, err = i.keptReservation(ctx, orderID)
	}
	if err != nil {
		return "", nil, at("reserving stock", err)
	}
	return state, short, nil
}

// keptReservation is the outcome that an order id has already.
func (i Inventory) keptReservation(ctx context.Context, orderID string) (state inventory.State, short []string, err error) {
	err = i.DB.pool.QueryRow(ctx, `SELECT min(state), array_remove(array_agg(CASE WHEN short THEN product_id END), NULL)
		FROM inventory.reservations WHERE order_id = $1`, orderID).Scan(&state, &short)
	return state, short, err
}

// Release gives back what is reserved for the order, once.
func (i Inventory) Release(ctx context.Context, orderID string) (state inventory.State, err error) {
	err = pgx.BeginFunc(ctx, i.DB.pool, func(tx pgx.Tx) error {
		state, err = release(ctx, tx, orderID)
		return err
	})
	return state, at("releasing stock", err)
}

// release locks the products before the reservation, in the order in which
// reserve does.
func release(ctx context.Context, tx pgx.Tx, orderID string) (inventory.State, error) {
	_, err := tx.Exec(ctx, `SELECT id FROM inventory.products
		WHERE id IN (SELECT product_id FROM inventory.reservations WHERE order_id = $1) ORDER BY id FOR UPDATE`, orderID)
	if err != nil {
		return "", err
	}
	_, err = tx.Exec(ctx, `WITH given AS (
			UPDATE inventory.reservations SET state = 'released'
			WHERE order_id = $1 AND state = 'reserved' RETURNING product_id, quantity)
		UPDATE inventory.products p SET stock = stock + g.quantity FROM given g WHERE p.id = g.product_id`, orderID)
	if err != nil {
		return "", err
	}
	var state *string
	err = tx.QueryRow(ctx, "SELECT min(state) FROM inventory.reservations WHERE order_id = $1", orderID).Scan(&state)
	if err != nil || state == nil {
		return inventory.None, err
	}
	return inventory.State(*state), nil
}
