// Package catalog is the service product-catalog: what the shop sells.
package catalog

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

const (
	// Name is the service's name.
	Name = "product-catalog"
	// PageSize is how many products a page holds.
	PageSize = 24

	batchLimit = 50
)

// Product is something to buy.
type Product struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Category    string   `json:"category"`
	Description string   `json:"description"`
	PriceCents  int64    `json:"priceCents"`
	Model       string   `json:"model,omitempty"`   // what is configured, "": it cannot be
	Options     []Option `json:"options,omitempty"` // empty: cannot be configured
}

// Option is one choice to make when configuring a product.
type Option struct {
	Name     string  `json:"name"`
	Required bool    `json:"required,omitempty"` // else the workshop chooses, when the customer does not
	Values   []Value `json:"values"`
}

// Value is one thing to choose, and what it adds to the price.
type Value struct {
	Name       string `json:"name"`
	ExtraCents int64  `json:"extraCents"`
}

// Store reads the catalogue.
type Store interface {
	// Edition changes with every change of the catalogue.
	Edition(ctx context.Context) (int64, error)
	// Products reads the whole catalogue, by id.
	Products(ctx context.Context) ([]Product, error)
}

// Peers are the services that a product's page needs.
type Peers struct {
	Inventory shopapi.InventoryManagementClient
	Recommend shopapi.RecommendationServiceClient
}

// Service answers from a copy of the catalogue that is never older than
// CacheFor.
type Service struct {
	copies copies
	peers  Peers
	log    *slog.Logger
}

// New makes the service.
func New(store Store, peers Peers, log *slog.Logger) *Service {
	return &Service{copies: copies{store: store, now: time.Now}, peers: peers, log: log}
}

// product returns the place of a product in the copy.
func (c *snapshot) product(id string) (int, error) {
	i, ok := c.byID[id]
	if !ok {
		return 0, fail.New(codes.NotFound, "product_not_found", "there is no product %q", id)
	}
	return i, nil
}

// some returns the places of the known ones of the given products, in their
// order.
func (c *snapshot) some(ids []string) ([]int, error) {
	if len(ids) > batchLimit {
		return nil, fail.New(codes.InvalidArgument, "", "%d products at once, at most %d are answered", len(ids), batchLimit)
	}
	var out []int
	for _, id := range ids {
		if i, ok := c.byID[id]; ok {
			out = append(out, i)
		}
	}
	return out, nil
}

// page returns the places of a page of the catalogue, counted from 1; after
// the last page come empty ones.
func (c *snapshot) page(page int) (from, to int, err error) {
	if page < 1 || page > 1_000_000 {
		return 0, 0, fail.New(codes.InvalidArgument, "", "page %d: wants a number from 1 on", page)
	}
	total := len(c.products)
	from = min((page-1)*PageSize, total)
	return from, min(from+PageSize, total), nil
}

func (c *snapshot) pages() int { return (len(c.products) + PageSize - 1) / PageSize }
