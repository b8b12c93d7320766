package verdict

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
)

// score counts how attribution did against the truth.
type score struct {
	all, right, certain, wrong int
	as                         map[string]int // answers that were not right
}

func (s score) share() float64 { return float64(s.right) / float64(max(s.all, 1)) }

// scored judges every failure of a troubled run by itself. An answer is right
// when it names the trouble, and the service where the trouble is a service's;
// it is a wrong certainty when it names something else.
func scored(t *testing.T, run synthetic.TroubledRun, by map[string]*score) (all score) {
	t.Helper()
	a := newAttribution(run.Run, nil, run.Events, run.Probes)
	edges := newEdges()
	served := run.Served
	learn := func(until int64) { // requests stand in the order in which they were done
		for len(served) > 0 && served[0].Done <= until {
			a.learn(&served[0], edges.readWay(&served[0]))
			served = served[1:]
		}
	}
	blamed := make([]blame, len(run.Failures))
	for i := range run.Failures {
		r := &run.Failures[i].Request
		learn(r.Done)
		told := edges.readWay(r)
		a.learn(r, told)
		blamed[i] = a.blame(r, told)
	}
	learn(math.MaxInt64)
	for i, f := range run.Failures {
		b := a.answer(blamed[i])
		right := b.kind == f.Trouble && (f.Service == "" || slices.Contains(b.services, f.Service))
		s := by[f.Trouble]
		if s == nil {
			s = &score{as: map[string]int{}}
			by[f.Trouble] = s
		}
		if !right {
			s.as[b.kind]++
		}
		for _, s := range []*score{s, &all} {
			s.all++
			if b.kind != causeUnknown {
				s.certain++
			}
			if right {
				s.right++
			} else if b.kind != causeUnknown {
				s.wrong++
			}
		}
	}
	return all
}

func TestCausesOfKnownTroublesAreFoundAndNoneIsMadeUp(t *testing.T) {
	by := map[string]*score{}
	var all score
	for seed := range uint64(100) {
		got := scored(t, synthetic.Trouble(synthetic.TroubleOptions{Seed: seed, Drain: seed%2 == 0}), by)
		all.all += got.all
		all.right += got.right
		all.certain += got.certain
		all.wrong += got.wrong
	}
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		s := by[kind]
		t.Logf("%-12s %6d failures, %.2f %% right, %d wrong and certain: %v", kind, s.all, 100*s.share(), s.wrong, s.as)
	}
	t.Logf("%-12s %6d failures, %.2f %% right, %.3f %% of the certain ones wrong", "all", all.all, 100*all.share(), 100*float64(all.wrong)/float64(all.certain))
	require.GreaterOrEqual(t, all.all, 20_000, "enough failures to judge by")
	require.GreaterOrEqual(t, all.share(), 0.95)
	require.LessOrEqual(t, float64(all.wrong)/float64(all.certain), 0.002, "wrong answers that were certain")
	for _, kind := range synthetic.Kinds() {
		require.NotNil(t, by[kind], kind)
		require.GreaterOrEqual(t, by[kind].share(), 0.95, "%s: %+v", kind, *by[kind])
	}
	require.GreaterOrEqual(t, by[synthetic.Unknown].share(), 0.95, "what failed of itself is not blamed on what happened to be near")
}

// runsOf is the seeds of so many runs, of fewer under the race detector.
func runsOf(n uint64) uint64 {
	if raced {
		return n / 4
	}
	return n
}

func TestOneTroubleAtATimeIsNearlyAlwaysFound(t *testing.T) {
	var all score
	for _, kind := range synthetic.Kinds() {
		t.Run(kind, func(t *testing.T) {
			by := map[string]*score{}
			for seed := range runsOf(16) {
				scored(t, synthetic.Trouble(synthetic.TroubleOptions{Seed: 100 + seed, Troubles: []string{kind}, Drain: seed%2 == 0}), by)
			}
			require.Positive(t, by[kind].all)
			require.GreaterOrEqual(t, by[kind].share(), 0.95, "%+v", *by[kind])
			all.certain += by[kind].certain
			all.wrong += by[kind].wrong
		})
	}
	require.LessOrEqual(t, float64(all.wrong), 0.002*float64(all.certain), "wrong answers that were certain")
}

func TestWhatOnlyCoincidesIsNotBlamed(t *testing.T) {
	by := map[string]*score{}
	var all score
	for seed := range runsOf(40) {
		got := scored(t, synthetic.Trouble(synthetic.TroubleOptions{
			Seed: 200 + seed, Every: 24 * time.Hour, Innocent: 8 * time.Second, Strange: 0.002, Drain: true,
		}), by)
		all.all += got.all
		all.wrong += got.wrong
	}
	t.Logf("%d failures of themselves, %d blamed on something", all.all, all.wrong)
	require.Positive(t, all.all)
	require.LessOrEqual(t, float64(all.wrong), 0.02*float64(all.all))
}

// Twice the requests and twice the events take about twice as long: what is
// looked at grows with them, not with their product.
func TestAttributionLooksAtFewEventsForEachRequest(t *testing.T) {
	looked := func(events int) (most int) {
		var spans []span
		for i := range events {
			at := int64(i) * int64(time.Second)
			spans = append(spans, span{from: at, to: at + int64(podWindow), newUntil: at + int64(podWindow), at: at, state: results.StateTerminating})
		}
		x := newSpanIndex(spans)
		for i := range events {
			n := 0
			done := int64(i) * int64(time.Second)
			x.during(done, done, func(span) { n++ })
			most = max(most, n)
		}
		return most
	}
	require.Equal(t, looked(1000), looked(100_000))
	require.LessOrEqual(t, looked(100_000), 22)
}

func BenchmarkAttribution(b *testing.B) {
	for _, events := range []time.Duration{15 * time.Second, 150 * time.Millisecond} {
		run := synthetic.Trouble(synthetic.TroubleOptions{Seed: 1, Strange: 0.5, Innocent: events})
		b.Run(fmt.Sprintf("%d events", len(run.Events)), func(b *testing.B) {
			a := newAttribution(run.Run, nil, run.Events, run.Probes)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r := &run.Failures[i%len(run.Failures)].Request
				a.add(r, newEdges().readWay(r))
			}
		})
	}
}
