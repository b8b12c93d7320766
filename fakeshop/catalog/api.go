package catalog

import (
	"context"
	"net/http"
	"strconv"

	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// EdgeMethods are the gRPC methods open to outside clients.
var EdgeMethods = []string{
	shopapi.ProductCatalog_GetProduct_FullMethodName,
	shopapi.ProductCatalog_ListProducts_FullMethodName,
	shopapi.ProductCatalog_SearchProducts_FullMethodName,
}

// REST returns the service's routes.
func (s *Service) REST() map[string]rest.Handler {
	return map[string]rest.Handler{
		"GET /api/catalog/products":      s.restList,
		"GET /api/catalog/products/{id}": s.restProduct,
		"GET /api/catalog/search":        s.restSearch,
	}
}

func (s *Service) restList(r *http.Request) (int, any, error) {
	number := 1
	if q := r.URL.Query(); q.Has("page") {
		var err error
		if number, err = strconv.Atoi(q.Get("page")); err != nil {
			return 0, nil, rest.Invalid("page %q: wants a number from 1 on", q.Get("page"))
		}
	}
	c, err := s.copies.catalogue(r.Context())
	if err != nil {
		return 0, nil, err
	}
	from, to, err := c.page(number)
	if err != nil {
		return 0, nil, err
	}
	body := listJSON(c.briefJSON[from:to])
	body = append(body, `,"page":`...)
	body = strconv.AppendInt(body, int64(number), 10)
	body = append(body, `,"pages":`...)
	body = strconv.AppendInt(body, int64(c.pages()), 10)
	body = append(body, `,"total":`...)
	body = strconv.AppendInt(body, int64(len(c.products)), 10)
	return http.StatusOK, rest.Raw(append(body, "}\n"...)), nil
}

func (s *Service) restSearch(r *http.Request) (int, any, error) {
	c, err := s.copies.catalogue(r.Context())
	if err != nil {
		return 0, nil, err
	}
	found, err := c.search(r.URL.Query().Get("q"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, rest.Raw(append(listJSON(pick(c.briefJSON, found)), "}\n"...)), nil
}

// listJSON begins an object with a list of products.
func listJSON(products [][]byte) []byte {
	size := 128
	for _, p := range products {
		size += len(p) + 1
	}
	body := append(make([]byte, 0, size), `{"products":[`...)
	for n, p := range products {
		if n > 0 {
			body = append(body, ',')
		}
		body = append(body, p...)
	}
	return append(body, ']')
}

// besideBody is what a product's page shows beside the product.
type besideBody struct {
	Availability *availabilityBody `json:"availability,omitempty"`
	GoesWith     []briefBody       `json:"goesWith,omitempty"`
	Missing      []string          `json:"missing,omitempty"`
}

type availabilityBody struct {
	Stock  int64 `json:"stock"`
	Unique bool  `json:"unique"`
}

type briefBody struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	PriceCents int64  `json:"priceCents"`
}

func (s *Service) restProduct(r *http.Request) (int, any, error) {
	c, err := s.copies.catalogue(r.Context())
	if err != nil {
		return 0, nil, err
	}
	i, err := c.product(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	p := s.beside(r.Context(), c, c.products[i].ID)
	more := besideBody{Missing: p.missing}
	if p.stock != nil {
		more.Availability = &availabilityBody{p.stock.GetStock(), p.stock.GetUnique()}
	}
	for _, j := range p.goesWith {
		other := c.products[j]
		more.GoesWith = append(more.GoesWith, briefBody{other.ID, other.Name, other.PriceCents})
	}
	text, err := rest.Encode(more)
	return http.StatusOK, joined(c.json[i], text), err
}

// joined makes one JSON object of two, the second of which ends in a line's end.
func joined(first, second []byte) rest.Raw {
	if len(second) <= len("{}\n") {
		return append(append(make(rest.Raw, 0, len(first)+1), first...), '\n')
	}
	out := append(make(rest.Raw, 0, len(first)+len(second)), first[:len(first)-1]...)
	return append(append(out, ','), second[1:]...)
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.ProductCatalogServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedProductCatalogServer
	s *Service
}

func (a api) GetProduct(ctx context.Context, req *shopapi.GetProductRequest) (*shopapi.GetProductResponse, error) {
	c, err := a.s.copies.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	i, err := c.product(req.GetId())
	if err != nil {
		return nil, err
	}
	out := &shopapi.GetProductResponse{Product: c.api[i]}
	if !req.GetPage() {
		return out, nil
	}
	p := a.s.beside(ctx, c, c.products[i].ID)
	if p.stock != nil {
		out.Availability = &shopapi.Availability{Stock: p.stock.GetStock(), Unique: p.stock.GetUnique()}
	}
	out.GoesWith, out.Missing = pick(c.brief, p.goesWith), p.missing
	return out, nil
}

func (a api) GetProducts(ctx context.Context, req *shopapi.GetProductsRequest) (*shopapi.GetProductsResponse, error) {
	c, err := a.s.copies.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	some, err := c.some(req.GetIds())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetProductsResponse{Products: pick(c.brief, some)}, nil
}

func (a api) ListProducts(ctx context.Context, req *shopapi.ListProductsRequest) (*shopapi.ListProductsResponse, error) {
	number := int(req.GetPage())
	if number == 0 {
		number = 1
	}
	c, err := a.s.copies.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	from, to, err := c.page(number)
	if err != nil {
		return nil, err
	}
	return &shopapi.ListProductsResponse{
		Products: c.brief[from:to:to], Page: int32(number), Pages: int32(c.pages()), Total: int32(len(c.products)),
	}, nil
}

func (a api) SearchProducts(ctx context.Context, req *shopapi.SearchProductsRequest) (*shopapi.SearchProductsResponse, error) {
	c, err := a.s.copies.catalogue(ctx)
	if err != nil {
		return nil, err
	}
	found, err := c.search(req.GetQuery())
	if err != nil {
		return nil, err
	}
	return &shopapi.SearchProductsResponse{Products: pick(c.brief, found)}, nil
}

func pick[T any](from []T, places []int) []T {
	out := make([]T, len(places))
	for n, i := range places {
		out[n] = from[i]
	}
	return out
}

// apiValues makes values for messages, each once: half of the catalogue offers
// the same ones.
type apiValues map[Value]*shopapi.OptionValue

func (a apiValues) of(v Value) *shopapi.OptionValue {
	if a[v] == nil {
		a[v] = &shopapi.OptionValue{Name: v.Name, ExtraCents: v.ExtraCents}
	}
	return a[v]
}

func toAPI(p Product, values apiValues) *shopapi.Product {
	out := &shopapi.Product{Id: p.ID, Name: p.Name, Category: p.Category, Description: p.Description, PriceCents: p.PriceCents, Model: p.Model}
	for _, o := range p.Options {
		option := &shopapi.ProductOption{Name: o.Name, Required: o.Required}
		for _, v := range o.Values {
			option.Values = append(option.Values, values.of(v))
		}
		out.Options = append(out.Options, option)
	}
	return out
}

// FromAPI reads a product as other services receive it.
func FromAPI(p *shopapi.Product) Product {
	out := Product{ID: p.GetId(), Name: p.GetName(), Category: p.GetCategory(), Description: p.GetDescription(), PriceCents: p.GetPriceCents(), Model: p.GetModel()}
	for _, o := range p.GetOptions() {
		option := Option{Name: o.GetName(), Required: o.GetRequired()}
		for _, v := range o.GetValues() {
			option.Values = append(option.Values, Value{Name: v.GetName(), ExtraCents: v.GetExtraCents()})
		}
		out.Options = append(out.Options, option)
	}
	return out
}
