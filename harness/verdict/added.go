package verdict

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// addedLatency judges every measurement of the twins by itself: different
// payloads are different distributions.
func (e *evaluation) addedLatency(b budget.Budget) []finding {
	var all []finding
	other := "" // the phase of one that measured something else
	measured := false
	for _, p := range e.probes {
		if p.Probe != results.ProbeAddedLatency {
			continue
		}
		seen, why := decode[results.AddedLatency](p)
		switch {
		case why != "":
			all = append(all, missing(p.Phase, "%s", why))
		case seen.PerHop != (b.Per == "hop"):
			other, measured = p.Phase, true
		default:
			f := judgeAdded(b, p.Phase, seen.Samples, e.run.Seed, resamples)
			if lacks := seen.Planned - len(seen.Samples.Meshed); lacks > 0 {
				f.verdict = results.Inconclusive
				f.measured += fmt.Sprintf("; %s of the %s triples planned are missing", count(int64(lacks)), count(int64(seen.Planned)))
			}
			if seen.Lost > 0 {
				f.measured += fmt.Sprintf("; %s had no whole answer and were measured again", plural(int64(seen.Lost), "triple", "triples"))
				if share := float64(seen.Lost) / float64(seen.Lost+len(seen.Samples.Meshed)); share >= (1-b.Quantile)/2 {
					f.verdict = results.Inconclusive
					f.measured += ", so many that they could be what lies beyond the percentile"
				}
			}
			if seen.Agent != "" {
				f.measured = seen.Agent + ": " + f.measured
			}
			all = append(all, f)
		}
	}
	switch {
	case len(all) > 0:
	case measured:
		all = append(all, missing(other, "it was not measured per %s", b.Per))
	default:
		all = append(all, missing("", "probe %s has left no observation", results.ProbeAddedLatency))
	}
	return all
}

// judgeAdded compares a percentile of the meshed twin with the plain one's.
func judgeAdded(b budget.Budget, phase string, s results.AddedLatencySample, seed uint64, resamples int) finding {
	n := len(s.Plain)
	if n == 0 || len(s.Meshed) != n || len(s.PlainAgain) != n {
		return missing(phase, "%d plain, %d meshed and %d second plain samples are no triples", n, len(s.Meshed), len(s.PlainAgain))
	}
	if slices.Min(slices.Concat(s.Plain, s.Meshed, s.PlainAgain)) < 0 {
		return missing(phase, "a sample is below zero")
	}
	if needed := budget.TriplesNeeded(b.Quantile); n < needed {
		return missing(phase, "%s triples, %s needs %s", count(int64(n)), quantileName(b.Quantile), count(int64(needed)))
	}
	added := bootstrap(s.Plain, s.Meshed, b.Quantile, seed, resamples)
	same := bootstrap(s.Plain, s.PlainAgain, b.Quantile, seed+1, resamples)
	return judgeDifference(b, phase, n, added, same)
}

// judgeDifference holds what the mesh added over n triples against the budget,
// and what nothing added.
func judgeDifference(b budget.Budget, phase string, n int, added, same difference) finding {
	limit := ms(b.Duration)
	f := finding{phase: phase, verdict: results.Inconclusive, measured: fmt.Sprintf("%s %s over %s triples; plain against plain %s",
		quantileName(b.Quantile), added, count(int64(n)), same)}
	f.figure = added.figure(limit)
	atMost := b.Op == budget.AtMost
	switch spread := max(math.Abs(same.lo), math.Abs(same.hi)); {
	case spread >= limit:
		f.measured += "; this noise alone is no less than the budget"
	case added.hi < limit || (added.hi == limit && atMost):
		f.verdict = results.Pass
	case added.lo > limit || (added.lo == limit && !atMost):
		f.verdict = results.Fail
	default:
		f.measured += "; the interval reaches over the budget"
	}
	return f
}

// difference is a difference of two percentiles with its 95 % interval, in
// milliseconds.
type difference struct{ value, lo, hi float64 }

func (d difference) String() string {
	return fmt.Sprintf("%s ms (95 %%: %s to %s ms)", signed(d.value), signed(d.lo), signed(d.hi))
}

func signed(v float64) string {
	if v >= 0 {
		return "+" + millis(v)
	}
	return "−" + millis(-v)
}

// resamples is how many lists each interval is read from.
const resamples = 2000

// bootstrap returns Q(b) − Q(a) and its percentile interval over resampled
// blocks of pairs. Index i of both lists was measured at the same time, so pairs
// are drawn, not single samples; neighbours may be alike, so they are drawn
// together, as many as are. The same seed gives the same interval.
func bootstrap(a, b []float64, q float64, seed uint64, resamples int) difference {
	n := len(a)
	rank := nearestRank(int64(n), q)
	orderA, orderB := ascending(a), ascending(b)
	atA, atB := a[orderA[rank-1]], b[orderB[rank-1]]
	together := blockLength(a, b, atA, atB)
	draw := rand.New(rand.NewPCG(seed, 0x6d657368))
	times := make([]uint16, n) // how often each pair was drawn
	all := make([]float64, resamples)
	for i := range all {
		clear(times)
		for left := n; left > 0; {
			at := draw.IntN(n)
			for range min(together, left) {
				times[at]++
				if at++; at == n {
					at = 0 // the list's end is next to its begin
				}
			}
			left -= together
		}
		all[i] = drawn(b, orderB, times, rank) - drawn(a, orderA, times, rank)
	}
	slices.Sort(all)
	tail := (1 - confidence) / 2
	return difference{
		value: atB - atA,
		lo:    all[nearestRank(int64(resamples), tail)-1],
		hi:    all[nearestRank(int64(resamples), 1-tail)-1],
	}
}

// ascending returns the indices of v by ascending value.
func ascending(v []float64) []int32 {
	order := make([]int32, len(v))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(i, j int32) int {
		switch {
		case v[i] < v[j]:
			return -1
		case v[i] > v[j]:
			return 1
		}
		return int(i - j)
	})
	return order
}

// drawn returns the value of the given rank among v where element i counts
// times[i] times. It walks from the nearer end.
func drawn(v []float64, order []int32, times []uint16, rank int64) float64 {
	n := int64(len(v))
	if rank > n/2 {
		above := n - rank // elements that lie above the one sought
		for i := len(order) - 1; i >= 0; i-- {
			if above -= int64(times[order[i]]); above < 0 {
				return v[order[i]]
			}
		}
	}
	below := rank
	for _, i := range order {
		if below -= int64(times[i]); below <= 0 {
			return v[i]
		}
	}
	return v[order[len(order)-1]]
}
