package shoptest_test

import (
	"fmt"
	"testing"

	"meshsim.dev/meshsim/fakeshop/shoptest"
)

// ground is in memory; Fresh makes all of it anew.
func ground() *shoptest.Ground {
	g := &shoptest.Ground{}
	g.Fresh = func(*testing.T) {
		m := shoptest.NewMemory(map[string]int64{"p-0001": 1000, "p-0002": 1000, "p-0003": 1000, "p-0040": 5, "p-0080": 5})
		g.Stores, g.Audit = m.Stores(), m.Audit
	}
	return g
}

func TestOrdersInMemorySurviveAFailureAtAnyStep(t *testing.T) {
	shoptest.SurviveConduct(t, ground())
}

func TestOrdersInMemorySurviveAStorm(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { shoptest.StormConduct(t, ground(), seed) })
	}
}
