package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

type fakeStore struct {
	mu      sync.Mutex
	edition int64
	asked   int
	reads   int
	err     error
}

func (f *fakeStore) Edition(context.Context) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.edition, f.err
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
	out[0].Model = "keyboard"
	out[0].Options = []Option{{Name: "switches", Required: true, Values: []Value{{Name: "linear"}, {Name: "tactile", ExtraCents: 500}}}}
	return out, nil
}

type fakeInventory struct {
	shopapi.InventoryManagementClient
	err error
}

func (f fakeInventory) GetStock(ctx context.Context, req *shopapi.GetStockRequest, _ ...grpc.CallOption) (*shopapi.GetStockResponse, error) {
	if f.err != nil {
		return nil, f.err
	}
	return &shopapi.GetStockResponse{ProductId: req.GetProductId(), Stock: 3, Unique: true}, nil
}

type fakeRecommend struct {
	shopapi.RecommendationServiceClient
	hang bool
}

func (f fakeRecommend) Related(ctx context.Context, req *shopapi.RelatedRequest, _ ...grpc.CallOption) (*shopapi.RelatedResponse, error) {
	if f.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &shopapi.RelatedResponse{ProductIds: []string{"p-0002", req.GetProductId(), "p-x", "p-0003", "p-0004", "p-0005", "p-0006"}}, nil
}

func newService(store Store) *Service {
	return New(store, Peers{fakeInventory{}, fakeRecommend{}}, slog.New(slog.DiscardHandler))
}

func TestPagesCoverTheCatalogueOnce(t *testing.T) {
	g := newService(&fakeStore{}).GRPC()
	seen := map[string]bool{}
	for page, want := range map[int32]int{1: 24, 2: 24, 3: 2, 4: 0, 1_000_000: 0} {
		p, err := g.ListProducts(t.Context(), &shopapi.ListProductsRequest{Page: page})
		require.NoError(t, err)
		require.Len(t, p.GetProducts(), want, page)
		require.Equal(t, int32(3), p.GetPages())
		require.Equal(t, int32(50), p.GetTotal())
		for _, product := range p.GetProducts() {
			require.False(t, seen[product.GetId()])
			seen[product.GetId()] = true
		}
	}
	require.Len(t, seen, 50)
	for _, page := range []int32{-1, 1_000_001} {
		_, err := g.ListProducts(t.Context(), &shopapi.ListProductsRequest{Page: page})
		require.Equal(t, codes.InvalidArgument, fail.Code(err), page)
	}
}

func TestSearchWantsEveryWordAndPrefersNames(t *testing.T) {
	g := newService(&fakeStore{}).GRPC()
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
		{"ELM board", 20, "p-0001"},
		{"50", 1, "p-0050"},
		{"batch 5", 6, "p-0005"},
		{"teapot", 0, ""},
	}
	for _, c := range cases {
		t.Run(c.query, func(t *testing.T) {
			found, err := g.SearchProducts(t.Context(), &shopapi.SearchProductsRequest{Query: c.query})
			require.NoError(t, err)
			require.Len(t, found.GetProducts(), c.count)
			if c.count > 0 {
				require.Equal(t, c.first, found.GetProducts()[0].GetId())
			}
		})
	}
	for _, query := range []string{"", "  ", fmt.Sprintf("%101d", 1)} {
		_, err := g.SearchProducts(t.Context(), &shopapi.SearchProductsRequest{Query: query})
		require.Equal(t, codes.InvalidArgument, fail.Code(err))
	}
}

func TestTheCatalogueIsReadAgainOnlyWhenItHasChanged(t *testing.T) {
	store := &fakeStore{}
	s := newService(store)
	now := time.Unix(0, 0)
	s.copies.now = func() time.Time { return now }
	ask := func() error { _, err := s.copies.catalogue(context.Background()); return err }
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if err := ask(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, store.asked)
	require.Equal(t, 1, store.reads)
	now = now.Add(CacheFor)
	store.err = errors.New("no database")
	require.ErrorIs(t, ask(), store.err, "what is too old is not answered")
	store.err = nil
	require.NoError(t, ask())
	require.Equal(t, 3, store.asked)
	require.Equal(t, 1, store.reads, "the same edition is not read twice")
	now, store.edition = now.Add(CacheFor), 1
	require.NoError(t, ask())
	require.Equal(t, 2, store.reads)
}

