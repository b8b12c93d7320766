package shape

import (
	"fmt"
	"strings"
	"time"
)

// Part is one shape of a sequence. Its clock starts when its turn comes.
type Part struct {
	Shape Shape
	Lasts time.Duration // 0: it goes on without end; for the last part only
}

// Sequence returns shapes one after another. It begins again after the last
// one, unless that has no end.
func Sequence(parts ...Part) Shape {
	q := sequence{parts: parts, begins: make([]time.Duration, len(parts)), before: make([]float64, len(parts))}
	for i, p := range parts {
		q.begins[i] = q.lasts
		q.before[i] = q.all
		q.lasts += p.Lasts
		q.all += p.Shape.Count(0, p.Lasts)
	}
	if parts[len(parts)-1].Lasts == 0 {
		q.lasts = 0
	}
	return q
}

type sequence struct {
	parts  []Part
	begins []time.Duration
	before []float64     // requests before each part
	lasts  time.Duration // of all parts, 0 without end
	all    float64       // requests of all parts
}

// place returns the part that an instant falls in, the instant on the part's
// clock, and how often the sequence has been gone through before.
func (q sequence) place(at time.Duration) (part int, since, round time.Duration) {
	at = max(at, 0)
	if q.lasts > 0 {
		round = at / q.lasts
		at %= q.lasts
	}
	part = len(q.parts) - 1
	for part > 0 && q.begins[part] > at {
		part--
	}
	return part, at - q.begins[part], round
}

func (q sequence) Rate(at time.Duration) float64 {
	part, since, _ := q.place(at)
	return q.parts[part].Shape.Rate(since)
}

func (q sequence) Count(from, to time.Duration) float64 {
	from = max(from, 0)
	if to <= from {
		return 0
	}
	first, begin, round := q.place(from)
	last, end, later := q.place(to)
	if first == last && round == later {
		return q.parts[first].Shape.Count(begin, end)
	}
	rest := q.parts[first].Shape.Count(begin, q.parts[first].Lasts)
	next := q.all
	if first+1 < len(q.parts) {
		next = q.before[first+1]
	}
	between := float64(later-round)*q.all + q.before[last] - next
	return rest + max(0, between) + q.parts[last].Shape.Count(0, end)
}

func (q sequence) Bound() float64 {
	bound := 0.0
	for _, p := range q.parts {
		bound = max(bound, p.Shape.Bound())
	}
	return bound
}

func (q sequence) final() (time.Duration, Shape) {
	i := len(q.parts) - 1
	return q.begins[i], q.parts[i].Shape
}

func (q sequence) Settled() time.Duration {
	if q.lasts > 0 {
		return 0
	}
	begins, s := q.final()
	return begins + s.Settled()
}

func (q sequence) Mean() float64 {
	if q.lasts > 0 {
		return q.all / q.lasts.Seconds()
	}
	_, s := q.final()
	return s.Mean()
}

func (q sequence) period() time.Duration {
	if q.lasts > 0 {
		return q.lasts
	}
	_, s := q.final()
	return s.period()
}

func (q sequence) String() string {
	parts := make([]string, len(q.parts))
	for i, p := range q.parts {
		parts[i] = "(" + p.Shape.String() + ")"
		if p.Lasts > 0 {
			parts[i] += fmt.Sprintf(" for %s", p.Lasts)
		}
	}
	return strings.Join(parts, ", then ")
}

func (q sequence) bends(from, to time.Duration) []time.Duration {
	from = max(from, 0)
	b := bendList{from: from, to: to}
	var zero time.Duration
	if q.lasts > 0 {
		zero = from / q.lasts * q.lasts
	}
	for {
		for i, p := range q.parts {
			begins := zero + q.begins[i]
			end := begins + p.Lasts
			if p.Lasts == 0 {
				end = to
			}
			if end <= from {
				continue
			}
			if !b.add(begins) {
				return b.all
			}
			for _, bend := range p.Shape.bends(max(from-begins, 0), min(end, to)-begins) {
				if !b.add(begins + bend) {
					return b.all
				}
			}
		}
		if q.lasts == 0 {
			return b.all
		}
		zero += q.lasts
	}
}
