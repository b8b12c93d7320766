package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"meshsim.dev/meshsim/fakeshop/orders"
)

// Orders keeps schema orders.
type Orders struct{ DB *DB }

var _ orders.Store = Orders{}

// columns of an order; its items come as one JSON list, by product.
const orderColumns = `o.id, o.customer_id, o.status, o.total_cents, o.configuration_id, o.created_at,
	(SELECT json_agg(json_build_object('productId', i.product_id, 'quantity', i.quantity, 'unitCents', i.unit_cents) ORDER BY i.product_id)
	 FROM orders.order_items i WHERE i.order_id = o.id)`

func scanOrder(row pgx.CollectableRow) (*orders.Order, error) {
	var o orders.Order
	var items json.RawMessage
	if err := row.Scan(&o.ID, &o.CustomerID, &o.Status, &o.TotalCents, &o.ConfigurationID, &o.CreatedAt, &items); err != nil {
		return nil, err
	}
	o.CreatedAt = o.CreatedAt.UTC()
	return &o, json.Unmarshal(items, &o.Items)
}

// Order answers nil for an unknown id.
func (s Orders) Order(ctx context.Context, id string) (*orders.Order, error) {
	rows, err := s.DB.pool.Query(ctx, "SELECT "+orderColumns+" FROM orders.orders o WHERE o.id = $1", id)
	if err != nil {
		return nil, at("reading an order", err)
	}
	o, err := pgx.CollectExactlyOneRow(rows, scanOrder)
	if err == pgx.ErrNoRows {
		return nil, nil
	}
	return o, at("reading an order", err)
}

// Begin writes a pending order with its items, unless the id is taken. It does
// not wait for the disk: nobody is told of the order before Settle, which does.
func (s Orders) Begin(ctx context.Context, o *orders.Order) (stored *orders.Order, created bool, err error) {
	ids, quantities, cents := make([]string, len(o.Items)), make([]int32, len(o.Items)), make([]int64, len(o.Items))
	for i, item := range o.Items {
		ids[i], quantities[i], cents[i] = item.ProductID, int32(item.Quantity), item.UnitCents
	}
	var begun time.Time
	err = s.DB.pool.QueryRow(ctx, `WITH o AS (
			INSERT INTO orders.orders (id, customer_id, status, total_cents, configuration_id)
			VALUES ($1, $2, 'pending', $3, $4) ON CONFLICT (id) DO NOTHING RETURNING id, created_at
		), items AS (
			INSERT INTO orders.order_items (order_id, product_id, quantity, unit_cents)
			SELECT o.id, i.* FROM o, unnest($5::text[], $6::integer[], $7::bigint[]) AS i
		) SELECT created_at, set_config('synchronous_commit', 'off', true) FROM o`,
		o.ID, o.CustomerID, o.TotalCents, o.ConfigurationID, ids, quantities, cents).Scan(&begun, nil)
	switch err {
	case nil:
		out := *o
		out.Status, out.CreatedAt = orders.Pending, begun.UTC()
		return &out, true, nil
	case pgx.ErrNoRows:
		stored, err = s.Order(ctx, o.ID)
		return stored, false, err
	}
	return nil, false, at("writing an order", err)
}

// Settle turns a pending order into status; of several, the first one wins.
func (s Orders) Settle(ctx context.Context, id string, status orders.Status) (orders.Status, error) {
	var settled orders.Status
	err := s.DB.pool.QueryRow(ctx,
		"UPDATE orders.orders SET status = $2, updated_at = now() WHERE id = $1 AND status = 'pending' RETURNING status", id, status).
		Scan(&settled)
	if err == pgx.ErrNoRows {
		err = s.DB.pool.QueryRow(ctx, "SELECT status FROM orders.orders WHERE id = $1", id).Scan(&settled)
	}
	return settled, at("settling an order", err)
}

// Claim returns orders left pending for so long, and keeps others from claiming
// them for as long again.
func (s Orders) Claim(ctx context.Context, left time.Duration, limit int) ([]*orders.Order, error) {
	rows, err := s.DB.pool.Query(ctx, `WITH mine AS (
			SELECT id FROM orders.orders WHERE status = 'pending' AND updated_at < now() - $1::interval
			ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
		), claimed AS (
			UPDATE orders.orders SET updated_at = now() WHERE id IN (SELECT id FROM mine) RETURNING id
		) SELECT `+orderColumns+` FROM orders.orders o WHERE o.id IN (SELECT id FROM claimed)`, left, limit)
	if err != nil {
		return nil, at("claiming orders", err)
	}
	list, err := pgx.CollectRows(rows, scanOrder)
	return list, at("claiming orders", err)
}