func TestRoutes(t *testing.T) {
	routes := newService(&fakeStore{}).REST()
	const first = `{"id":"p-0001","name":"Elm keyboard 1","category":"keyboard","description":"goes with any keyboard, batch 0","priceCents":100,"model":"keyboard","options":[{"name":"switches","required":true,"values":[{"name":"linear","extraCents":0},{"name":"tactile","extraCents":500}]}]`
	cases := []struct {
		route, url, id string
		status         int
		body           string
	}{
		{"GET /api/catalog/products/{id}", "/x", "p-0001", 200, first + `,"availability":{"stock":3,"unique":true},"goesWith":[{"id":"p-0002","name":"Elm console 2","priceCents":200},{"id":"p-0003","name":"Elm keyboard 3","priceCents":300},{"id":"p-0004","name":"Elm console 4","priceCents":400},{"id":"p-0005","name":"Elm keyboard 5","priceCents":500}]}`},
		{"GET /api/catalog/products/{id}", "/x", "p-9", 404, `{"error":"there is no product \"p-9\"","code":"product_not_found","pod":""}`},
		{"GET /api/catalog/products", "/x?page=4", "", 200, `{"products":[],"page":4,"pages":3,"total":50}`},
		{"GET /api/catalog/products", "/x?page=", "", 400, `{"error":"page \"\": wants a number from 1 on","code":"invalid","pod":""}`},
		{"GET /api/catalog/products", "/x?page=0", "", 400, `{"error":"page 0: wants a number from 1 on","code":"invalid","pod":""}`},
		{"GET /api/catalog/search", "/x?q=console+50", "", 200, `{"products":[{"id":"p-0050","name":"Elm console 50","category":"console","description":"goes with any keyboard, batch 5","priceCents":5000}]}`},
		{"GET /api/catalog/search", "/x?q=teapot", "", 200, `{"products":[]}`},
		{"GET /api/catalog/search", "/x", "", 400, `{"error":"the query must have 1 to 100 characters","code":"invalid","pod":""}`},
	}
	for _, c := range cases {
		t.Run(c.route+" "+c.url+c.id, func(t *testing.T) {
			status, body := ask(routes[c.route], c.url, c.id)
			require.Equal(t, c.status, status)
			require.Equal(t, c.body+"\n", body)
		})
	}
	_, body := ask(routes["GET /api/catalog/products"], "/x", "")
	var page struct {
		Products []Product `json:"products"`
		Page     int       `json:"page"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &page))
	require.Len(t, page.Products, 24)
	require.Equal(t, "p-0024", page.Products[23].ID)
	require.Equal(t, "keyboard", page.Products[0].Model)
	require.Empty(t, page.Products[0].Options)
}

func ask(h rest.Handler, url, id string) (status int, body string) {
	r := httptest.NewRequest("GET", url, nil)
	r.SetPathValue("id", id)
	w := httptest.NewRecorder()
	rest.Edge{}.Handle(h).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestAPageIsShownWithoutWhatIsLateOrAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(&fakeStore{}, Peers{fakeInventory{err: fail.New(codes.Unavailable, "", "gone")}, fakeRecommend{hang: true}}, slog.New(slog.DiscardHandler))
		began := time.Now()
		status, body := ask(s.REST()["GET /api/catalog/products/{id}"], "/x", "p-0002")
		require.Equal(t, pageWithin, time.Since(began))
		require.Equal(t, 200, status)
		require.Equal(t, `{"id":"p-0002","name":"Elm console 2","category":"console","description":"goes with any keyboard, batch 0","priceCents":200,"missing":["availability","goes_with"]}`+"\n", body)
	})
}

func TestGRPCAnswersTheSame(t *testing.T) {
	store := &fakeStore{}
	g := newService(store).GRPC()
	one, err := g.GetProduct(t.Context(), &shopapi.GetProductRequest{Id: "p-0001"})
	require.NoError(t, err)
	products, err := store.Products(t.Context())
	require.NoError(t, err)
	require.Equal(t, products[0], FromAPI(one.GetProduct()))
	require.Nil(t, one.GetAvailability(), "it was not asked for")

	page, err := g.GetProduct(t.Context(), &shopapi.GetProductRequest{Id: "p-0001", Page: true})
	require.NoError(t, err)
	require.True(t, proto.Equal(&shopapi.Availability{Stock: 3, Unique: true}, page.GetAvailability()))
	require.Len(t, page.GetGoesWith(), 4)
	require.Equal(t, "p-0002", page.GetGoesWith()[0].GetId())

	some, err := g.GetProducts(t.Context(), &shopapi.GetProductsRequest{Ids: []string{"p-0003", "p-x", "p-0001"}})
	require.NoError(t, err)
	require.Len(t, some.GetProducts(), 2)
	require.Equal(t, "p-0003", some.GetProducts()[0].GetId())
	require.Equal(t, "keyboard", some.GetProducts()[1].GetModel())
	require.Empty(t, some.GetProducts()[1].GetOptions(), "lists leave them out")
	_, err = g.GetProducts(t.Context(), &shopapi.GetProductsRequest{Ids: make([]string, 51)})
	require.Equal(t, codes.InvalidArgument, fail.Code(err))

	list, err := g.ListProducts(t.Context(), &shopapi.ListProductsRequest{})
	require.NoError(t, err)
	require.Equal(t, int32(1), list.GetPage())
	require.Len(t, list.GetProducts(), 24)
	for _, err := range []error{
		second(g.GetProduct(t.Context(), &shopapi.GetProductRequest{Id: "p-x"})),
		second(g.ListProducts(t.Context(), &shopapi.ListProductsRequest{Page: -1})),
		second(g.SearchProducts(t.Context(), &shopapi.SearchProductsRequest{})),
	} {
		require.Error(t, err)
	}
}

func second[T any](_ T, err error) error { return err }

// The index finds what looking through every text finds.
func TestTheIndexFindsWhatReadingEverythingFinds(t *testing.T) {
	store := &fakeStore{}
	s := newService(store)
	c, err := s.copies.catalogue(t.Context())
	require.NoError(t, err)
	for _, query := range []string{"keyboard", "elm 1", "board goes", "k", "batch 4 console", "4", "any keyboard 2", "zzz"} {
		var named, others []int
		for i, p := range c.products {
			text := strings.ToLower(p.Name + " " + p.Category + " " + p.Description)
			words := strings.Fields(query)
			if slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
				continue
			}
			if strings.Contains(strings.ToLower(p.Name), words[0]) {
				named = append(named, i)
			} else {
				others = append(others, i)
			}
		}
		want := append(named, others...)
		found, err := c.search(query)
		require.NoError(t, err)
		require.Equal(t, append([]int{}, want[:min(len(want), 20)]...), append([]int{}, found...), query)
	}
}

func BenchmarkSearch(b *testing.B) {
	var products []Product
	for n := range 3000 {
		products = append(products, Product{ID: fmt.Sprint(n), Name: fmt.Sprint("Elm Harbour Keyboard ", n), Category: "keyboard",
			Description: fmt.Sprint("Elm's keyboard of the Harbour line, matte, batch ", n%40)})
	}
	c, err := newSnapshot(1, products)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if found, err := c.search("harbour keyboard"); err != nil || len(found) != 20 {
			b.Fatal(found, err)
		}
	}
}

func FuzzSearch(f *testing.F) {
	for _, seed := range []string{"keyboard", "", "  ", "\x00", "ß İ", "a\xff"} {
		f.Add(seed)
	}
	g := newService(&fakeStore{}).GRPC()
	f.Fuzz(func(t *testing.T, query string) {
		found, err := g.SearchProducts(context.Background(), &shopapi.SearchProductsRequest{Query: query})
		if err != nil {
			require.Equal(t, codes.InvalidArgument, fail.Code(err))
		}
		require.LessOrEqual(t, len(found.GetProducts()), 20)
	})
}
