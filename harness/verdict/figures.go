package verdict

import (
	"time"

	"meshsim.dev/meshsim/results"
)

// countOf is the figure of a budget on a number that was counted.
func countOf(unit string, n, limit int64) *results.Figure {
	return &results.Figure{Unit: unit, Value: float64(n), Limit: float64(limit)}
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
	return f
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
