package shoptest_test

import (
	"testing"

	"meshsim.dev/meshsim/fakeshop/shoptest"
)

func TestStoresInMemoryShowTheConduct(t *testing.T) {
	t.Run("inventory", func(t *testing.T) {
		shoptest.InventoryConduct(t, shoptest.NewInventory(map[string]int64{
			"p-0001": 1e6, "p-0002": 1e6, "p-0003": 1e6, "p-0040": 5, "p-0080": 5}))
	})
	t.Run("payments", func(t *testing.T) { shoptest.PaymentsConduct(t, shoptest.NewPayments()) })
	t.Run("the provider's book", func(t *testing.T) { shoptest.BookConduct(t, shoptest.NewBook()) })
	t.Run("events", func(t *testing.T) { shoptest.EventsConduct(t, shoptest.NewEvents()) })
	t.Run("orders", func(t *testing.T) { shoptest.OrdersConduct(t, shoptest.NewOrders()) })
}
