package shoptest

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/analytics"
	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// What a World sells, and to whom: Pays pays, Declined is declined by the card.
var Prices = map[string]int64{"p-0001": 100, "p-0002": 250, "p-0003": 50, "p-0040": 9900, "p-0080": 12000}

const (
	Pays     = "c-0001"
	Declined = "c-0050"
)

// World is the services that an order goes through, in one process: the real
// ones, on the stores that are given, with a wire on every call between them
// and before every statement.
type World struct {
	*orders.Service
	Wire      *Wire
	Inventory *inventory.Service
	Outbox    *orders.Outbox
}

// WorldOptions are what may be set.
type WorldOptions struct {
	Keep     time.Duration // of reservations
	GiveUp   time.Duration // of orders whose payment cannot be resolved
	Provider payments.ProviderConfig
}

// NewWorld puts the services together. Close must be called.
func NewWorld(s Stores, o WorldOptions) *World {
	log := slog.New(slog.DiscardHandler)
	w := &World{Wire: NewWire()}
	s = s.wired(w.Wire)
	wire := w.Wire
	late := &lateOrders{wire: wire}
	w.Inventory = inventory.New(s.Inventory, late, inventory.Options{Keep: o.Keep}, log)
	pay := payments.New(s.Payments, payments.NewFakeProvider(s.Book, o.Provider, "pod"), func() []byte { return []byte("key") })
	stock := inventoryClient{wire: wire, server: w.Inventory.GRPC()}
	w.Service = orders.New(s.Orders, orders.Peers{
		Customers: customersClient{wire: wire}, Catalog: catalogClient{wire: wire}, Configuration: configurationClient{wire: wire},
		Inventory: stock, Payments: paymentsClient{wire: wire, server: pay.GRPC()},
	}, w, orders.Options{GiveUp: o.GiveUp}, log)
	late.server = w.Service.GRPC()
	w.Outbox = orders.NewOutbox(s.Orders, stock, analyticsClient{wire: wire, server: analytics.New(s.Events).GRPC()}, prometheus.NewRegistry(), log)
	return w
}

// Tell forgets events: in a World each is told by whoever finds it left, which
// is the harder way.
func (w *World) Tell(orders.Event) {}

// Close ends what works in the background.
func (w *World) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w.Outbox.Close(ctx)
}

// customersClient knows Pays and Declined.
type customersClient struct{ wire *Wire }

func (c customersClient) GetCustomer(ctx context.Context, req *shopapi.GetCustomerRequest, _ ...grpc.CallOption) (out *shopapi.GetCustomerResponse, err error) {
	err = c.wire.around(ctx, req.GetId(), "GetCustomer", func() error {
		card, known := map[string]string{Pays: "card-1", Declined: "declined-50"}[req.GetId()]
		if !known {
			return fail.New(codes.NotFound, "customer_not_found", "none")
		}
		out = &shopapi.GetCustomerResponse{Customer: &shopapi.Customer{Id: req.GetId(), CardReference: card}}
		return nil
	})
	return out, err
}

// catalogClient knows Prices.
type catalogClient struct {
	shopapi.ProductCatalogClient
	wire *Wire
}

func (c catalogClient) GetProducts(ctx context.Context, req *shopapi.GetProductsRequest, _ ...grpc.CallOption) (out *shopapi.GetProductsResponse, err error) {
	err = c.wire.around(ctx, "", "GetProducts", func() error {
		out = &shopapi.GetProductsResponse{}
		for _, id := range req.GetIds() {
			if cents, known := Prices[id]; known {
				out.Products = append(out.Products, &shopapi.Product{Id: id, PriceCents: cents})
			}
		}
		return nil
	})
	return out, err
}

// configurationClient knows cfg-1: p-0001, at more than it costs by itself.
type configurationClient struct {
	shopapi.ConfigurationEngineClient
	wire *Wire
}

func (c configurationClient) GetConfiguration(ctx context.Context, req *shopapi.GetConfigurationRequest, _ ...grpc.CallOption) (out *shopapi.GetConfigurationResponse, err error) {
	err = c.wire.around(ctx, req.GetId(), "GetConfiguration", func() error {
		if req.GetId() != "cfg-1" {
			return fail.New(codes.NotFound, "configuration_not_found", "none")
		}
		out = &shopapi.GetConfigurationResponse{Configuration: &shopapi.Configuration{Id: "cfg-1", ProductId: "p-0001", PriceCents: 175}}
		return nil
	})
	return out, err
}

type inventoryClient struct {
	shopapi.InventoryManagementClient
	wire   *Wire
	server shopapi.InventoryManagementServer
}

func (c inventoryClient) Reserve(ctx context.Context, req *shopapi.ReserveRequest, _ ...grpc.CallOption) (out *shopapi.ReserveResponse, err error) {
	err = c.wire.around(ctx, req.GetOrderId(), "Reserve", func() error { out, err = c.server.Reserve(ctx, req); return err })
	return out, err
}

func (c inventoryClient) Release(ctx context.Context, req *shopapi.ReleaseRequest, _ ...grpc.CallOption) (out *shopapi.ReleaseResponse, err error) {
	err = c.wire.around(ctx, req.GetOrderId(), "Release", func() error { out, err = c.server.Release(ctx, req); return err })
	return out, err
}

func (c inventoryClient) Commit(ctx context.Context, req *shopapi.CommitRequest, _ ...grpc.CallOption) (out *shopapi.CommitResponse, err error) {
	err = c.wire.around(ctx, "", "Commit", func() error { out, err = c.server.Commit(ctx, req); return err })
	return out, err
}

type paymentsClient struct {
	wire   *Wire
	server shopapi.PaymentGatewayServer
}

func (c paymentsClient) Charge(ctx context.Context, req *shopapi.ChargeRequest, _ ...grpc.CallOption) (out *shopapi.ChargeResponse, err error) {
	err = c.wire.around(ctx, req.GetOrderId(), "Charge", func() error { out, err = c.server.Charge(ctx, req); return err })
	return out, err
}

func (c paymentsClient) Refund(ctx context.Context, req *shopapi.RefundRequest, _ ...grpc.CallOption) (out *shopapi.RefundResponse, err error) {
	err = c.wire.around(ctx, req.GetOrderId(), "Refund", func() error { out, err = c.server.Refund(ctx, req); return err })
	return out, err
}

type analyticsClient struct {
	shopapi.AnalyticsServiceClient
	wire   *Wire
	server shopapi.AnalyticsServiceServer
}

func (c analyticsClient) RecordAll(ctx context.Context, req *shopapi.RecordAllRequest, _ ...grpc.CallOption) (out *shopapi.RecordAllResponse, err error) {
	err = c.wire.around(ctx, "", "RecordAll", func() error { out, err = c.server.RecordAll(ctx, req); return err })
	return out, err
}

// lateOrders is order-processing as inventory calls it; it is made after it.
type lateOrders struct {
	shopapi.OrderProcessingClient
	wire   *Wire
	server shopapi.OrderProcessingServer
}

func (c *lateOrders) GetStatuses(ctx context.Context, req *shopapi.GetStatusesRequest, _ ...grpc.CallOption) (out *shopapi.GetStatusesResponse, err error) {
	err = c.wire.around(ctx, "", "GetStatuses", func() error { out, err = c.server.GetStatuses(ctx, req); return err })
	return out, err
}
