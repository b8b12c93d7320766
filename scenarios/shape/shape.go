// Package shape says how much traffic there is meant to be, as pure functions
// of time. A shape has a rate at every instant, and the exact integral of that
// rate, so that what is expected can be told and what is drawn does not drift.
//
// Shapes are made by this package's functions and put together by Sum, Max,
// Sequence, Scale and Compress. Their clock starts at 0 and never ends; before
// 0 they are what they are at 0, or on the day before.
package shape

import "time"

// Shape is a rate over time. It never changes once it is made.
type Shape interface {
	// Rate returns the requests a second at an instant, never less than 0.
	Rate(at time.Duration) float64
	// Count returns the requests expected from one instant up to another: the
	// integral of Rate, 0 when to is not after from.
	Count(from, to time.Duration) float64
	// Bound returns a rate that Rate never exceeds.
	Bound() float64
	// Settled returns the instant from which the shape is steady or repeats
	// itself; Mean is the mean rate from there on.
	Settled() time.Duration
	Mean() float64
	// String says the shape in a few words.
	String() string

	// period is how long it takes to repeat itself once it has settled, 0 for
	// one that is steady then.
	period() time.Duration
	// bends returns, in order, the instants between two others at which the
	// rate jumps or turns, the first mostBends of them. Between them it is
	// smooth and turns at most once.
	bends(from, to time.Duration) []time.Duration
}

// Period returns how long a shape takes to repeat itself once it has settled, 0
// for one that is steady then.
func Period(s Shape) time.Duration { return s.period() }

// mostBends is more than a shape has within any rehearsal that is meant. One
// that has more is counted less exactly where it is the highest of several.
const mostBends = 10_000

// bendList gathers the bends between two instants, in order and each once.
type bendList struct {
	from, to time.Duration
	all      []time.Duration
}

// add takes the next bend; false when no more are wanted.
func (b *bendList) add(at time.Duration) bool {
	if b.from < at && at < b.to && (len(b.all) == 0 || b.all[len(b.all)-1] < at) {
		b.all = append(b.all, at)
	}
	return at < b.to && len(b.all) < mostBends
}

// longest is further than any rehearsal goes.
const longest = 10 * 365 * 24 * time.Hour

// After returns the first instant by which n requests are expected since from;
// false when the shape never gets there, or not within ten years.
func After(s Shape, from time.Duration, n float64) (at time.Duration, ok bool) {
	if n <= 0 {
		return from, true
	}
	step := time.Second
	if m := s.Mean(); m > 0 {
		step = min(max(seconds(n/m), time.Millisecond), longest)
	}
	low, left := from, n
	for {
		got := s.Count(low, low+step)
		if got >= left {
			break
		}
		low, left = low+step, left-got
		if low-from > longest {
			return 0, false
		}
		step = min(2*step, longest)
	}
	high := low + step
	for high-low > 1 {
		middle := low + (high-low)/2
		if got := s.Count(low, middle); got >= left {
			high = middle
		} else {
			low, left = middle, left-got
		}
	}
	return high, true
}

// seconds turns seconds into a duration, as long as durations get at most.
func seconds(s float64) time.Duration {
	if s >= longest.Seconds() {
		return longest
	}
	return time.Duration(s * float64(time.Second))
}
