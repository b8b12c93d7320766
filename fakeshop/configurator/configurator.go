// Package configurator is the service configuration-engine: it checks the
// choices made for a custom product, completes and prices them.
package configurator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/catalog"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/models"
	"meshsim.dev/meshsim/fakeshop/rest"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// Name is the service's name.
const Name = "configuration-engine"

// Configuration is a product with every choice made.
type Configuration struct {
	ID         string            `json:"id"`
	ProductID  string            `json:"productId"`
	Options    map[string]string `json:"options"`
	PriceCents int64             `json:"priceCents"`
	Available  bool              `json:"available"` // in stock when it was configured
}

// Store keeps configurations.
type Store interface {
	// Save answers false when the id is known already.
	Save(ctx context.Context, c Configuration) (created bool, err error)
	// Configuration answers false for an unknown id.
	Configuration(ctx context.Context, id string) (Configuration, bool, error)
}

// Service configures.
type Service struct {
	store     Store
	catalog   shopapi.ProductCatalogClient
	inventory shopapi.InventoryManagementClient
}

// New makes the service.
func New(store Store, catalog shopapi.ProductCatalogClient, inventory shopapi.InventoryManagementClient) *Service {
	return &Service{store: store, catalog: catalog, inventory: inventory}
}

// Configure checks and prices the choices for a product. The same choices get
// the same configuration, created once.
func (s *Service) Configure(ctx context.Context, productID string, options map[string]string) (Configuration, bool, error) {
	if productID == "" {
		return Configuration{}, false, fail.New(codes.InvalidArgument, "", "productId is missing")
	}
	var product catalog.Product
	var stock *shopapi.GetStockResponse
	both, bctx := errgroup.WithContext(ctx)
	both.Go(func() error {
		p, err := s.catalog.GetProduct(bctx, &shopapi.GetProductRequest{Id: productID})
		product = catalog.FromAPI(p.GetProduct())
		return err
	})
	both.Go(func() (err error) {
		stock, err = s.inventory.GetStock(bctx, &shopapi.GetStockRequest{ProductId: productID})
		return err
	})
	if err := both.Wait(); err != nil {
		return Configuration{}, false, err
	}
	whole, extra, err := complete(product, options)
	if err != nil {
		return Configuration{}, false, err
	}
	c := Configuration{
		ID: identify(productID, whole), ProductID: productID, Options: whole,
		PriceCents: product.PriceCents + extra, Available: stock.GetStock() > 0,
	}
	created, err := s.store.Save(ctx, c)
	return c, created, err
}

// Configuration returns the configuration with the id.
func (s *Service) Configuration(ctx context.Context, id string) (Configuration, error) {
	c, known, err := s.store.Configuration(ctx, id)
	if err != nil {
		return Configuration{}, err
	}
	if !known {
		return Configuration{}, fail.New(codes.NotFound, "configuration_not_found", "there is no configuration %q", id)
	}
	return c, nil
}

// complete holds the choices to the rules of what is made, completes them and
// says what they add to the price; or it tells everything that is wrong.
func complete(p catalog.Product, chosen map[string]string) (whole map[string]string, extraCents int64, err error) {
	model, known := models.ByName(p.Model)
	if !known || len(p.Options) == 0 {
		return nil, 0, invalid("%s cannot be configured", p.ID)
	}
	whole, extraCents, wrong := model.Complete(Offered(p), chosen)
	if len(wrong) > 0 {
		return nil, 0, invalid("%s: %s", p.ID, strings.Join(wrong, ", "))
	}
	return whole, extraCents, nil
}

// Offered is what a product offers, as models take it.
func Offered(p catalog.Product) []models.Option {
	out := make([]models.Option, len(p.Options))
	for i, o := range p.Options {
		out[i] = models.Option{Name: o.Name, Required: o.Required, Values: make([]models.Value, len(o.Values))}
		for j, v := range o.Values {
			out[i].Values[j] = models.Value{Name: v.Name, ExtraCents: v.ExtraCents}
		}
	}
	return out
}

func invalid(format string, args ...any) error {
	return fail.New(codes.FailedPrecondition, "invalid_configuration", format, args...)
}

// identify names a configuration after what it is.
func identify(productID string, options map[string]string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", productID)
	for _, name := range slices.Sorted(maps.Keys(options)) {
		fmt.Fprintf(h, "%q=%q", name, options[name])
	}
	return "cfg-" + hex.EncodeToString(h.Sum(nil)[:10])
}

// EdgeMethods are the gRPC methods open to outside clients.
var EdgeMethods = []string{shopapi.ConfigurationEngine_Configure_FullMethodName}

// REST returns the service's routes.
func (s *Service) REST() map[string]rest.Handler {
	return map[string]rest.Handler{
		"POST /api/configurations": func(r *http.Request) (int, any, error) {
			var body struct {
				ProductID string            `json:"productId"`
				Options   map[string]string `json:"options"`
			}
			if err := rest.Decode(r, &body); err != nil {
				return 0, nil, err
			}
			c, created, err := s.Configure(r.Context(), body.ProductID, body.Options)
			if created {
				return http.StatusCreated, c, err
			}
			return http.StatusOK, c, err
		},
		"GET /api/configurations/{id}": func(r *http.Request) (int, any, error) {
			c, err := s.Configuration(r.Context(), r.PathValue("id"))
			return http.StatusOK, c, err
		},
	}
}

// GRPC returns the service for gRPC.
func (s *Service) GRPC() shopapi.ConfigurationEngineServer { return api{s: s} }

type api struct {
	shopapi.UnimplementedConfigurationEngineServer
	s *Service
}

func (a api) Configure(ctx context.Context, req *shopapi.ConfigureRequest) (*shopapi.ConfigureResponse, error) {
	c, created, err := a.s.Configure(ctx, req.GetProductId(), req.GetOptions())
	if err != nil {
		return nil, err
	}
	return &shopapi.ConfigureResponse{Created: created, Configuration: toAPI(c)}, nil
}

func (a api) GetConfiguration(ctx context.Context, req *shopapi.GetConfigurationRequest) (*shopapi.GetConfigurationResponse, error) {
	c, err := a.s.Configuration(ctx, req.GetId())
	if err != nil {
		return nil, err
	}
	return &shopapi.GetConfigurationResponse{Configuration: toAPI(c)}, nil
}

func toAPI(c Configuration) *shopapi.Configuration {
	return &shopapi.Configuration{Id: c.ID, ProductId: c.ProductID, Options: c.Options, PriceCents: c.PriceCents, Available: c.Available}
}
