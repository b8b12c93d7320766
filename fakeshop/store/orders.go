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
const orderColumns = `o.id, o.customer_id, o.status, o.reason, o.cancelling, o.total_cents, o.configuration_id, o.created_at,
	(SELECT json_agg(json_build_object('productId', i.product_id, 'quantity', i.quantity, 'unitCents', i.unit_cents) ORDER BY i.product_id)
	 FROM orders.order_items i WHERE i.order_id = o.id)`

func scanOrder(row pgx.CollectableRow) (*orders.Order, error) {
	var o orders.Order
	var items json.RawMessage
	err := row.Scan(&o.ID, &o.CustomerID, &o.Status, &o.Reason, &o.Cancelling, &o.TotalCents, &o.ConfigurationID, &o.CreatedAt, &items)
	if err != nil {
		return nil, err
	}
	o.CreatedAt = o.CreatedAt.UTC()
	return &o, json.Unmarshal(items, &o.Items)
}

// Order answers nil for an unknown id.
func (s Orders) Order(ctx context.Context, id string) (o *orders.Order, err error) {
	err = s.DB.do(ctx, "reading an order", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, "SELECT "+orderColumns+" FROM orders.orders o WHERE o.id = $1", id)
		if err != nil {
			return err
		}
		o, err = pgx.CollectExactlyOneRow(rows, scanOrder)
		if err == pgx.ErrNoRows {
			o, err = nil, nil
		}
		return err
	})
	return o, err
}

// Begin writes a placed order with its items, unless the id is taken. It does
// not wait for the disk: nobody is told of the order before Settle, which does.
func (s Orders) Begin(ctx context.Context, o *orders.Order) (stored *orders.Order, created bool, err error) {
	ids, quantities, cents := make([]string, len(o.Items)), make([]int32, len(o.Items)), make([]int64, len(o.Items))
	for i, item := range o.Items {
		ids[i], quantities[i], cents[i] = item.ProductID, int32(item.Quantity), item.UnitCents
	}
	var begun time.Time
	err = s.DB.do(ctx, "writing an order", func(ctx context.Context, q pool) error {
		err := q.QueryRow(ctx, `WITH o AS (
				INSERT INTO orders.orders (id, customer_id, status, total_cents, configuration_id)
				VALUES ($1, $2, 'placed', $3, $4) ON CONFLICT (id) DO NOTHING RETURNING id, created_at
			), items AS (
				INSERT INTO orders.order_items (order_id, product_id, quantity, unit_cents)
				SELECT o.id, i.* FROM o, unnest($5::text[], $6::integer[], $7::bigint[]) AS i
			) SELECT created_at, set_config('synchronous_commit', 'off', true) FROM o`,
			o.ID, o.CustomerID, o.TotalCents, o.ConfigurationID, ids, quantities, cents).Scan(&begun, nil)
		created = err == nil
		if err == pgx.ErrNoRows {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return nil, false, err
	case created:
		out := *o
		out.Status, out.CreatedAt = orders.Placed, begun.UTC()
		return &out, true, nil
	}
	stored, err = s.Order(ctx, o.ID)
	return stored, false, err
}

// advanceSQL goes only forward, and does not wait for the disk, as Begin does not.
const advanceSQL = `WITH went AS (
		UPDATE orders.orders SET status = $2, updated_at = now(), reserved_at = coalesce(reserved_at, now()),
			paid_at = CASE WHEN $2 = 'paid' THEN now() ELSE paid_at END
		WHERE id = $1 AND (status = 'placed' OR status = 'reserved' AND $2 = 'paid') AND status <> $2 RETURNING id
	) SELECT count(*), set_config('synchronous_commit', 'off', true) FROM went`

// Advance notes that an order is reserved, or paid.
func (s Orders) Advance(ctx context.Context, id string, to orders.Status) error {
	return s.DB.do(ctx, "advancing an order", func(ctx context.Context, q pool) error {
		return q.QueryRow(ctx, advanceSQL, id, string(to)).Scan(nil, nil)
	})
}

// Decide notes that an order is going to be cancelled.
func (s Orders) Decide(ctx context.Context, o *orders.Order, why orders.Reason) error {
	return s.DB.do(ctx, "deciding on an order", func(ctx context.Context, q pool) error {
		_, err := q.Exec(ctx, `UPDATE orders.orders SET cancelling = $2, updated_at = now()
			WHERE id = $1 AND cancelling = '' AND settled_at IS NULL`, o.ID, string(why))
		if err != nil {
			return err
		}
		return stands(ctx, q, o)
	})
}

// settleSQL ends an order and writes its event.
const settleSQL = `WITH ended AS (
		UPDATE orders.orders SET status = $2, reason = $3, settled_at = now(), updated_at = now(),
			reserved_at = CASE WHEN $2 = 'confirmed' THEN coalesce(reserved_at, now()) ELSE reserved_at END,
			paid_at = CASE WHEN $2 = 'confirmed' THEN coalesce(paid_at, now()) ELSE paid_at END
		WHERE id = $1 AND settled_at IS NULL AND ($2 = 'cancelled' OR cancelling = '' AND clock_timestamp() < $4)
		RETURNING id
	) INSERT INTO orders.outbox (id, kind, order_id, product_ids) SELECT $5, $6, id, $7 FROM ended`

// Settle ends an order, unless it is settled already or cannot be confirmed.
func (s Orders) Settle(ctx context.Context, o *orders.Order, end orders.Outcome) (mine bool, err error) {
	err = s.DB.do(ctx, "settling an order", func(ctx context.Context, q pool) error {
		tag, err := q.Exec(ctx, settleSQL, o.ID, string(end.Status), string(end.Reason), end.HeldUntil,
			end.Event.ID, end.Event.Kind, end.Event.ProductIDs)
		if err != nil {
			return err
		}
		if mine = tag.RowsAffected() == 1; mine {
			o.Status, o.Reason = end.Status, end.Reason
			return nil
		}
		return stands(ctx, q, o)
	})
	return mine, err
}

// stands fills in where an order stands.
func stands(ctx context.Context, q pool, o *orders.Order) error {
	return q.QueryRow(ctx, "SELECT status, reason, cancelling FROM orders.orders WHERE id = $1", o.ID).
		Scan(&o.Status, &o.Reason, &o.Cancelling)
}

// Claim returns orders left unsettled for so long, and keeps others from
// claiming them for as long again.
func (s Orders) Claim(ctx context.Context, left time.Duration, limit int) (list []*orders.Order, err error) {
	err = s.DB.do(ctx, "claiming orders", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, `WITH mine AS (
				SELECT id FROM orders.orders
				WHERE status IN ('placed', 'reserved', 'paid') AND updated_at <= now() - $1::interval
				ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED
			), claimed AS (
				UPDATE orders.orders SET updated_at = now() WHERE id IN (SELECT id FROM mine) RETURNING id
			) SELECT `+orderColumns+` FROM orders.orders o WHERE o.id IN (SELECT id FROM claimed)`, left, limit)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanOrder)
		return err
	})
	return list, err
}

