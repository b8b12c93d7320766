package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"meshsim.dev/meshsim/fakeshop/assortment"
)

// putAssortment brings what the shop sells into the catalogue and onto the
// shelves. Products that are there already are described anew; their stock is
// what it is.
func putAssortment(ctx context.Context, tx pgx.Tx) error {
	items := assortment.Make(assortment.Seed, assortment.Count)
	ids, names, categories := make([]string, len(items)), make([]string, len(items)), make([]string, len(items))
	descriptions, models, options := make([]string, len(items)), make([]string, len(items)), make([]string, len(items))
	cents, stock := make([]int64, len(items)), make([]int64, len(items))
	for i, item := range items {
		text, err := json.Marshal(item.Options)
		if err != nil {
			return fmt.Errorf("writing the options of %s: %w", item.ID, err)
		}
		if item.Options == nil {
			text = []byte("[]")
		}
		ids[i], names[i], categories[i], descriptions[i] = item.ID, item.Name, item.Category, item.Description
		models[i], options[i], cents[i], stock[i] = item.Model, string(text), item.PriceCents, item.Stock
	}
	_, err := tx.Exec(ctx, `INSERT INTO catalog.products (id, name, category, description, price_cents, model, options)
		SELECT id, name, category, description, cents, model, options::jsonb
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
			AS p(id, name, category, description, cents, model, options)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, category = excluded.category, description = excluded.description,
			price_cents = excluded.price_cents, model = excluded.model, options = excluded.options`,
		ids, names, categories, descriptions, cents, models, options)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO inventory.products (id, stock_initial, stock)
		SELECT id, stock, stock FROM unnest($1::text[], $2::bigint[]) AS p(id, stock) ON CONFLICT DO NOTHING`, ids, stock)
	return err
}
