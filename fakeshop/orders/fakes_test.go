package orders_test

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/fail"
	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/orders"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// shop is order-processing among real services on stores in memory, with a
// hook on every call between them.
type shop struct {
	*orders.Service
	orders    *shoptest.Orders
	inventory *shoptest.Inventory
	payments  *shoptest.Payments
	wire      *wire
	noted     *noted
}

// wire is asked before a call is sent and after it was answered; an error means
// that the call, or its answer, was lost.
type wire struct {
	mu            sync.Mutex
	before, after func(call string) error
	calls         map[string]int
}

func (w *wire) around(ctx context.Context, call string, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	before, after := w.before, w.after
	w.calls[call]++
	w.mu.Unlock()
	if before != nil {
		if err := before(call); err != nil {
			return err
		}
	}
	if err := do(); err != nil {
		return err
	}
	if after != nil {
		return after(call)
	}
	return nil
}

func (w *wire) count(call string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[call]
}

type noted struct {
	mu     sync.Mutex
	events map[string]int
}

func (n *noted) Note(kind, subject string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events[kind+" "+subject]++
}

// newShop has plenty of p-0001 and p-0002, five of p-0040; c-0001 pays, c-0050
// is declined.
func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{
		orders:    shoptest.NewOrders(),
		inventory: shoptest.NewInventory(map[string]int64{"p-0001": 1000, "p-0002": 1000, "p-0040": 5}),
		payments:  shoptest.NewPayments(),
		wire:      &wire{calls: map[string]int{}},
		noted:     &noted{events: map[string]int{}},
	}
	pay := payments.New(s.payments, func() []byte { return []byte("key") })
	s.Service = orders.New(s.orders, orders.Peers{
		Customers: fakeCustomers{s.wire},
		Catalog:   fakeCatalog{wire: s.wire},
		Inventory: fakeInventory{wire: s.wire, server: inventory.New(s.inventory).GRPC()},
		Payments:  fakePayments{wire: s.wire, server: pay.GRPC()},
	}, s.noted, slog.New(slog.NewTextHandler(io.Discard, nil)))
	return s
}

type fakeCustomers struct{ wire *wire }

func (f fakeCustomers) GetCustomer(ctx context.Context, req *shopapi.GetCustomerRequest, _ ...grpc.CallOption) (out *shopapi.GetCustomerResponse, err error) {
	err = f.wire.around(ctx, "GetCustomer", func() error {
		cards := map[string]string{"c-0001": "card-1", "c-0050": "declined-50"}
		card, known := cards[req.GetId()]
		if !known {
			return fail.New(codes.NotFound, "customer_not_found", "none")
		}
		out = &shopapi.GetCustomerResponse{Customer: &shopapi.Customer{Id: req.GetId(), CardReference: card}}
		return nil
	})
	return out, err
}

type fakeCatalog struct {
	shopapi.ProductCatalogClient
	wire *wire
}

func (f fakeCatalog) GetProducts(ctx context.Context, req *shopapi.GetProductsRequest, _ ...grpc.CallOption) (out *shopapi.GetProductsResponse, err error) {
	err = f.wire.around(ctx, "GetProducts", func() error {
		prices := map[string]int64{"p-0001": 100, "p-0002": 250, "p-0040": 9900}
		out = &shopapi.GetProductsResponse{}
		for _, id := range req.GetIds() {
			if cents, known := prices[id]; known {
				out.Products = append(out.Products, &shopapi.Product{Id: id, PriceCents: cents})
			}
		}
		return nil
	})
	return out, err
}

type fakeInventory struct {
	shopapi.InventoryManagementClient
	wire   *wire
	server shopapi.InventoryManagementServer
}

func (f fakeInventory) Reserve(ctx context.Context, req *shopapi.ReserveRequest, _ ...grpc.CallOption) (out *shopapi.ReserveResponse, err error) {
	err = f.wire.around(ctx, "Reserve", func() error { out, err = f.server.Reserve(ctx, req); return err })
	return out, err
}

func (f fakeInventory) Release(ctx context.Context, req *shopapi.ReleaseRequest, _ ...grpc.CallOption) (out *shopapi.ReleaseResponse, err error) {
	err = f.wire.around(ctx, "Release", func() error { out, err = f.server.Release(ctx, req); return err })
	return out, err
}

type fakePayments struct {
	wire   *wire
	server shopapi.PaymentGatewayServer
}

func (f fakePayments) Charge(ctx context.Context, req *shopapi.ChargeRequest, _ ...grpc.CallOption) (out *shopapi.ChargeResponse, err error) {
	err = f.wire.around(ctx, "Charge", func() error { out, err = f.server.Charge(ctx, req); return err })
	return out, err
}

// errLost is a call, or an answer, that a dying pod took with it.
var errLost = fail.At("somewhere", "calling", fail.New(codes.Unavailable, "", "connection reset"))
