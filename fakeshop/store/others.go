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
// that is kept.
func (s Payments) Keep(ctx context.Context, p payments.Payment) (payments.Payment, error) {
	tag, err := s.DB.pool.Exec(ctx, `INSERT INTO payments.payments (order_id, amount_cents, state, card_token)
		VALUES ($1, $2, $3, $4) ON CONFLICT (order_id) DO NOTHING`, p.OrderID, p.AmountCents, p.State, p.CardToken)
	if err != nil {
		return payments.Payment{}, at("writing a payment", err)
	}
	if tag.RowsAffected() == 1 {
		return p, nil
	}
	kept := payments.Payment{OrderID: p.OrderID}
	err = s.DB.pool.QueryRow(ctx, "SELECT amount_cents, state, card_token FROM payments.payments WHERE order_id = $1", p.OrderID).
		Scan(&kept.AmountCents, &kept.State, &kept.CardToken)
	return kept, at("reading a payment", err)
}

// Configurations keeps schema configurator.
type Configurations struct{ DB *DB }

var _ configurator.Store = Configurations{}

// Save answers false when the id is known already.
func (s Configurations) Save(ctx context.Context, c configurator.Configuration) (bool, error) {
	tag, err := s.DB.pool.Exec(ctx, `INSERT INTO configurator.configurations (id, product_id, options, price_cents)
		VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`, c.ID, c.ProductID, c.Options, c.PriceCents)
	return tag.RowsAffected() == 1, at("writing a configuration", err)
}

// Picks reads schema recommend.
type Picks struct{ DB *DB }

var _ recommend.Store = Picks{}

// Picks are the ids of products for customers of a segment, best first.
func (s Picks) Picks(ctx context.Context, segment string, limit int) ([]string, error) {
	rows, err := s.DB.pool.Query(ctx,
		"SELECT product_id FROM recommend.picks WHERE segment = $1 ORDER BY score DESC, product_id LIMIT $2", segment, limit)
	if err != nil {
		return nil, at("reading picks", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return ids, at("reading picks", err)
}

// Events keeps schema analytics.
type Events struct{ DB *DB }

var _ analytics.Store = Events{}

// Record drops an event whose id it knows.
func (s Events) Record(ctx context.Context, e analytics.Event) error {
	_, err := s.DB.pool.Exec(ctx, "INSERT INTO analytics.events (id, kind, subject) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", e.ID, e.Kind, e.Subject)
	return at("writing an event", err)
}
