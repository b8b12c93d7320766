package shape

import (
	"fmt"
	"time"
)

// Recorded returns the rate of traffic that was counted: counts of requests in
// parts of one length, of which the last is what is left of lasts. It is steady
// within a part, and begins again when it is over.
func Recorded(counts []int64, part, lasts time.Duration) Shape {
	r := recorded{part: part, lasts: lasts, before: make([]float64, len(counts)+1)}
	for i, n := range counts {
		r.before[i+1] = r.before[i] + float64(max(0, n))
	}
	for i := range counts {
		r.bound = max(r.bound, r.rate(i))
	}
	return r
}

type recorded struct {
	part, lasts time.Duration
	before      []float64 // requests before each part, and at last all of them
	bound       float64
}

// place returns the part that an instant falls in, how much of it is over, and
// which time round it is.
func (r recorded) place(at time.Duration) (part int, over time.Duration, round float64) {
	n := at / r.lasts
	if at -= n * r.lasts; at < 0 {
		at, n = at+r.lasts, n-1
	}
	part = min(int(at/r.part), len(r.before)-2)
	return part, at - time.Duration(part)*r.part, float64(n)
}

// long is how long a part lasts.
func (r recorded) long(part int) time.Duration {
	if last := len(r.before) - 2; part == last {
		return r.lasts - time.Duration(last)*r.part
	}
	return r.part
}

func (r recorded) rate(part int) float64 {
	return (r.before[part+1] - r.before[part]) / r.long(part).Seconds()
}

func (r recorded) Rate(at time.Duration) float64 {
	part, _, _ := r.place(at)
	return r.rate(part)
}

func (r recorded) Count(from, to time.Duration) float64 {
	if to <= from {
		return 0
	}
	first, since, round := r.place(from)
	last, until, later := r.place(to)
	upTo := func(part int, over time.Duration) float64 {
		return r.before[part] + over.Seconds()*r.rate(part)
	}
	return max(0, (later-round)*r.all()+upTo(last, until)-upTo(first, since))
}

func (r recorded) all() float64           { return r.before[len(r.before)-1] }
func (r recorded) Bound() float64         { return r.bound }
func (r recorded) Mean() float64          { return r.all() / r.lasts.Seconds() }
func (r recorded) Settled() time.Duration { return 0 }
func (r recorded) period() time.Duration  { return r.lasts }

func (r recorded) String() string {
	return fmt.Sprintf("recorded, %.0f requests in %s", r.all(), r.lasts.Round(time.Millisecond))
}

func (r recorded) bends(from, to time.Duration) []time.Duration {
	b := bendList{from: from, to: to}
	for begin := from/r.lasts*r.lasts - r.lasts; ; begin += r.lasts {
		for part := range len(r.before) - 1 {
			if !b.add(begin + time.Duration(part)*r.part) {
				return b.all
			}
		}
	}
}
