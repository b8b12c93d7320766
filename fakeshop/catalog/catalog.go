// Package catalog is the service product-catalog: what the shop sells.
package catalog

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
)

const (
	// Name is the service's name.
	Name = "product-catalog"
	// PageSize is how many products a page holds.
	PageSize = 24
	// CacheFor is how long products are answered from memory.
	CacheFor = 10 * time.Second

	searchLimit = 20
	batchLimit  = 50
	queryLimit  = 100 // characters
)

// Product is something to buy.
type Product struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Category    string   `json:"category"`
	Description string   `json:"description"`
	PriceCents  int64    `json:"priceCents"`
	Options     []Option `json:"options,omitempty"` // empty: cannot be configured
}

// Option is one choice to make when configuring a product.
type Option struct {
	Name   string  `json:"name"`
	Values []Value `json:"values"`
}

// Value is one thing to choose, and what it adds to the price.
type Value struct {
	Name       string `json:"name"`
	ExtraCents int64  `json:"extraCents"`
}

// Page is a part of the catalogue.
type Page struct {
	Products []Product `json:"products"`
	Page     int       `json:"page"`
	Pages    int       `json:"pages"`
	Total    int       `json:"total"`
}

// Store reads the whole catalogue, by id.
type Store interface {
	Products(ctx context.Context) ([]Product, error)
}

// Service answers from a copy of the catalogue that is never older than
// CacheFor.
type Service struct {
	store Store
	now   func() time.Time

	mu   sync.Mutex // held while reading the store: one reads, the others wait
	copy snapshot
}

type snapshot struct {
	read     time.Time
	products []Product
	words    []string // of each product, lower case
	byID     map[string]int
}

// New makes the service.
func New(store Store) *Service { return &Service{store: store, now: time.Now} }

// Product returns the product with the id.
func (s *Service) Product(ctx context.Context, id string) (Product, error) {
	c, err := s.catalogue(ctx)
	if err != nil {
		return Product{}, err
	}
	i, ok := c.byID[id]
	if !ok {
		return Product{}, fail.New(codes.NotFound, "product_not_found", "there is no product %q", id)
	}
	return c.products[i], nil
}

// Some returns the known ones of the given products, in their order.
func (s *Service) Some(ctx context.Context, ids []string) ([]Product, error) {
	if len(ids) > batchLimit {
		return nil, fail.New(codes.InvalidArgument, "", "%d products at once, at most %d are answered", len(ids), batchLimit)
	}
	c, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	var out []Product
	for _, id := range ids {
		if i, ok := c.byID[id]; ok {
			out = append(out, c.products[i])
		}
	}
	return out, nil
}

// List returns a page of the catalogue, counted from 1; after the last page
// come empty ones.
func (s *Service) List(ctx context.Context, page int) (Page, error) {
	if page < 1 || page > 1_000_000 {
		return Page{}, fail.New(codes.InvalidArgument, "", "page %d: wants a number from 1 on", page)
	}
	c, err := s.catalogue(ctx)
	if err != nil {
		return Page{}, err
	}
	total := len(c.products)
	from := min((page-1)*PageSize, total)
	to := min(from+PageSize, total)
	return Page{Products: c.products[from:to:to], Page: page, Pages: (total + PageSize - 1) / PageSize, Total: total}, nil
}

// Search returns the products that have every word of the query; those that
// have one in their name come first.
func (s *Service) Search(ctx context.Context, query string) ([]Product, error) {
	wanted := strings.Fields(strings.ToLower(query))
	if len(wanted) == 0 || len(query) > queryLimit {
		return nil, fail.New(codes.InvalidArgument, "", "the query must have 1 to %d characters", queryLimit)
	}
	c, err := s.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	var named, others []Product
	for i, words := range c.words {
		if !containsAll(words, wanted) {
			continue
		}
		if strings.Contains(strings.ToLower(c.products[i].Name), wanted[0]) {
			named = append(named, c.products[i])
		} else {
			others = append(others, c.products[i])
		}
		if len(named) == searchLimit {
			break
		}
	}
	found := append(named, others...)
	return found[:min(len(found), searchLimit)], nil
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// catalogue returns a fresh enough copy, which nobody may change.
func (s *Service) catalogue(ctx context.Context) (snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copy.products != nil && s.now().Sub(s.copy.read) < CacheFor {
		return s.copy, nil
	}
	products, err := s.store.Products(ctx)
	if err != nil {
		return snapshot{}, err
	}
	c := snapshot{read: s.now(), products: products, words: make([]string, len(products)), byID: make(map[string]int, len(products))}
	for i, p := range products {
		c.words[i] = strings.ToLower(p.Name + " " + p.Category + " " + p.Description)
		c.byID[p.ID] = i
	}
	s.copy = c
	return c, nil
}
