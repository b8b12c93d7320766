package verdict

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// twins makes n triples of exponential latencies around 1 ms; the meshed twin
// is slower by added, the second plain one by drift.
func twins(n int, added, drift float64, seed uint64) results.AddedLatency {
	draw := rand.New(rand.NewPCG(seed, 9))
	data := results.AddedLatency{PayloadBytes: 512, PerHop: true}
	for range n {
		one := func() float64 { return 0.5 + draw.ExpFloat64()*0.5 }
		data.Samples.Plain = append(data.Samples.Plain, one())
		data.Samples.Meshed = append(data.Samples.Meshed, one()+added)
		data.Samples.PlainAgain = append(data.Samples.PlainAgain, one()+drift)
	}
	return data
}

func TestAddedLatency(t *testing.T) {
	uneven, negative, perRequest := twins(1000, 1, 0, 1), twins(1000, 1, 0, 1), twins(1000, 1, 0, 1)
	uneven.Samples.Meshed = uneven.Samples.Meshed[1:]
	negative.Samples.Plain[7] = -1
	perRequest.PerHop = false
	for name, c := range map[string]struct {
		budget  string
		data    any
		verdict results.Judgement
		says    string
	}{
		"an interval under the budget passes": {
			"added latency p99 < 10ms per hop", twins(2000, 2, 0, 1), results.Pass, "p99 +"},
		"an interval over the budget fails": {
			"added latency p50 < 1ms per hop", twins(2000, 2, 0, 1), results.Fail, "p50 +1.99 ms (95 %: +1.96 to +2.02 ms) over 2,000 triples; plain against plain −0.02 ms ("},
		"an interval around the budget is inconclusive": {
			"added latency p50 < 2ms per hop", twins(2000, 2, 0, 1), results.Inconclusive, "the interval reaches over the budget"},
		"no verdict where plain differs from plain by as much as the budget": {
			"added latency p50 < 1ms per hop", twins(2000, 0.1, 1.2, 1), results.Inconclusive, "this noise alone is no less than the budget"},
		"not even a fail": {
			"added latency p50 < 1ms per hop", twins(2000, 5, 1.2, 1), results.Inconclusive, "this noise alone is no less than the budget"},
		"too few triples for the percentile": {
			"added latency p99 < 10ms per hop", twins(999, 1, 0, 1), results.Inconclusive, "999 triples, p99 needs 1,000"},
		"few triples are enough for a median": {
			"added latency p50 < 10ms per hop", twins(100, 1, 0, 1), results.Pass, "over 100 triples"},
		"lists that are no triples": {
			"added latency p50 < 10ms per hop", uneven, results.Inconclusive, "1000 plain, 999 meshed and 1000 second plain samples are no triples"},
		"no samples": {
			"added latency p50 < 10ms per hop", results.AddedLatency{PerHop: true}, results.Inconclusive, "0 plain, 0 meshed and 0 second plain samples are no triples"},
		"a sample below zero": {
			"added latency p50 < 10ms per hop", negative, results.Inconclusive, "a sample is below zero"},
		"a figure per request where per hop was asked": {
			"added latency p50 < 10ms per hop", perRequest, results.Inconclusive, "it was not measured per hop"},
		"data that cannot be read": {
			"added latency p50 < 10ms per hop", map[string]any{"samples": 5}, results.Inconclusive, "what probe added-latency left cannot be read"},
		"no data": {
			"added latency p50 < 10ms per hop", nil, results.Inconclusive, "probe added-latency has left no data"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newQuietStory(c.budget).probe(results.ProbeAddedLatency, c.data).judge(t)
			require.Contains(t, v.Budgets[0].Measured, c.says)
			require.Equal(t, c.verdict, v.Budgets[0].Verdict, v.Budgets[0].Measured)
			require.Equal(t, c.verdict, v.Verdict)
		})
	}
	v := newQuietStory("added latency p50 < 10ms per hop").judge(t)
	require.Equal(t, "probe added-latency has left no observation", v.Budgets[0].Measured)
	require.Equal(t, results.Inconclusive, v.Verdict)
}

