package shape

import (
	"fmt"
	"slices"
	"time"
)

// Constant returns a steady rate.
func Constant(rate float64) Shape {
	return newLine(fmt.Sprintf("constant %s", Per(rate)), knot{0, rate})
}

// Ramp returns a rate that goes evenly from one to another, and stays there.
func Ramp(from, to float64, over time.Duration) Shape {
	return newLine(fmt.Sprintf("ramp from %s to %s over %s", Per(from), Per(to), over), knot{0, from}, knot{over, to})
}

// Step returns a rate that jumps from one to another at an instant.
func Step(from, to float64, at time.Duration) Shape {
	return newLine(fmt.Sprintf("step from %s to %s at %s", Per(from), Per(to), at), knot{0, from}, knot{at, from}, knot{at, to})
}

// Peak is when a spike comes and how long its parts last.
type Peak struct {
	At               time.Duration // when it begins to rise
	Rise, Hold, Fall time.Duration
	Every            time.Duration // it comes again so often; 0 for once
}

// Spike returns a steady base with a peak in it. Every must be no shorter than
// the peak's parts together, or 0.
func Spike(base, peak float64, p Peak) Shape {
	words := fmt.Sprintf("spike from %s to %s at %s for %s", Per(base), Per(peak), p.At, p.Rise+p.Hold+p.Fall)
	top := p.At + p.Rise
	l := newLine(words, knot{0, base}, knot{p.At, base}, knot{top, peak}, knot{top + p.Hold, peak}, knot{top + p.Hold + p.Fall, base})
	if p.Every > 0 {
		l.again, l.every = p.At, p.Every
		l.words += fmt.Sprintf(", every %s", p.Every)
	}
	return l
}

// Per writes a rate for people.
func Per(rate float64) string { return fmt.Sprintf("%.4g/s", rate) }

// knot is where a line turns; two at one instant are a jump.
type knot struct {
	at   time.Duration
	rate float64
}

// line goes straight from knot to knot and stays at the last one's rate, or
// begins again from an instant on.
type line struct {
	words  string
	knots  []knot
	before []float64 // requests before each knot
	again  time.Duration
	every  time.Duration // 0: never again
}

func newLine(words string, knots ...knot) line {
	l := line{words: words, knots: knots, before: make([]float64, len(knots))}
	for i := range knots {
		knots[i].rate = max(0, knots[i].rate)
		if i > 0 {
			l.before[i] = l.before[i-1] + (knots[i].at-knots[i-1].at).Seconds()*(knots[i].rate+knots[i-1].rate)/2
		}
	}
	return l
}

// fold brings an instant back to where the line is drawn, and says how often it
// has come round since.
func (l line) fold(at time.Duration) (time.Duration, float64) {
	at = max(at, 0)
	if l.every == 0 || at < l.again {
		return at, 0
	}
	since := at - l.again
	return l.again + since%l.every, float64(since / l.every)
}

// last returns the index of the last knot that is not after an instant.
func (l line) last(at time.Duration) int {
	i, _ := slices.BinarySearchFunc(l.knots, at, func(k knot, at time.Duration) int {
		if k.at <= at {
			return -1
		}
		return 1
	})
	return max(i-1, 0)
}

func (l line) Rate(at time.Duration) float64 {
	at, _ = l.fold(at)
	i := l.last(at)
	k := l.knots[i]
	if i+1 == len(l.knots) {
		return k.rate
	}
	next := l.knots[i+1]
	return k.rate + (next.rate-k.rate)*(at-k.at).Seconds()/(next.at-k.at).Seconds()
}

// upTo is the requests before an instant of the drawn line.
func (l line) upTo(at time.Duration) float64 {
	i := l.last(at)
	return l.before[i] + (at-l.knots[i].at).Seconds()*(l.knots[i].rate+l.Rate(at))/2
}

func (l line) Count(from, to time.Duration) float64 {
	from = max(from, 0)
	if to <= from {
		return 0
	}
	if l.every == 0 {
		return l.upTo(to) - l.upTo(from)
	}
	first, before := l.fold(from)
	last, rounds := l.fold(to)
	return max(0, l.upTo(last)-l.upTo(first)+(rounds-before)*l.round())
}

// round is the requests of one time round.
func (l line) round() float64 {
	end := l.again + l.every
	i := len(l.knots) - 1
	return l.before[i] + (end-l.knots[i].at).Seconds()*l.knots[i].rate - l.upTo(l.again)
}

func (l line) Bound() float64 {
	bound := 0.0
	for _, k := range l.knots {
		bound = max(bound, k.rate)
	}
	return bound
}

func (l line) Settled() time.Duration {
	if l.every > 0 {
		return l.again
	}
	return l.knots[len(l.knots)-1].at
}

func (l line) Mean() float64 {
	if l.every > 0 {
		return l.round() / l.every.Seconds()
	}
	return l.knots[len(l.knots)-1].rate
}

func (l line) String() string        { return l.words }
func (l line) period() time.Duration { return l.every }

func (l line) bends(from, to time.Duration) []time.Duration {
	b := bendList{from: from, to: to}
	for _, k := range l.knots {
		if !b.add(k.at) {
			return b.all
		}
	}
	if l.every == 0 {
		return b.all
	}
	for round := max(1, (from-l.again)/l.every); ; round++ {
		for _, k := range l.knots {
			if k.at >= l.again && !b.add(k.at+round*l.every) {
				return b.all
			}
		}
	}
}
