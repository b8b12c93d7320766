package orders

import (
	"context"
	"strings"
	"time"

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
	both, bctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		customer, err = s.peers.Customers.GetCustomer(bctx, &shopapi.GetCustomerRequest{Id: o.CustomerID})
		return err
	})
	both.Go(func() (err error) {
		ids := make([]string, len(o.Items))
		for i, item := range o.Items {
			ids[i] = item.ProductID
		}
		products, err = s.peers.Catalog.GetProducts(bctx, &shopapi.GetProductsRequest{Ids: ids})
		return err
	})
	if err := both.Wait(); err != nil {
		return nil, err
	}
	prices := map[string]int64{}
	for _, p := range products.GetProducts() {
		prices[p.GetId()] = p.GetPriceCents()
	}
	o.TotalCents = 0
	for i, item := range o.Items {
		cents, known := prices[item.ProductID]
		if !known {
			return nil, fail.New(codes.NotFound, "product_not_found", "there is no product %q", item.ProductID)
		}
		o.Items[i].UnitCents = cents
		o.TotalCents += cents * int64(item.Quantity)
	}
	return customer.GetCustomer(), nil
}

// settle brings an order to its end, from wherever it stands, and answers for
// it. The client may go; the order is finished all the same.
func (s *Service) settle(ctx context.Context, o *Order, card string, created bool) (*Order, bool, error) {
	if o.Status == Pending {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
		defer cancel()
		status, err := s.run(ctx, o, card)
		if err != nil {
			return nil, false, err
		}
		o.Status = status
	}
	switch o.Status {
	case OutOfStock:
		return nil, false, fail.New(codes.FailedPrecondition, "out_of_stock", "order %s: not enough in stock", o.ID)
	case PaymentDeclined:
		return nil, false, fail.New(codes.FailedPrecondition, "payment_declined", "order %s: the payment was declined", o.ID)
	}
	return o, created, nil
}

// run does the steps of a pending order. A step that was done before answers
// as it did then, so that what follows is the same each time:
//
//	reserve: refused           → out_of_stock
//	reserve: released          → payment_declined, for nothing else releases
//	charge: declined → release → payment_declined
//	charge: taken              → confirmed
func (s *Service) run(ctx context.Context, o *Order, card string) (Status, error) {
	reserved, err := s.peers.Inventory.Reserve(ctx, &shopapi.ReserveRequest{OrderId: o.ID, Items: itemsToAPI(o.Items)})
	if err != nil {
		return "", err
	}
	switch reserved.GetState() {
	case shopapi.ReservationState_RESERVATION_STATE_RESERVED:
	case shopapi.ReservationState_RESERVATION_STATE_REFUSED:
		s.log.Debug("out of stock", "order", o.ID, "products", strings.Join(reserved.GetShortOf(), " "))
		return s.finish(ctx, o, OutOfStock)
	case shopapi.ReservationState_RESERVATION_STATE_RELEASED:
		return s.finish(ctx, o, PaymentDeclined)
	default:
		return "", fail.New(codes.Internal, "", "reserving for order %s: unexpected state %s", o.ID, reserved.GetState())
	}
	if card == "" {
		customer, err := s.peers.Customers.GetCustomer(ctx, &shopapi.GetCustomerRequest{Id: o.CustomerID})
		if err != nil {
			return "", err
		}
		card = customer.GetCustomer().GetCardReference()
	}
	paid, err := s.peers.Payments.Charge(ctx, &shopapi.ChargeRequest{OrderId: o.ID, AmountCents: o.TotalCents, CardReference: card})
	if err != nil {
		return "", err
	}
	switch paid.GetState() {
	case shopapi.PaymentState_PAYMENT_STATE_TAKEN:
		return s.finish(ctx, o, Confirmed)
	case shopapi.PaymentState_PAYMENT_STATE_DECLINED:
		if _, err := s.peers.Inventory.Release(ctx, &shopapi.ReleaseRequest{OrderId: o.ID}); err != nil {
			return "", err
		}
		return s.finish(ctx, o, PaymentDeclined)
	}
	return "", fail.New(codes.Internal, "", "charging order %s: unexpected state %s", o.ID, paid.GetState())
}

// finish writes the end of an order and tells analytics.
func (s *Service) finish(ctx context.Context, o *Order, status Status) (Status, error) {
	settled, err := s.store.Settle(ctx, o.ID, status)
	if err != nil {
		return "", err
	}
	s.events.Note("order."+string(settled), o.ID)
	return settled, nil
}

// How orders that a pod left behind are looked for.
const (
	recoverEvery = 5 * time.Second
	leftFor      = 15 * time.Second // well over settleWithin
	recoverLimit = 10
)

// Recover finishes orders left pending by pods that died or calls that failed,
// until ctx ends.
func (s *Service) Recover(ctx context.Context) {
	tick := time.NewTicker(recoverEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.recoverSome(ctx)
		}
	}
}

func (s *Service) recoverSome(ctx context.Context) {
	left, err := s.store.Claim(ctx, leftFor, recoverLimit)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("looking for orders left pending", "error", err)
		}
		return
	}
	for _, o := range left {
		s.finishLeft(ctx, o)
	}
}

func (s *Service) finishLeft(ctx context.Context, o *Order) {
	if _, _, err := s.settle(ctx, o, "", false); err != nil {
		if f := fail.From(err); fail.IsFailure(f.Code) {
			s.log.Warn("finishing an order left pending", "order", o.ID, "hop", f.Chain(Name), "error", err)
			return
		}
	}
	s.log.Info("finished an order left pending", "order", o.ID, "status", o.Status)
}

func itemsToAPI(items []Item) []*shopapi.Item {
	out := make([]*shopapi.Item, len(items))
	for i, item := range items {
		out[i] = &shopapi.Item{ProductId: item.ProductID, Quantity: int32(item.Quantity)}
	}
	return out
}
