package shape

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// named is a shape under a name of its own.
type named struct {
	Shape
	name string
}

func (n named) String() string { return n.name }

// Named returns the same shape with other words for it.
func Named(s Shape, words string) Shape { return named{s, words} }

// Sum returns all shapes at once.
func Sum(all ...Shape) Shape { return sum(all) }

type sum []Shape

func (s sum) of(f func(Shape) float64) float64 {
	total := 0.0
	for _, one := range s {
		total += f(one)
	}
	return total
}

func (s sum) Rate(at time.Duration) float64 {
	total := 0.0
	for _, one := range s {
		total += one.Rate(at)
	}
	return total
}

func (s sum) Count(from, to time.Duration) float64 {
	return s.of(func(one Shape) float64 { return one.Count(from, to) })
}

func (s sum) Bound() float64                               { return s.of(Shape.Bound) }
func (s sum) Mean() float64                                { return s.of(Shape.Mean) }
func (s sum) Settled() time.Duration                       { return settled(s) }
func (s sum) period() time.Duration                        { return common(s) }
func (s sum) bends(from, to time.Duration) []time.Duration { return together(s, from, to) }
func (s sum) String() string                               { return "sum of " + words(s) }

// Scale returns a shape by times as high; less than nothing is nothing.
func Scale(s Shape, by float64) Shape { return scaled{Shape: s, by: max(0, by)} }

type scaled struct {
	Shape
	by float64
}

func (s scaled) Rate(at time.Duration) float64        { return s.by * s.Shape.Rate(at) }
func (s scaled) Count(from, to time.Duration) float64 { return s.by * s.Shape.Count(from, to) }
func (s scaled) Bound() float64                       { return s.by * s.Shape.Bound() }
func (s scaled) Mean() float64                        { return s.by * s.Shape.Mean() }
func (s scaled) String() string                       { return fmt.Sprintf("%.4g × (%s)", s.by, s.Shape) }

// Compress returns a shape that goes by so many times as fast (by is above 0):
// the same requests in less time.
func Compress(s Shape, by float64) Shape { return compressed{s, by} }

type compressed struct {
	Shape
	by float64
}

// real is the instant of the shape within that an instant without stands for.
func (c compressed) real(at time.Duration) time.Duration { return scaleTime(at, c.by) }

func (c compressed) Rate(at time.Duration) float64 { return c.by * c.Shape.Rate(c.real(at)) }
func (c compressed) Count(from, to time.Duration) float64 {
	return c.Shape.Count(c.real(from), c.real(to))
}
func (c compressed) Bound() float64         { return c.by * c.Shape.Bound() }
func (c compressed) Mean() float64          { return c.by * c.Shape.Mean() }
func (c compressed) Settled() time.Duration { return scaleTime(c.Shape.Settled(), 1/c.by) }
func (c compressed) period() time.Duration  { return scaleTime(c.Shape.period(), 1/c.by) }
func (c compressed) String() string         { return fmt.Sprintf("%s, %.4g times as fast", c.Shape, c.by) }

func (c compressed) bends(from, to time.Duration) []time.Duration {
	all := c.Shape.bends(c.real(from), c.real(to))
	for i := range all {
		all[i] = scaleTime(all[i], 1/c.by)
	}
	return slices.Compact(all)
}

// scaleTime multiplies an instant, and stops where durations do.
func scaleTime(at time.Duration, by float64) time.Duration {
	v := float64(at) * by
	if math.Abs(v) >= math.MaxInt64 {
		return time.Duration(math.Copysign(float64(longest), v))
	}
	return time.Duration(v)
}

// settled is when the last of all has settled.
func settled(all []Shape) time.Duration {
	var last time.Duration
	for _, one := range all {
		last = max(last, one.Settled())
	}
	return last
}

// rounds is how often the longest period goes into a common one at most.
const rounds = 100

// common returns how long it takes all to repeat themselves together: exact
// where their periods fit into each other soon, else far longer than any.
func common(all []Shape) time.Duration {
	var most, least time.Duration // the longest period, and the least common multiple
	for _, one := range all {
		p := one.period()
		switch {
		case p == 0:
			continue
		case least == 0:
			least = p
		case least > 0:
			a, b := least, p
			for b != 0 {
				a, b = b, a%b
			}
			if least/a > longest/p { // it would not fit
				least = -1
			} else {
				least = least / a * p
			}
		}
		most = max(most, p)
	}
	if least < 0 || least > rounds*most {
		return rounds * most
	}
	return least
}

// together returns the bends of all, in order, each once.
func together(all []Shape, from, to time.Duration) []time.Duration {
	var bends []time.Duration
	for _, one := range all {
		bends = append(bends, one.bends(from, to)...)
	}
	slices.Sort(bends)
	bends = slices.Compact(bends)
	return bends[:min(len(bends), mostBends)]
}

func words(all []Shape) string {
	parts := make([]string, len(all))
	for i, one := range all {
		parts[i] = "(" + one.String() + ")"
	}
	return strings.Join(parts, ", ")
}
