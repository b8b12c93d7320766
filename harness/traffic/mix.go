package traffic

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Mix is a weighted choice among routes; pick draws from it.
type Mix struct {
	routes []string // in the order of their names, so that a seed means one mix
	upTo   []float64
	total  float64
}

// NewMix returns the choice among the routes of weights that have any weight.
func NewMix(weights map[string]int) (Mix, error) {
	var m Mix
	for route, weight := range weights {
		if weight < 0 {
			return Mix{}, fmt.Errorf("the weight of %s is %d, which is less than nothing", route, weight)
		}
		if weight > 0 {
			m.routes = append(m.routes, route)
		}
	}
	slices.Sort(m.routes)
	for _, route := range m.routes {
		m.total += float64(weights[route])
		m.upTo = append(m.upTo, m.total)
	}
	return m, nil
}

// Total is the sum of the weights.
func (m Mix) Total() float64 { return m.total }

// pick draws a route; "" from an empty mix.
func (m Mix) pick(rng *rand.Rand) string {
	if len(m.routes) == 0 {
		return ""
	}
	at := rng.Float64() * m.total
	i, exact := slices.BinarySearchFunc(m.upTo, at, func(upTo, at float64) int { return cmp.Compare(upTo, at) })
	if exact {
		i++ // upTo is the first value that is no longer the route's
	}
	return m.routes[min(i, len(m.routes)-1)]
}
