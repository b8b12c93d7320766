package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

type fakeStore struct {
	mu    sync.Mutex
	reads int
	err   error
}

// Products are 50: p-0001 a keyboard, p-0002 a console, and so on in turn.
func (f *fakeStore) Products(context.Context) ([]Product, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.err != nil {
		return nil, f.err
	}
	var out []Product
	for n := 1; n <= 50; n++ {
		kind := []string{"console", "keyboard"}[n%2]
		out = append(out, Product{ID: fmt.Sprintf("p-%04d", n), Name: fmt.Sprintf("Elm %s %d", kind, n), Category: kind,
			Description: fmt.Sprintf("goes with any keyboard, batch %d", n/10), PriceCents: int64(n) * 100})
	}
	out[0].Options = []Option{{Name: "switches", Values: []Value{{Name: "linear"}, {Name: "tactile", ExtraCents: 500}}}}
	return out, nil
}

func TestPagesCoverTheCatalogueOnce(t *testing.T) {
	s := New(&fakeStore{})
	seen := map[string]bool{}
	for page, want := range map[int]int{1: 24, 2: 24, 3: 2, 4: 0, 1_000_000: 0} {
		p, err := s.List(t.Context(), page)
		require.NoError(t, err)
		require.Len(t, p.Products, want, page)
		require.NotNil(t, p.Products, "an empty page is a list in JSON")
		require.Equal(t, 3, p.Pages)
		require.Equal(t, 50, p.Total)
		for _, product := range p.Products {
			require.False(t, seen[product.ID])
			seen[product.ID] = true
		}
	}
	require.Len(t, seen, 50)
	for _, page := range []int{0, -1, 1_000_001} {
		_, err := s.List(t.Context(), page)
		require.Equal(t, codes.InvalidArgument, fail.From(err).Code, page)
	}
}

func TestSearchWantsEveryWordAndPrefersNames(t *testing.T) {
	s := New(&fakeStore{})
	cases := []struct {
		query string
		count int
		first string
	}{
		{"keyboard", 20, "p-0001"},
		{"KEYBOARD  batch", 20, "p-0001"},
		{"console", 20, "p-0002"},
		{"console 50", 1, "p-0050"},
		{"any batch", 20, "p-0001"},
		{"teapot", 0, ""},
	}
	for _, c := range cases {
		t.Run(c.query, func(t *testing.T) {
			found, err := s.Search(t.Context(), c.query)
			require.NoError(t, err)
			require.Len(t, found, c.count)
			if c.count > 0 {
				require.Equal(t, c.first, found[0].ID)
			}
		})
	}
	for _, query := range []string{"", "  ", fmt.Sprintf("%101d", 1)} {
		_, err := s.Search(t.Context(), query)
		require.Equal(t, codes.InvalidArgument, fail.From(err).Code)
	}
}

func TestTheCatalogueIsReadAgainWhenItsTimeIsOver(t *testing.T) {
	store := &fakeStore{}
	s := New(store)
	now := time.Unix(0, 0)
	s.now = func() time.Time { return now }
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := s.Product(context.Background(), "p-0001"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, store.reads)
	now = now.Add(CacheFor)
	store.err = errors.New("no database")
	_, err := s.Product(t.Context(), "p-0001")
	require.ErrorIs(t, err, store.err, "what is too old is not answered")
	store.err = nil
	_, err = s.Product(t.Context(), "p-0001")
	require.NoError(t, err)
	require.Equal(t, 3, store.reads)
}

func TestRoutes(t *testing.T) {
	routes := New(&fakeStore{}).REST()
	cases := []struct {
		route, url, id string
		status         int
		body           string
	}{
		{"GET /api/catalog/products/{id}", "/x", "p-0001", 200, `{"id":"p-0001","name":"Elm keyboard 1","category":"keyboard","description":"goes with any keyboard, batch 0","priceCents":100,"options":[{"name":"switches","values":[{"name":"linear","extraCents":0},{"name":"tactile","extraCents":500}]}]}`},
		{"GET /api/catalog/products/{id}", "/x", "p-9", 404, `{"error":"there is no product \"p-9\"","code":"product_not_found","pod":""}`},
		{"GET /api/catalog/products", "/x?page=4", "", 200, `{"products":[],"page":4,"pages":3,"total":50}`},
		{"GET /api/catalog/products", "/x?page=", "", 400, `{"error":"page \"\": wants a number from 1 on","code":"invalid","pod":""}`},
		{"GET /api/catalog/search", "/x?q=teapot", "", 200, `{"products":[]}`},
		{"GET /api/catalog/search", "/x", "", 400, `{"error":"the query must have 1 to 100 characters","code":"invalid","pod":""}`},
	}
	for _, c := range cases {
		t.Run(c.route+" "+c.url+c.id, func(t *testing.T) {
			r := httptest.NewRequest("GET", c.url, nil)
			r.SetPathValue("id", c.id)
			w := httptest.NewRecorder()
			rest.Edge{}.Handle(routes[c.route]).ServeHTTP(w, r)
			require.Equal(t, c.status, w.Code)
			require.Equal(t, c.body+"\n", w.Body.String())
		})
	}
}

func TestGRPCAnswersTheSame(t *testing.T) {
	s := New(&fakeStore{})
	g := s.GRPC()
	one, err := g.GetProduct(t.Context(), &shopapi.GetProductRequest{Id: "p-0001"})
	require.NoError(t, err)
	want, err := s.Product(t.Context(), "p-0001")
	require.NoError(t, err)
	require.Equal(t, want, FromAPI(one.GetProduct()))

	some, err := g.GetProducts(t.Context(), &shopapi.GetProductsRequest{Ids: []string{"p-0003", "p-x", "p-0001"}})
	require.NoError(t, err)
	require.Len(t, some.GetProducts(), 2)
	require.Equal(t, "p-0003", some.GetProducts()[0].GetId())
	_, err = g.GetProducts(t.Context(), &shopapi.GetProductsRequest{Ids: make([]string, 51)})
	require.Equal(t, codes.InvalidArgument, fail.From(err).Code)

	list, err := g.ListProducts(t.Context(), &shopapi.ListProductsRequest{})
	require.NoError(t, err)
	require.Equal(t, int32(1), list.GetPage())
	require.Len(t, list.GetProducts(), 24)

	found, err := g.SearchProducts(t.Context(), &shopapi.SearchProductsRequest{Query: "console 50"})
	require.NoError(t, err)
	require.Len(t, found.GetProducts(), 1)
	for _, err := range []error{
		second(g.GetProduct(t.Context(), &shopapi.GetProductRequest{Id: "p-x"})),
		second(g.ListProducts(t.Context(), &shopapi.ListProductsRequest{Page: -1})),
		second(g.SearchProducts(t.Context(), &shopapi.SearchProductsRequest{})),
	} {
		require.Error(t, err)
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzSearch(f *testing.F) {
	for _, seed := range []string{"keyboard", "", "  ", "\x00", "ß İ", "a\xff"} {
		f.Add(seed)
	}
	s := New(&fakeStore{})
	f.Fuzz(func(t *testing.T, query string) {
		found, err := s.Search(t.Context(), query)
		if err != nil {
			require.Equal(t, codes.InvalidArgument, fail.From(err).Code)
		}
		require.LessOrEqual(t, len(found), 20)
	})
}
