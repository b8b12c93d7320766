package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"meshsim.dev/meshsim/fakeshop/catalog"
	"meshsim.dev/meshsim/fakeshop/customers"
)

// Catalog reads schema catalog.
type Catalog struct{ DB *DB }

var _ catalog.Store = Catalog{}

// Edition changes with every change of the catalogue.
func (c Catalog) Edition(ctx context.Context) (edition int64, err error) {
	err = c.DB.look(ctx, "reading the catalogue's edition", func(ctx context.Context, q pool) error {
		return q.QueryRow(ctx, "SELECT edition FROM catalog.edition").Scan(&edition)
	})
	return edition, err
}

// Products returns all products, by id.
func (c Catalog) Products(ctx context.Context) (products []catalog.Product, err error) {
	err = c.DB.look(ctx, "reading the catalogue", func(ctx context.Context, q pool) error {
		rows, err := q.Query(ctx, "SELECT id, name, category, description, price_cents, model, options FROM catalog.products ORDER BY id")
		if err != nil {
			return err
		}
		products, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p catalog.Product, err error) {
			return p, row.Scan(&p.ID, &p.Name, &p.Category, &p.Description, &p.PriceCents, &p.Model, &p.Options)
		})
		return err
	})
	return products, err
}

// Customers reads schema customers.
type Customers struct{ DB *DB }

var _ customers.Store = Customers{}

// Customer answers false for an unknown id.
func (c Customers) Customer(ctx context.Context, id string) (customers.Customer, bool, error) {
	out, known := customers.Customer{ID: id}, false
	err := c.DB.look(ctx, "reading a customer", func(ctx context.Context, q pool) error {
		return found(&known, q.QueryRow(ctx,
			"SELECT name, email, segment, card_reference FROM customers.customers WHERE id = $1", id).
			Scan(&out.Name, &out.Email, &out.Segment, &out.CardReference))
	})
	return out, known, err
}
