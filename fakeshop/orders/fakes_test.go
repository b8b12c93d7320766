package orders_test

import (
	"testing"

	"meshsim.dev/meshsim/fakeshop/inventory"
	"meshsim.dev/meshsim/fakeshop/payments"
	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// shop is order-processing among real services on stores in memory.
type shop struct {
	*shoptest.World
	audit shoptest.Auditor
}

// newShop has plenty of p-0001 and p-0002, five of p-0040; c-0001 pays, c-0050
// is declined.
func newShop(t *testing.T) *shop {
	t.Helper()
	return newShopWith(t, shoptest.WorldOptions{})
}

func newShopWith(t *testing.T, o shoptest.WorldOptions) *shop {
	t.Helper()
	m := shoptest.NewMemory(map[string]int64{"p-0001": 1000, "p-0002": 1000, "p-0040": 5})
	s := &shop{shoptest.NewWorld(m.Stores(), o), m.Audit}
	t.Cleanup(s.Close)
	return s
}

func (s *shop) payment(t *testing.T, order string) (payments.Payment, bool) {
	t.Helper()
	p, there := s.audit(t).Payments[order]
	return p, there
}

func (s *shop) stock(t *testing.T, product string) int64 {
	t.Helper()
	return s.audit(t).Stock[product].Stock
}

func (s *shop) held(t *testing.T, order string) []inventory.Item {
	t.Helper()
	return s.audit(t).Kept[order]
}

// lose makes every call of a name fail, before it is done or after.
func (s *shop) lose(call string, fate shoptest.Fate) {
	s.Wire.Decide(func(_, step string, _ int) shoptest.Fate {
		if step == call {
			return fate
		}
		return shoptest.Done
	})
}
