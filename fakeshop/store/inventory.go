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

// Reserve takes all items or none, once for an order id.
func (i Inventory) Reserve(ctx context.Context, orderID string, items []inventory.Item) (state inventory.State, short []string, err error) {
	err = pgx.BeginFunc(ctx, i.DB.pool, func(tx pgx.Tx) error {
		state, short, err = reserve(ctx, tx, orderID, items)
		return err
	})
	if err != nil {
		return "", nil, at("reserving stock", err)
	}
	return state, short, nil
}

// reserve first writes the reservation: of two calls with one order id, the
// second waits here until the first is committed, and finds its outcome. Then
// it locks the products, by id so that no two calls wait for each other, and
// looks whether there is enough.
func reserve(ctx context.Context, tx pgx.Tx, orderID string, items []inventory.Item) (inventory.State, []string, error) {
	ids, quantities := make([]string, len(items)), make([]int32, len(items))
	for n, item := range items {
		ids[n], quantities[n] = item.ProductID, int32(item.Quantity)
	}
	written, err := tx.Exec(ctx, `INSERT INTO inventory.reservations (order_id, product_id, quantity, state)
		SELECT $1, product_id, quantity, 'reserved' FROM unnest($2::text[], $3::integer[]) AS i(product_id, quantity)
		ORDER BY product_id ON CONFLICT DO NOTHING`, orderID, ids, quantities)
	if err != nil {
		return "", nil, err
	}
	if written.RowsAffected() == 0 {
		return keptReservation(ctx, tx, orderID)
	}
	short, err := shortOf(ctx, tx, ids, quantities)
	if err != nil {
		return "", nil, err
	}
	if len(short) > 0 {
		_, err = tx.Exec(ctx, `UPDATE inventory.reservations SET state = 'refused', short = product_id = ANY($2)
			WHERE order_id = $1`, orderID, short)
		return inventory.Refused, short, err
	}
	_, err = tx.Exec(ctx, `UPDATE inventory.products p SET stock = stock - i.quantity
		FROM unnest($1::text[], $2::integer[]) AS i(product_id, quantity) WHERE p.id = i.product_id`, ids, quantities)
	return inventory.Reserved, nil, err
}

// shortOf locks the products and names those with too few pieces, or none.
func shortOf(ctx context.Context, tx pgx.Tx, ids []string, quantities []int32) ([]string, error) {
	rows, err := tx.Query(ctx, "SELECT id, stock FROM inventory.products WHERE id = ANY($1) ORDER BY id FOR UPDATE", ids)
	if err != nil {
		return nil, err
	}
	stock := map[string]int64{}
	var id string
	var pieces int64
	if _, err := pgx.ForEachRow(rows, []any{&id, &pieces}, func() error { stock[id] = pieces; return nil }); err != nil {
		return nil, err
	}
	var short []string
	for n, id := range ids {
		if stock[id] < int64(quantities[n]) {
			short = append(short, id)
		}
	}
	return short, nil
}

// keptReservation is the outcome that an order id has already.
func keptReservation(ctx context.Context, tx pgx.Tx, orderID string) (state inventory.State, short []string, err error) {
	err = tx.QueryRow(ctx, `SELECT min(state), array_remove(array_agg(CASE WHEN short THEN product_id END), NULL)
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
