package recording

import (
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"meshsim.dev/meshsim/scenarios/shape"
)

// Summary is what a recording holds, without its requests.
type Summary struct {
	From     time.Time // when the first request came; zero when not said
	Requests int64
	Span     time.Duration // from the first request to the last
	Routes   map[string]Route
	part     time.Duration // that one of a route's counts is of
}

// Route is what a recording holds of one route.
type Route struct {
	Requests int64
	Classes  [6]int64 // by the class of their answers
	counts   []int64  // by equal parts of the span
}

// Scan reads a whole recording, and so checks it.
func Scan(path string) (*Summary, error) {
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	s, err := Summarise(r)
	return s, errors.Join(err, r.Close())
}

// Summarise reads a recording to its end.
func Summarise(r *Reader) (*Summary, error) {
	c := counter{part: time.Millisecond, routes: map[string]*Route{}}
	for {
		q, err := r.Next()
		if errors.Is(err, io.EOF) {
			return c.summary(r.From()), nil
		}
		if err != nil {
			return nil, err
		}
		c.add(q)
	}
}

// mostParts is into how many parts a recording is counted at most. Half of it
// is the least that a long one is counted into.
const mostParts = 4096

// counter counts requests into parts. When they become too many, each two
// become one.
type counter struct {
	part     time.Duration
	routes   map[string]*Route
	requests int64
	last     time.Duration
}

func (c *counter) add(q Request) {
	for q.At/c.part >= mostParts {
		c.part *= 2
		for _, r := range c.routes {
			r.counts = halve(r.counts, 2)
		}
	}
	r, ok := c.routes[q.Route]
	if !ok {
		r = &Route{counts: make([]int64, mostParts)}
		c.routes[q.Route] = r
	}
	r.counts[q.At/c.part]++
	r.Requests++
	r.Classes[min(int(q.Class), len(r.Classes)-1)]++
	c.requests++
	c.last = q.At
}

// halve adds up each by neighbours; the length stays.
func halve(counts []int64, by int) []int64 {
	fewer := make([]int64, len(counts))
	for i, n := range counts {
		fewer[i/by] += n
	}
	return fewer
}

// perPart is how many requests a part of a recording's shape has on average at
// least: with fewer, the shape would be of chance.
const perPart = 50

func (c *counter) summary(from time.Time) *Summary {
	s := &Summary{From: from, Requests: c.requests, Span: c.last, Routes: map[string]Route{}}
	used := int(s.Period()/c.part) + 1
	by := 1
	for parts := max(1, min(c.requests/perPart, 1024)); (used+by-1)/by > int(parts); {
		by++
	}
	s.part = c.part * time.Duration(by)
	n := int((s.Period() + s.part - 1) / s.part)
	for name, r := range c.routes {
		counts := halve(r.counts, by)
		r.counts = slices.Clone(counts[:min(n, len(counts))])
		for len(r.counts) < n {
			r.counts = append(r.counts, 0)
		}
		s.Routes[name] = *r
	}
	return s
}

// Period is after how long a recording begins again: what would be a gap like
// the others after its last request.
func (s *Summary) Period() time.Duration {
	gap := time.Duration(0)
	if s.Requests > 1 {
		gap = s.Span / time.Duration(s.Requests-1)
	}
	return max(s.Span+gap, time.Second)
}

// Names returns the routes that there are requests of, sorted.
func (s *Summary) Names() []string { return slices.Sorted(maps.Keys(s.Routes)) }

// Shape returns the rate of the recording's requests of some routes, on the
// recording's own clock.
func (s *Summary) Shape(routes []string) shape.Shape {
	n := 0
	for _, r := range s.Routes {
		n = len(r.counts)
	}
	counts := make([]int64, n)
	for _, name := range routes {
		for i, c := range s.Routes[name].counts {
			counts[i] += c
		}
	}
	return shape.Recorded(counts, s.part, s.Period())
}

// Count is how many requests of some routes there are.
func (s *Summary) Count(routes []string) int64 {
	var n int64
	for _, name := range routes {
		n += s.Routes[name].Requests
	}
	return n
}
