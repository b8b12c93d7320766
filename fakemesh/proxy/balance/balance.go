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

	// Pauses between two attempts to reach an endpoint that failed, on average.
	// With the longest, one falls into the time that a request waits.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// ErrUnavailable means that there was no endpoint for as long as one was waited for.
var ErrUnavailable = errors.New("no endpoint is available")

// Member is an endpoint with what is known of its load.
type Member[E any] struct {
	Endpoint E
	set      *Set[E]

	// The set's lock guards these.
	average  float64 // nanoseconds
	stamp    time.Time
	inHand   int
	failures int // since it last answered
	left     bool
	// giveUp ends the attempts to reach it; nil when it can be reached, as far as
	// is known.
	giveUp context.CancelFunc
}

// Set is the endpoints of one destination.
type Set[E any] struct {
	failFast time.Duration
	reach    func(context.Context, E) error

	mu      sync.Mutex
	members map[string]*Member[E]
	ready   []*Member[E]  // those that take requests
	changed chan struct{} // closed and made anew when waiting may have an end
	lacking time.Time     // since when there has been none to give; zero when there is
}

// New makes a set without endpoints. A pick waits for failFast at most; when
// there has been nothing for that long, picks fail at once. reach is how an
// endpoint that failed is tried, in the background, until it answers or leaves.
func New[E any](failFast time.Duration, reach func(context.Context, E) error) *Set[E] {
	return &Set[E]{failFast: failFast, reach: reach, members: map[string]*Member[E]{}, changed: make(chan struct{})}
}

// Update sets the endpoints by key. Those whose keys stay keep what is known of
// them; make makes the new ones, and the ones that left are returned.
func (s *Set[E]) Update(keys []string, make func(key string) E) (gone []E) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[string]*Member[E]{}
	s.ready = nil
	for _, key := range keys {
		if next[key] != nil {
			continue
		}
		m := s.members[key]
		if m == nil {
			m = &Member[E]{Endpoint: make(key), set: s, average: float64(firstGuess), stamp: time.Now()}
		}
		next[key] = m
		if m.giveUp == nil {
			s.ready = append(s.ready, m)
		}
	}
	for key, m := range s.members {
		if next[key] == nil {
			m.leave()
			gone = append(gone, m.Endpoint)
		}
	}
	s.members = next
	s.wake()
	return gone
}

// wake has those who wait look again.
func (s *Set[E]) wake() {
	if len(s.ready) > 0 {
		s.lacking = time.Time{}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Counts are the endpoints that take requests and those that are waited for.
func (s *Set[E]) Counts() (ready, pending int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready), len(s.members) - len(s.ready)
}

// Pick finds an endpoint and counts one request in its hand; Done gives it
// back. deadline is when the caller gives up waiting.
func (s *Set[E]) Pick(ctx context.Context, deadline time.Time) (*Member[E], error) {
	for {
		m, wait, changed := s.pick()
		if m != nil {
			return m, nil
		}
		wait = min(wait, time.Until(deadline))
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
	now := time.Now()
	n := len(s.ready)
	if n == 0 {
		if s.lacking.IsZero() {
			s.lacking = now
		}
		return nil, s.failFast - now.Sub(s.lacking), s.changed
	}
	i := rand.IntN(n)
	best := s.ready[i]
	if n > 1 {
		other := s.ready[(i+1+rand.IntN(n-1))%n]
		if other.cost(now) < best.cost(now) {
			best = other
		}
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
	m.failures = 0
	m.comeBack()
	now := time.Now()
	old := m.decayed(now)
	weight := old / max(m.average, 1)
	// A worse latency counts at once, a better one by and by.
	m.average = max(float64(rtt), old+float64(rtt)*(1-weight))
	m.stamp = now
}
