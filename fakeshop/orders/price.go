package orders

import (
	"context"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// findOrPrice returns the order that the id already has, or else the customer,
// with the order priced. It asks for both at once: nearly every order is new,
// and should not wait for the answer that it is.
func (s *Service) findOrPrice(ctx context.Context, wanted *Order) (*Order, *shopapi.Customer, error) {
	pricing, stop := context.WithCancel(ctx)
	defer stop()
	var customer *shopapi.Customer
	var priceErr error
	priced := make(chan struct{})
	go func() {
		defer close(priced)
		customer, priceErr = s.price(pricing, wanted)
	}()
	found, err := s.store.Order(ctx, wanted.ID)
	if err != nil || found != nil {
		stop()
		<-priced // it writes to wanted
		return found, nil, err
	}
	<-priced
	return nil, customer, priceErr
}

// price asks who buys and what it costs, and fills the order's prices.
func (s *Service) price(ctx context.Context, o *Order) (*shopapi.Customer, error) {
	var customer *shopapi.GetCustomerResponse
	var products *shopapi.GetProductsResponse
	var configured *shopapi.GetConfigurationResponse
	all, actx := errgroup.WithContext(ctx)
	all.Go(func() (err error) {
		customer, err = s.peers.Customers.GetCustomer(actx, &shopapi.GetCustomerRequest{Id: o.CustomerID})
		return err
	})
	all.Go(func() (err error) {
		ids := make([]string, len(o.Items))
		for i, item := range o.Items {
			ids[i] = item.ProductID
		}
		products, err = s.peers.Catalog.GetProducts(actx, &shopapi.GetProductsRequest{Ids: ids})
		return err
	})
	if o.ConfigurationID != "" {
		all.Go(func() (err error) {
			configured, err = s.peers.Configuration.GetConfiguration(actx, &shopapi.GetConfigurationRequest{Id: o.ConfigurationID})
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return nil, err
	}
	prices := map[string]int64{}
	for _, p := range products.GetProducts() {
		prices[p.GetId()] = p.GetPriceCents()
	}
	if c := configured.GetConfiguration(); c != nil {
		if _, ordered := prices[c.GetProductId()]; !ordered {
			return nil, invalid("configuration %s is of %s, which is not ordered", c.GetId(), c.GetProductId())
		}
		prices[c.GetProductId()] = c.GetPriceCents()
	}
	return customer.GetCustomer(), total(o, prices)
}

// total fills the prices of the items and their sum.
func total(o *Order, prices map[string]int64) error {
	o.TotalCents = 0
	for i, item := range o.Items {
		cents, known := prices[item.ProductID]
		if !known {
			return fail.New(codes.NotFound, "product_not_found", "there is no product %q", item.ProductID)
		}
		o.Items[i].UnitCents = cents
		o.TotalCents += cents * int64(item.Quantity)
	}
	return nil
}
