package server_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/peer"
	"meshsim.dev/meshsim/fakeshop/shopapi"
)

// BenchmarkCall is one call from a service to another over loopback, with all
// that both do around it.
func BenchmarkCall(b *testing.B) {
	s := run(b, "inventory-management", nil, seven)
	conn, err := (peer.Dialer{Targets: map[string]string{"inventory-management": s.port("grpc")}}).Dial("inventory-management")
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, conn.Close()) })
	c := shopapi.NewInventoryManagementClient(conn)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.GetStock(context.Background(), &shopapi.GetStockRequest{ProductId: "p-0001"}); err != nil {
			b.Fatal(err)
		}
	}
}
