package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"meshsim.dev/meshsim/fakeshop/analytics"
	"meshsim.dev/meshsim/fakeshop/configurator"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/recommend"
)

// Payments keeps schema payments.
type Payments struct{ DB *DB }

var _ payments.Store = Payments{}

// Keep writes the payment unless the order has one already, and returns the one
// that is kept. A refund replaces what was taken.
func (s Payments) Keep(ctx context.Context, p payments.Payment) (kept payments.Payment, err error) {
	err = s.DB.do(ctx, "writing a payment", func(ctx context.Context, q pool) error {
		tag, err := q.Exec(ctx, `INSERT INTO payments.payments AS p (order_id, amount_cents, state, card_token)
			VALUES ($1, $2, $3, $4)
			ON CONFLICT (order_id) DO UPDATE SET state = 'refunded' WHERE p.state = 'taken' AND excluded.state = 'refunded'`,
			p.OrderID, p.AmountCents, string(p.State), p.CardToken)
		if err != nil {
			return err
		}
		kept = p
		if tag.RowsAffected() == 1 && p.State != payments.Refunded {
			return nil
		}
		return q.QueryRow(ctx, "SELECT amount_cents, state, card_token FROM payments.payments WHERE order_id = $1", p.OrderID).
			Scan(&kept.AmountCents, &kept.State, &kept.CardToken)
	})
	return kept, err
}

// Book keeps schema provider, for the fake payment provider.
type Book struct{ DB *DB }

var _ payments.Book = Book{}

// Enter writes a charge unless its key has one already, and returns the one
// that is kept. A void replaces what was captured.
func (b Book) Enter(ctx context.Context, c payments.Charge) (kept payments.Charge, err error) {
	err = b.DB.do(ctx, "writing into the provider's book", func(ctx context.Context, q pool) error {
		tag, err := q.Exec(ctx, `INSERT INTO provider.charges AS c (key, amount_cents, state, card_token)
			VALUES ($1, $2, $3, $4)
			ON CONFLICT (key) DO UPDATE SET state = 'voided' WHERE c.state = 'captured' AND excluded.state = 'voided'`,
			c.Key, c.AmountCents, string(c.State), c.CardToken)
		if err != nil {
			return err
		}
		kept = c
		if tag.RowsAffected() == 1 && c.State != payments.Voided {
			return nil
		}
		return q.QueryRow(ctx, "SELECT amount_cents, state, card_token FROM provider.charges WHERE key = $1", c.Key).
			Scan(&kept.AmountCents, &kept.State, &kept.CardToken)
	})
	return kept, err
}

// Configurations keeps schema configurator.
type Configurations struct{ DB *DB }

var _ configurator.Store = Configurations{}

// Save answers false when the id is known already.
func (s Configurations) Save(ctx context.Context, c configurator.Configuration) (created bool, err error) {
	err = s.DB.do(ctx, "writing a configuration", func(ctx context.Context, q pool) error {
		tag, err := q.Exec(ctx, `INSERT INTO configurator.configurations (id, product_id, options, price_cents)
			VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`, c.ID, c.ProductID, c.Options, c.PriceCents)
		created = tag.RowsAffected() == 1
		return err
	})
	return created, err
}

// Configuration answers false for an unknown id.
func (s Configurations) Configuration(ctx context.Context, id string) (configurator.Configuration, bool, error) {
	out, known := configurator.Configuration{ID: id}, false
	err := s.DB.do(ctx, "reading a configuration", func(ctx context.Context, q pool) error {
		return found(&known, q.QueryRow(ctx, "SELECT product_id, options, price_cents FROM configurator.configurations WHERE id = $1", id).
			Scan(&out.ProductID, &out.Options, &out.PriceCents))
	})
	return out, known, err
}

// Picks reads schema recommend.
type Picks struct{ DB *DB }

var _ recommend.Store = Picks{}

// Picks are the ids of products for customers of a segment, best first.
func (s Picks) Picks(ctx context.Context, segment string, limit int) (ids []string, err error) {
	err = s.DB.look(ctx, "reading picks", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx,
			"SELECT product_id FROM recommend.picks WHERE segment = $1 ORDER BY score DESC, product_id LIMIT $2", segment, limit)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return ids, err
}

// Events keeps schema analytics.
type Events struct{ DB *DB }

var _ analytics.Store = Events{}

// recordSQL drops events whose ids are known; of a confirmed order that is new,
// each pair of its products is counted.
const recordSQL = `WITH fresh AS (
		INSERT INTO analytics.events (id, kind, subject, product_ids)
		SELECT e.id, e.kind, e.subject, coalesce((SELECT array_agg(p.product_id ORDER BY p.product_id)
			FROM unnest($4::integer[], $5::text[]) AS p(event, product_id) WHERE p.event = e.event), '{}')
		FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS e(id, kind, subject, event)
		ON CONFLICT DO NOTHING RETURNING kind, product_ids
	), pairs AS (
		SELECT a AS product_id, b AS with_id, count(*) AS orders
		FROM fresh, unnest(product_ids) AS a, unnest(product_ids) AS b
		WHERE kind = 'order.confirmed' AND a <> b GROUP BY a, b
	), counted AS (
		INSERT INTO analytics.bought_together AS t (product_id, with_id, orders)
		SELECT product_id, with_id, orders FROM pairs ORDER BY product_id, with_id
		ON CONFLICT (product_id, with_id) DO UPDATE SET orders = t.orders + excluded.orders
	) SELECT count(*) FROM fresh`

// Record drops events whose ids it knows, and returns how many were new.
func (s Events) Record(ctx context.Context, events []analytics.Event) (recorded int, err error) {
	ids, kinds, subjects := make([]string, len(events)), make([]string, len(events)), make([]string, len(events))
	var of []int32
	var products []string
	for i, e := range events {
		ids[i], kinds[i], subjects[i] = e.ID, e.Kind, e.Subject
		for _, p := range e.ProductIDs {
			of, products = append(of, int32(i+1)), append(products, p)
		}
	}
	err = s.DB.do(ctx, "writing events", func(ctx context.Context, q pool) error {
		return q.QueryRow(ctx, recordSQL, ids, kinds, subjects, of, products).Scan(&recorded)
	})
	return recorded, err
}

// BoughtTogether returns what is most often bought with each product, at most
// so many of each.
func (s Events) BoughtTogether(ctx context.Context, most int) (all []analytics.Companions, err error) {
	err = s.DB.look(ctx, "reading what is bought together", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, `SELECT product_id, array_agg(with_id ORDER BY orders DESC, with_id) FROM (
				SELECT *, row_number() OVER (PARTITION BY product_id ORDER BY orders DESC, with_id) AS place
				FROM analytics.bought_together) AS ranked
			WHERE place <= $1 GROUP BY product_id ORDER BY product_id`, most)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c analytics.Companions, err error) {
			return c, row.Scan(&c.ProductID, &c.With)
		})
		return err
	})
	return all, err
}

// Counts returns how many events there are of each kind.
func (s Events) Counts(ctx context.Context) (counts map[string]int64, err error) {
	err = s.DB.look(ctx, "counting events", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, "SELECT kind, count(*) FROM analytics.events GROUP BY kind")
		if err != nil {
			return err
		}
		counts = map[string]int64{}
		var kind string
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&kind, &n}, func() error { counts[kind] = n; return nil })
		return err
	})
	return counts, err
}