func TestEveryMeasurementOfTheTwinsIsJudgedByItself(t *testing.T) {
	v := newQuietStory("added latency p50 < 3ms per hop").
		probe(results.ProbeAddedLatency, twins(500, 1, 0, 1)).probe(results.ProbeAddedLatency, twins(500, 9, 0, 2)).judge(t)
	require.Len(t, v.Budgets, 2)
	require.Equal(t, results.Pass, v.Budgets[0].Verdict)
	require.Equal(t, results.Fail, v.Budgets[1].Verdict)
}

func TestWhatIsMeasuredPerHopAndPerRequestIsToldApart(t *testing.T) {
	pages := twins(500, 4, 0, 1)
	pages.PerHop, pages.Path = false, "GET /api/catalog/products/p-0001"
	v := newQuietStory("added latency p50 < 3ms per hop", "added latency p50 < 3ms per request").
		probe(results.ProbeAddedLatency, twins(500, 1, 0, 1)).probe(results.ProbeAddedLatency, pages).judge(t)
	require.Len(t, v.Budgets, 2)
	require.Equal(t, results.Pass, v.Budgets[0].Verdict)
	require.Equal(t, results.Fail, v.Budgets[1].Verdict)
	require.Contains(t, v.Budgets[1].Measured, "p50 +4.0")
}

func TestLostTriplesMayBeWhatLiesBeyondThePercentile(t *testing.T) {
	pages := twins(1000, 1, 0, 1)
	pages.PerHop, pages.Lost = false, 6
	story := func(budget string) results.BudgetVerdict {
		return newQuietStory(budget).probe(results.ProbeAddedLatency, pages).judge(t).Budgets[0]
	}
	got := story("added latency p90 < 10ms per request")
	require.Equal(t, results.Pass, got.Verdict)
	require.Contains(t, got.Measured, "6 triples had no whole answer and were measured again")
	got = story("added latency p99 < 10ms per request")
	require.Equal(t, results.Inconclusive, got.Verdict)
	require.Contains(t, got.Measured, "so many that they could be what lies beyond the percentile")
}

func TestABootstrapIsRepeatableAndHoldsTheDifference(t *testing.T) {
	s := twins(2000, 3, 0, 5).Samples
	first := bootstrap(s.Plain, s.Meshed, 0.5, 7, resamples)
	require.Equal(t, first, bootstrap(s.Plain, s.Meshed, 0.5, 7, resamples))
	require.InDelta(t, 3, first.value, 0.1)
	require.Less(t, first.lo, first.value)
	require.Greater(t, first.hi, first.value)
	require.Less(t, first.hi-first.lo, 0.2)
	same := bootstrap(s.Plain, s.Plain, 0.99, 7, resamples)
	require.Equal(t, difference{}, same, "a twin does not differ from itself, whatever is drawn")
}

func TestADrawnRankIsThatOfTheRepeatedList(t *testing.T) {
	v := []float64{30, 10, 20}
	order := ascending(v)
	require.Equal(t, []int32{1, 2, 0}, order)
	times := []uint16{1, 0, 2} // 20 20 30
	for rank, want := range map[int64]float64{1: 20, 2: 20, 3: 30} {
		require.Equal(t, want, drawn(v, order, times, rank), "rank %d", rank)
	}
}

// TestWrongVerdictsOnAddedLatencyAreRare relies on it.
func TestWhatIsAddedToEverySampleIsAddedToTheInterval(t *testing.T) {
	s := twins(500, 0, 0, 3).Samples
	plain := bootstrap(s.Plain, s.Meshed, 0.9, 1, 200)
	for i := range s.Meshed {
		s.Meshed[i] += 2
	}
	longer := bootstrap(s.Plain, s.Meshed, 0.9, 1, 200)
	require.InDelta(t, plain.value+2, longer.value, 1e-9)
	require.InDelta(t, plain.lo+2, longer.lo, 1e-9)
	require.InDelta(t, plain.hi+2, longer.hi, 1e-9)
}
