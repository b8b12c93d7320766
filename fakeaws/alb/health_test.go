package alb

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthChangesAfterEnoughResultsInARow(t *testing.T) {
	spec := checkSpec{HealthyAt: 2, UnhealthyAt: 2}
	for _, c := range []struct {
		name    string
		from    health
		results string // + success, - failure
		want    health
	}{
		{"a new target needs one success", initial, "+", healthy},
		{"one failure leaves a new target new", initial, "-", initial},
		{"two failures make a new target unhealthy", initial, "--", unhealthy},
		{"a success between failures starts the count again", healthy, "-+-", healthy},
		{"two failures in a row make it unhealthy", healthy, "+--", unhealthy},
		{"one success is not enough to come back", unhealthy, "+", unhealthy},
		{"two successes are", unhealthy, "++", healthy},
		{"a failure between successes starts the count again", unhealthy, "+-+", unhealthy},
	} {
		t.Run(c.name, func(t *testing.T) {
			var count tally
			is := c.from
			for _, r := range c.results {
				is = count.note(r == '+', is, spec)
			}
			require.Equal(t, c.want.String(), is.String())
		})
	}
}

func TestHealthyTargetsTakeTurns(t *testing.T) {
	g := newGroup(groupSpec{NodePort: 80})
	require.Nil(t, g.pick())
	targets := []*target{}
	for _, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		targets = append(targets, newTarget(node{ip, ip}, 80))
	}
	g.targets.Store(&targets)
	count := func(n int) map[string]int {
		out := map[string]int{}
		for range n {
			out[g.pick().node.Name]++
		}
		return out
	}

	require.Equal(t, map[string]int{"10.0.0.1": 2, "10.0.0.2": 2, "10.0.0.3": 2}, count(6), "nobody healthy: it fails open")
	targets[0].state.Store(int32(healthy))
	targets[2].state.Store(int32(healthy))
	require.Zero(t, count(6)["10.0.0.2"])
	targets[1].state.Store(int32(healthy))
	require.Equal(t, map[string]int{"10.0.0.1": 3, "10.0.0.2": 3, "10.0.0.3": 3}, count(9))
}

func BenchmarkPick(b *testing.B) {
	g := newGroup(groupSpec{})
	targets := make([]*target, 6)
	for i := range targets {
		targets[i] = newTarget(node{}, 1)
		targets[i].state.Store(int32(healthy))
	}
	g.targets.Store(&targets)
	b.ReportAllocs()
	for b.Loop() {
		g.pick()
	}
}
