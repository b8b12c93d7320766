package verdict

import (
	"time"

	"meshsim.dev/meshsim/results"
)

// countOf is the figure of a budget on a number that was counted.
func countOf(unit string, n, limit int64) *results.Figure {
	return &results.Figure{Unit: unit, Value: float64(n), Limit: float64(limit)}
}

// countedOf is the figure of a budget on how many of what was seen are bad.
func countedOf(unit string, bad, of, limit int64) *results.Figure {
	f := countOf(unit, bad, limit)
	f.Bad, f.Of = bad, of
	return f
}

// enough is the figure of a budget on a number that must be reached.
func enough(unit string, n, needed int64) *results.Figure {
	f := countOf(unit, n, needed)
	f.AtLeast = true
	return f
}

// lasted is the figure of a budget on a time in seconds.
func lasted(took, limit time.Duration) *results.Figure {
	return &results.Figure{Unit: "s", Value: took.Seconds(), Limit: limit.Seconds()}
}

// aged is the same in days.
func aged(age, limit time.Duration) *results.Figure {
	const day = 24.0
	return &results.Figure{Unit: "days", Value: age.Hours() / day, Limit: limit.Hours() / day}
}

// reached is the figure of a budget on a share of what was counted.
func reached(part, whole int64, limit float64) *results.Figure {
	return &results.Figure{Unit: "ratio", Value: float64(part) / float64(max(whole, 1)), Limit: limit, AtLeast: true}
}

// served is the figure of availability: the share that was served, and what it
// is at least.
func served(failed, n int64, atLeast, limit float64) *results.Figure {
	f := reached(n-failed, n, limit)
	f.Low = &atLeast
	f.Bad, f.Of = failed, n
	return f
}

// within is the figure of a share that may not be larger, between what it is at
// least and at most.
func within(part, whole int64, floor, ceiling, limit float64) *results.Figure {
	return &results.Figure{Unit: "ratio", Value: float64(part) / float64(max(whole, 1)), Low: &floor, High: &ceiling, Limit: limit, Bad: part, Of: whole}
}

// waitedFor is the figure of a percentile. Without an upper end, as with too
// few requests, there is none.
func waitedFor(value, lo, hi time.Duration, bounded bool, limit time.Duration) *results.Figure {
	f := &results.Figure{Unit: "ms", Value: ms(value), Limit: ms(limit)}
	low := ms(lo)
	f.Low = &low
	if bounded {
		high := ms(hi)
		f.High = &high
	}
	return f
}

// figure is a difference as one.
func (d difference) figure(limit float64) *results.Figure {
	return &results.Figure{Unit: "ms", Value: d.value, Low: &d.lo, High: &d.hi, Limit: limit}
}
