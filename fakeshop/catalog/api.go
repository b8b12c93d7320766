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
		"GET /api/catalog/products": func(r *http.Request) (int, any, error) {
			page := 1
			if q := r.URL.Query(); q.Has("page") {
				var err error
				if page, err = strconv.Atoi(q.Get("page")); err != nil {
					return 0, nil, rest.Invalid("page %q: wants a number from 1 on", q.Get("page"))
				}
			}
			p, err := s.List(r.Context(), page)
			return http.StatusOK, p, err
		},
		"GET /api/catalog/products/{id}": func(r *http.Request) (int, any, error) {
			p, err := s.Product(r.Context(), r.PathValue("id"))
			return http.StatusOK, p, err
		},
		"GET /api/catalog/search": func(r *http.Request) (int, any, error) {
			found, err := s.Search(r.Context(), r.URL.Query().Get("q"))
			if found == nil {
				found = []Product{}
			}
			return http.StatusOK, map[string]any{"products": found}, err
		},
	}
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.ProductCatalogServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedProductCatalogServer
	s *Service
}

func (a api) GetProduct(ctx context.Context, req *shopapi.GetProductRequest) (*shopapi.GetProductResponse, error) {
	p, err := a.s.Product(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetProductResponse{Product: toAPI(p)}, nil
}

func (a api) GetProducts(ctx context.Context, req *shopapi.GetProductsRequest) (*shopapi.GetProductsResponse, error) {
	some, err := a.s.Some(ctx, req.GetIds())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetProductsResponse{Products: listToAPI(some)}, nil
}

func (a api) ListProducts(ctx context.Context, req *shopapi.ListProductsRequest) (*shopapi.ListProductsResponse, error) {
	page := int(req.GetPage())
	if page == 0 {
		page = 1
	}
	p, err := a.s.List(ctx, page)
	if err != nil {
		return nil, err
	}
	return &shopapi.ListProductsResponse{
		Products: listToAPI(p.Products), Page: int32(p.Page), Pages: int32(p.Pages), Total: int32(p.Total),
	}, nil
}

func (a api) SearchProducts(ctx context.Context, req *shopapi.SearchProductsRequest) (*shopapi.SearchProductsResponse, error) {
	found, err := a.s.Search(ctx, req.GetQuery())
	if err != nil {
		return nil, err
	}
	return &shopapi.SearchProductsResponse{Products: listToAPI(found)}, nil
}

func listToAPI(products []Product) []*shopapi.Product {
	out := make([]*shopapi.Product, len(products))
	for i, p := range products {
		out[i] = toAPI(p)
	}
	return out
}

func toAPI(p Product) *shopapi.Product {
	out := &shopapi.Product{Id: p.ID, Name: p.Name, Category: p.Category, Description: p.Description, PriceCents: p.PriceCents}
	for _, o := range p.Options {
		option := &shopapi.ProductOption{Name: o.Name}
		for _, v := range o.Values {
			option.Values = append(option.Values, &shopapi.OptionValue{Name: v.Name, ExtraCents: v.ExtraCents})
		}
		out.Options = append(out.Options, option)
	}
	return out
}

// FromAPI reads a product as other services receive it.
func FromAPI(p *shopapi.Product) Product {
	out := Product{ID: p.GetId(), Name: p.GetName(), Category: p.GetCategory(), Description: p.GetDescription(), PriceCents: p.GetPriceCents()}
	for _, o := range p.GetOptions() {
		option := Option{Name: o.GetName()}
		for _, v := range o.GetValues() {
			option.Values = append(option.Values, Value{Name: v.GetName(), ExtraCents: v.GetExtraCents()})
		}
		out.Options = append(out.Options, option)
	}
	return out
}
