package journey

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// buyers look around and some of them order.
func buyers() Set {
	return Set{Longest: 10, Kinds: []Kind{
		{
			Name: "looks", Weight: 3, Think: Think{time.Second, 3 * time.Second}, Start: map[string]int{"browse": 1},
			Steps: map[string]Step{"browse": {Then: map[string]int{"browse": 1, Leave: 1}}},
		},
		{
			Name: "buys", Weight: 1, Think: Think{time.Second, time.Second}, Start: map[string]int{"front": 3, "search": 1},
			Steps: map[string]Step{
				"front":  {Route: "browse", Then: map[string]int{"pay": 1}, Think: &Think{2 * time.Second, 2 * time.Second}},
				"search": {Then: map[string]int{"pay": 1}},
				"pay":    {Route: "order", Then: map[string]int{Leave: 1}},
			},
		},
	}}
}

func walks(c *Chain, n int) [][]Visit {
	all := make([][]Visit, n)
	for i := range all {
		all[i] = c.Walk(rand.New(rand.NewPCG(1, uint64(i))), nil)
	}
	return all
}

func TestAWalkIsItsRandomness(t *testing.T) {
	c, err := New(buyers())
	require.NoError(t, err)
	require.Equal(t, walks(c, 100), walks(c, 100))
	require.Equal(t, buyers(), c.Set())
}

func TestWalksFollowTheChain(t *testing.T) {
	c, err := New(buyers())
	require.NoError(t, err)
	const n = 20_000
	steps, orders, routes := 0, 0, map[string]int{}
	for _, w := range walks(c, n) {
		require.NotEmpty(t, w)
		require.LessOrEqual(t, len(w), 10)
		require.Zero(t, w[0].After, "the first step comes at once")
		steps += len(w)
		for i, v := range w {
			routes[v.Route]++
			if i > 0 {
				require.Greater(t, v.After, w[i-1].After)
			}
		}
		if last := w[len(w)-1]; last.Route == "order" {
			orders++
			require.Len(t, w, 2)
			think := time.Second
			if w[0].Route == "browse" {
				think = 2 * time.Second // its own, not the kind's
			}
			require.InDelta(t, think, last.After, 1000)
		}
	}
	require.InDelta(t, n/4, orders, 300)
	require.InDelta(t, c.Steps(), float64(steps)/n, 0.03)
	for route, want := range c.Routes() {
		require.InDelta(t, want, float64(routes[route])/n, 0.03, route)
	}
	require.InDelta(t, 1./4, c.Routes()["order"], 1e-12)
	require.InDelta(t, 1./16, c.Routes()["search"], 1e-12)
	looks := 2 * (1 - 1./1024) // a geometric number of steps, cut off at ten
	require.InDelta(t, 3./4*looks+2./4, c.Steps(), 1e-12)
}

func TestPausesAreAsLongAsTheyAreSaidToBe(t *testing.T) {
	l, err := newLognormal(Think{2 * time.Second, 8 * time.Second})
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	const n = 50_000
	short, long := 0, 0
	for range n {
		switch d := l.draw(rng); {
		case d <= 2*time.Second:
			short++
		case d > 8*time.Second:
			long++
		}
	}
	require.InDelta(t, n/2, short, 600)
	require.InDelta(t, n/10, long, 400)
}

func TestRequestsComeAfterTheirJourneysBeginning(t *testing.T) {
	c, err := New(buyers())
	require.NoError(t, err)
	d := c.Delays()
	require.IsNonDecreasing(t, d)
	require.Zero(t, d[0])
	require.Equal(t, d, c.Delays())
	var got, want time.Duration
	for _, one := range d {
		got += one / time.Duration(len(d))
	}
	n := 0
	for _, w := range walks(c, 20_000) {
		for _, v := range w {
			want, n = want+v.After, n+1
		}
	}
	require.InDelta(t, want/time.Duration(n), got, float64(150*time.Millisecond))
}

func TestASetThatCannotBeWalkedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Set)
		want string
	}{
		"no steps allowed":      {func(s *Set) { s.Longest = 0 }, "longest should be from 1 to 200 steps"},
		"no kind":               {func(s *Set) { s.Kinds = nil }, "no kind of journey"},
		"no weight":             {func(s *Set) { s.Kinds[0].Weight, s.Kinds[1].Weight = 0, 0 }, "the weights of the kinds: no weight"},
		"less than no weight":   {func(s *Set) { s.Kinds[0].Weight = -1 }, "less than nothing"},
		"an unknown first step": {func(s *Set) { s.Kinds[0].Start = map[string]int{"fly": 1} }, `journey looks: start: there is no step "fly"`},
		"leaving at once":       {func(s *Set) { s.Kinds[0].Start = map[string]int{Leave: 1} }, `there is no step "leave"`},
		"an unknown next step":  {func(s *Set) { s.Kinds[1].Steps["pay"] = Step{Then: map[string]int{"fly": 1}} }, `journey buys: after pay: there is no step "fly"`},
		"no next step":          {func(s *Set) { s.Kinds[1].Steps["pay"] = Step{} }, "after pay: no weight is given to anything"},
		"no pause at all":       {func(s *Set) { s.Kinds[0].Think = Think{} }, "journey looks: think: a median of at least 1ms"},
		"a tail below the middle": {func(s *Set) {
			s.Kinds[1].Steps["front"] = Step{Then: map[string]int{"pay": 1}, Think: &Think{time.Second, time.Millisecond}}
		}, "think after front"},
	} {
		t.Run(name, func(t *testing.T) {
			set := buyers()
			c.edit(&set)
			_, err := New(set)
			require.ErrorContains(t, err, c.want)
		})
	}
}
