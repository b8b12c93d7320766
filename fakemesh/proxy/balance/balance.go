// Package balance picks endpoints: of two taken at random the one with the
// lower load, which is a peak-sensitive moving average of its latency times
// the requests it has in hand.
package balance

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// decay is how long an old latency weighs.
	decay = 10 * time.Second
	// firstGuess is the latency of an endpoint that has answered nothing yet.
	firstGuess = 30 * time.Millisecond

	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// ErrUnavailable means that there was no endpoint for as long as one was waited for.
var ErrUnavailable = errors.New("no endpoint is available")

// Member is an endpoint with what is known of its load.
type Member[E any] struct {
	Endpoint E
	set      *Set[E]
	key      string

	// The set's lock guards these.
	average  float64 // nanoseconds
	stamp    time.Time
	inHand   int
	failures int
	until    time.Time // not before it is it tried again
}

// Set is the endpoints of one destination.
type Set[E any] struct {
	failFast time.Duration
	now      func() time.Time

	mu      sync.Mutex
	members map[string]*Member[E]
	list    []*Member[E]
	changed chan struct{} // closed and made anew when waiting may have an end
	lacking time.Time     // since when there has been none to give; zero when there is
}

// New makes a set without endpoints. A pick waits for failFast at most; when
// there has been nothing for that long, picks fail at once.
func New[E any](failFast time.Duration) *Set[E] {
	return &Set[E]{
		failFast: failFast, now: time.Now,
		members: map[string]*Member[E]{}, changed: make(chan struct{}),
	}
}

// Update sets the endpoints by key. Those whose keys stay keep what is known of
// them; make makes the new ones, and the ones that left are returned.
func (s *Set[E]) Update(keys []string, make func(key string) E) (gone []E) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]*Member[E]{}
	list := s.list[:0:0]
	for _, key := range keys {
		if next[key] != nil {
			continue
		}
		m := s.members[key]
		if m == nil {
			m = &Member[E]{Endpoint: make(key), set: s, key: key, average: float64(firstGuess), stamp: s.now()}
		}
		next[key] = m
		list = append(list, m)
	}
	for key, m := range s.members {
		if next[key] == nil {
			gone = append(gone, m.Endpoint)
		}
	}
	s.members, s.list = next, list
	if len(list) > 0 {
		s.lacking = time.Time{}
	}
	s.wake()
	return gone
}

func (s *Set[E]) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Counts are the endpoints that take requests and those that are waited for.
func (s *Set[E]) Counts() (ready, pending int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, m := range s.list {
		if m.until.After(now) {
			pending++
		} else {
			ready++
		}
	}
	return ready, pending
}

// Pick finds an endpoint and counts one request in its hand; Done gives it
// back. deadline is when the caller gives up waiting.
func (s *Set[E]) Pick(ctx context.Context, deadline time.Time) (*Member[E], error) {
	for {
		m, wait, changed := s.pick()
		if m != nil {
			return m, nil
		}
		wait = min(wait, deadline.Sub(s.now()))
		if wait <= 0 {
			return nil, ErrUnavailable
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pick gives an endpoint, or how long it may pay to wait.
func (s *Set[E]) pick() (*Member[E], time.Duration, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var first, second *Member[E]
	seen := 0
	soonest := s.failFast
	offset := rand.IntN(max(len(s.list), 1))
	for i := range s.list {
		m := s.list[(i+offset)%len(s.list)]
		if left := m.until.Sub(now); left > 0 {
			soonest = min(soonest, left)
			continue
		}
		// Two at random of those that are ready, in one pass.
		seen++
		switch {
		case first == nil:
			first = m
		case second == nil:
			second = m
		default:
			if i := rand.IntN(seen); i == 0 {
				first = m
			} else if i == 1 {
				second = m
			}
		}
	}
	if first == nil {
		if s.lacking.IsZero() {
			s.lacking = now
		}
		left := s.failFast - now.Sub(s.lacking)
		return nil, min(soonest, left), s.changed
	}
	best := first
	if second != nil && second.cost(now) < first.cost(now) {
		best = second
	}
	best.inHand++
	return best, 0, nil
}

func (m *Member[E]) cost(now time.Time) float64 {
	return m.decayed(now) * float64(m.inHand+1)
}

func (m *Member[E]) decayed(now time.Time) float64 {
	return m.average * math.Exp(-float64(now.Sub(m.stamp))/float64(decay))
}

// Done ends what Pick began. An rtt above 0 is how long the endpoint took to
// answer, or to accept a connection.
func (m *Member[E]) Done(rtt time.Duration) {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	m.inHand--
	m.answered(rtt)
}

// Alive tells that the endpoint answered after rtt and is still in use.
func (m *Member[E]) Alive(rtt time.Duration) {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	m.answered(rtt)
}

func (m *Member[E]) answered(rtt time.Duration) {
	if rtt <= 0 {
		return
	}
	m.failures, m.until = 0, time.Time{}
	m.set.lacking = time.Time{}
	now := m.set.now()
	old := m.decayed(now)
	weight := old / max(m.average, 1)
	// A worse latency counts at once, a better one by and by.
	m.average = max(float64(rtt), old+float64(rtt)*(1-weight))
	m.stamp = now
}

// Failed ends what Pick began when no connection could be had. The endpoint is
// left alone for a while, longer each time.
func (m *Member[E]) Failed() {
	s := m.set
	s.mu.Lock()
	defer s.mu.Unlock()
	m.inHand--
	now := s.now()
	if m.until.After(now) {
		return // one of several that failed together
	}
	pause := min(minBackoff<<min(m.failures, 10), maxBackoff)
	m.failures++
	m.until = now.Add(pause/2 + rand.N(pause))
}
