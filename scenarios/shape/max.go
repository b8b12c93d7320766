package shape

import (
	"slices"
	"time"
)

// Max returns at every instant the highest of all shapes.
func Max(all ...Shape) Shape { return highest(all) }

type highest []Shape

func (h highest) Rate(at time.Duration) float64 { return h[h.leader(at)].Rate(at) }

// leader returns which shape is highest at an instant, the first of equals.
func (h highest) leader(at time.Duration) int {
	best, most := 0, h[0].Rate(at)
	for i, one := range h[1:] {
		if rate := one.Rate(at); rate > most {
			best, most = i+1, rate
		}
	}
	return best
}

// looks is how many times a stretch without bends is looked at for a change of
// the leader. Two smooth lines that cross twice between two looks are so close
// to each other there that it makes no odds.
const looks = 32

// Count adds up what the leaders of each stretch count, so it is as exact as
// they are: for the first stretchesOfBends × mostBends bends.
func (h highest) Count(from, to time.Duration) float64 {
	if to <= from {
		return 0
	}
	total := 0.0
	for range stretchesOfBends {
		bends := together(h, from, to)
		for _, bend := range bends {
			total += h.smooth(from, bend)
			from = bend
		}
		if len(bends) < mostBends {
			break
		}
	}
	return total + h.smooth(from, to)
}

const stretchesOfBends = 10

// smooth counts a stretch without bends.
func (h highest) smooth(from, to time.Duration) float64 {
	if to-from <= looks {
		return h.Rate(from) * (to - from).Seconds()
	}
	total := 0.0
	begin := from
	for i := range looks {
		end := from + time.Duration(float64(to-from)*float64(i+1)/looks)
		if i == looks-1 {
			end = to
		}
		total += h.count(begin, end)
		begin = end
	}
	return total
}

// count counts a stretch in which each pair of shapes crosses at most once.
func (h highest) count(from, to time.Duration) float64 {
	total := 0.0
	for from < to {
		leader := h.leader(from)
		end := to
		// the instant before the end: a jump at the end belongs to what follows
		if h.leader(to-1) != leader {
			end = h.change(leader, from, to-1)
		}
		total += h[leader].Count(from, end)
		from = end
	}
	return total
}

// change returns the first instant after from at which another shape leads.
func (h highest) change(leader int, from, to time.Duration) time.Duration {
	for to-from > 1 {
		middle := from + (to-from)/2
		if h.leader(middle) == leader {
			from = middle
		} else {
			to = middle
		}
	}
	return to
}

func (h highest) Bound() float64 {
	bound := 0.0
	for _, one := range h {
		bound = max(bound, one.Bound())
	}
	return bound
}

// Mean is over a common period where there is one, else over so long that it
// hardly matters.
func (h highest) Mean() float64 {
	from := h.Settled()
	if p := h.period(); p > 0 {
		return h.Count(from, from+p) / p.Seconds()
	}
	return h.Rate(from)
}

func (h highest) Settled() time.Duration { return settled(h) }
func (h highest) period() time.Duration  { return common(h) }
func (h highest) String() string         { return "the highest of " + words(h) }

// bends are those of the shapes and the changes of the leader.
func (h highest) bends(from, to time.Duration) []time.Duration {
	all := together(h, from, to)
	var changes []time.Duration
	begin := from
	for _, end := range append(slices.Clone(all), to) {
		for i := range looks {
			a := begin + time.Duration(float64(end-begin)*float64(i)/looks)
			b := begin + time.Duration(float64(end-begin)*float64(i+1)/looks)
			if leader := h.leader(a); a < b && h.leader(b-1) != leader {
				changes = append(changes, h.change(leader, a, b-1))
			}
		}
		begin = end
	}
	all = append(all, changes...)
	slices.Sort(all)
	all = slices.Compact(all)
	return all[:min(len(all), mostBends)]
}