// Statuses leaves out unknown orders. It waits for whoever is just settling one.
func (s Orders) Statuses(ctx context.Context, ids []string) (found map[string]orders.Status, err error) {
	err = s.DB.do(ctx, "reading orders", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, "SELECT id, status FROM orders.orders WHERE id = ANY($1) ORDER BY id FOR SHARE", ids)
		if err != nil {
			return err
		}
		found = map[string]orders.Status{}
		var id string
		var status orders.Status
		_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error { found[id] = status; return nil })
		return err
	})
	return found, err
}

// TakeEvents returns events that nobody has taken for so long.
func (s Orders) TakeEvents(ctx context.Context, left time.Duration, limit int) (events []orders.Event, err error) {
	err = s.DB.do(ctx, "taking events", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, `UPDATE orders.outbox SET taken_at = now() WHERE id IN (
				SELECT id FROM orders.outbox WHERE taken_at <= now() - $1::interval ORDER BY taken_at LIMIT $2 FOR UPDATE SKIP LOCKED)
			RETURNING id, kind, order_id, product_ids`, left, limit)
		if err != nil {
			return err
		}
		events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e orders.Event, err error) {
			return e, row.Scan(&e.ID, &e.Kind, &e.OrderID, &e.ProductIDs)
		})
		return err
	})
	return events, err
}

// DropEvents removes events that everyone concerned has been told.
func (s Orders) DropEvents(ctx context.Context, ids []string) error {
	return s.DB.do(ctx, "dropping events", func(ctx context.Context, q pool) error {
		_, err := q.Exec(ctx, "DELETE FROM orders.outbox WHERE id = ANY($1)", ids)
		return err
	})
}
