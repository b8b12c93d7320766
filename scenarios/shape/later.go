package shape

import (
	"fmt"
	"slices"
	"time"
)

// Later returns the rate of what a shape brings about with some delay: each of
// the delays (0 or more) for an equal share of it. Before 0 there was nothing
// to bring anything about.
func Later(s Shape, delays []time.Duration) Shape {
	l := later{cause: s, delays: slices.Sorted(slices.Values(delays))}
	var sum time.Duration
	for _, d := range l.delays {
		sum += d / time.Duration(len(l.delays))
	}
	l.words = fmt.Sprintf("%s, later by %s on average", s, sum.Round(10*time.Millisecond))
	return l
}

type later struct {
	cause  Shape
	delays []time.Duration // ascending
	words  string
}

func (l later) Rate(at time.Duration) float64 {
	total := 0.0
	for _, d := range l.delays {
		if at < d {
			break
		}
		total += l.cause.Rate(at - d)
	}
	return total / float64(len(l.delays))
}

func (l later) Count(from, to time.Duration) float64 {
	total := 0.0
	for _, d := range l.delays {
		if to <= d {
			break
		}
		total += l.cause.Count(max(0, from-d), to-d)
	}
	return total / float64(len(l.delays))
}

func (l later) Bound() float64         { return l.cause.Bound() }
func (l later) Mean() float64          { return l.cause.Mean() }
func (l later) Settled() time.Duration { return l.cause.Settled() + l.delays[len(l.delays)-1] }
func (l later) period() time.Duration  { return l.cause.period() }
func (l later) String() string         { return l.words }
func (l later) bends(from, to time.Duration) []time.Duration {
	var all []time.Duration
	for _, d := range l.delays {
		if from < d && d < to {
			all = append(all, d)
		}
		for _, b := range l.cause.bends(max(from-d, -1), to-d) {
			if b >= 0 && from < b+d {
				all = append(all, b+d)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), mostBends)]
}
