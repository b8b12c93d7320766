package catalog

import (
	"bytes"
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// CacheFor is how long products are answered from memory before the catalogue's
// edition is asked for.
const CacheFor = 10 * time.Second

// snapshot is a copy of the catalogue, ready to be answered with. Nobody may
// change it.
type snapshot struct {
	edition   int64
	products  []Product // without options, which are in what follows
	json      [][]byte
	briefJSON [][]byte // without options
	api       []*shopapi.Product
	brief     []*shopapi.Product // without options
	words     index
	byID      map[string]int
}

// copies keeps a fresh enough snapshot.
type copies struct {
	store Store
	now   func() time.Time

	mu     sync.Mutex // held while reading the store: one reads, the others wait
	latest *snapshot
	asked  time.Time
}

// catalogue returns a fresh enough copy.
func (c *copies) catalogue(ctx context.Context) (*snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest != nil && c.now().Sub(c.asked) < CacheFor {
		return c.latest, nil
	}
	// Before the products: what changes meanwhile makes this edition an old one.
	edition, err := c.store.Edition(ctx)
	if err != nil {
		return nil, err
	}
	if c.latest == nil || c.latest.edition != edition {
		products, err := c.store.Products(ctx)
		if err != nil {
			return nil, err
		}
		fresh, err := newSnapshot(edition, products)
		if err != nil {
			return nil, err
		}
		c.latest = fresh
	}
	c.asked = c.now()
	return c.latest, nil
}

func newSnapshot(edition int64, products []Product) (*snapshot, error) {
	c := &snapshot{edition: edition, products: products, words: newIndex(products), byID: make(map[string]int, len(products))}
	values := apiValues{}
	for i, p := range products {
		c.byID[p.ID] = i
		c.api = append(c.api, toAPI(p, values))
		whole, err := encode(p)
		if err != nil {
			return nil, err
		}
		p.Options = nil
		c.products[i].Options = nil
		c.brief = append(c.brief, toAPI(p, values))
		brief, err := encode(p)
		if err != nil {
			return nil, err
		}
		c.json, c.briefJSON = append(c.json, whole), append(c.briefJSON, brief)
	}
	return c, nil
}

func encode(p Product) ([]byte, error) {
	text, err := rest.Encode(p)
	if err != nil {
		return nil, fail.New(codes.Internal, "", "writing product %s: %v", p.ID, err)
	}
	return bytes.TrimSuffix(text, []byte("\n")), nil
}
