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

// Products returns all products, by id.
func (c Catalog) Products(ctx context.Context) ([]catalog.Product, error) {
	rows, err := c.DB.pool.Query(ctx, "SELECT id, name, category, description, price_cents, options FROM catalog.products ORDER BY id")
	if err != nil {
		return nil, at("reading the catalogue", err)
	}
	products, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p catalog.Product, err error) {
		return p, row.Scan(&p.ID, &p.Name, &p.Category, &p.Description, &p.PriceCents, &p.Options)
	})
	return products, at("reading the catalogue", err)
}

// Customers reads schema customers.
type Customers struct{ DB *DB }

var _ customers.Store = Customers{}

// Customer answers false for an unknown id.
func (c Customers) Customer(ctx context.Context, id string) (customers.Customer, bool, error) {
	out := customers.Customer{ID: id}
	err := c.DB.pool.QueryRow(ctx,
		"SELECT name, email, segment, card_reference FROM customers.customers WHERE id = $1", id).
		Scan(&out.Name, &out.Email, &out.Segment, &out.CardReference)
	return found("reading a customer", out, err)
}

// found tells an absent row from an error.
func found[T any](doing string, v T, err error) (T, bool, error) {
	var none T
	switch err {
	case nil:
		return v, true, nil
	case pgx.ErrNoRows:
		return none, false, nil
	}
	return none, false, at(doing, err)
}
