package traffic

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"meshsim.dev/meshsim/results"
)

// Counts are a phase's figures so far. Scheduled requests that are in no other
// count are under way.
type Counts struct {
	Scheduled    int64
	Requests     int64 // finished: OK + Rejected + Failed
	OK           int64
	Rejected     int64
	Failed       int64
	Undispatched int64
	Late         int64         // finished ones that left later than allowed
	P50, P99     time.Duration // from the scheduled instant, of the finished ones
}

// InFlight is how many requests are scheduled and not accounted for yet.
func (c Counts) InFlight() int64 { return c.Scheduled - c.Requests - c.Undispatched }

// String is a line for people.
func (c Counts) String() string {
	s := fmt.Sprintf("%d requests, %d failed, p99 %s", c.Requests, c.Failed, c.P99.Round(100*time.Microsecond))
	if c.Late > 0 {
		s += fmt.Sprintf(", %d late", c.Late)
	}
	if c.Undispatched > 0 {
		s += fmt.Sprintf(", %d not sent", c.Undispatched)
	}
	return s
}

// book accounts for every request once. It keeps sums, not requests; each
// sender's on a shelf of its own, so that senders do not wait for each other.
// Safe for concurrent use.
type book struct {
	maxLate time.Duration
	phaseAt func(at int64) string
	sink    func(results.Request)

	mu      sync.Mutex
	shelves []*shelf
}

// shelf is one sender's part of the book.
type shelf struct {
	book *book

	mu     sync.Mutex
	phases map[string]*page
}

type page struct {
	Counts
	latency *hdrhistogram.Histogram // microseconds
}

func newBook(maxLate time.Duration, phaseAt func(int64) string, sink func(results.Request)) *book {
	return &book{maxLate: maxLate, phaseAt: phaseAt, sink: sink}
}

// shelf makes one more.
func (b *book) shelf() *shelf {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &shelf{book: b, phases: map[string]*page{}}
	b.shelves = append(b.shelves, s)
	return s
}

// page must be called with mu held.
func (s *shelf) page(phase string) *page {
	p, ok := s.phases[phase]
	if !ok {
		p = &page{latency: NewHistogram()}
		s.phases[phase] = p
	}
	return p
}

// NewHistogram returns one as all of a run's are: 1 µs to a minute, three
// significant digits, so that any can be merged with any.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Microseconds(), 3)
}

// schedule opens the account of a request due at an instant of the run, and
// returns its phase, which is the one in force then.
func (s *shelf) schedule(at int64) string {
	phase := s.book.phaseAt(at)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.page(phase).Scheduled++
	return phase
}

// close settles a scheduled request, in the phase that schedule gave it, and
// passes it on.
func (s *shelf) close(r results.Request) {
	s.count(&r)
	s.book.sink(r)
}

func (s *shelf) count(r *results.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.page(r.Phase)
	switch r.Outcome {
	case results.Undispatched:
		p.Undispatched++
		return
	case results.OK:
		p.OK++
	case results.Rejected:
		p.Rejected++
	default:
		p.Failed++
	}
	p.Requests++
	if time.Duration(r.Lag()) > s.book.maxLate {
		p.Late++
	}
	recordMicros(p.latency, r.Latency())
}

// counts returns the figures of one phase.
func (b *book) counts(phase string) Counts {
	c, _ := b.sum(func(name string) bool { return name == phase })
	return c
}

// total returns the figures of all phases together.
func (b *book) total() Counts {
	c, _ := b.sum(func(string) bool { return true })
	return c
}

// latencies returns the histograms of all phases as one.
func (b *book) latencies() *hdrhistogram.Histogram {
	_, all := b.sum(func(string) bool { return true })
	return all
}

// sum adds up the pages of the phases that are wanted. Histograms are merged;
// percentiles cannot be.
func (b *book) sum(wanted func(phase string) bool) (Counts, *hdrhistogram.Histogram) {
	b.mu.Lock()
	shelves := slices.Clone(b.shelves)
	b.mu.Unlock()
	var c Counts
	all := NewHistogram()
	for _, s := range shelves {
		s.mu.Lock()
		for phase, p := range s.phases {
			if wanted(phase) {
				c.add(p.Counts)
				all.Merge(p.latency)
			}
		}
		s.mu.Unlock()
	}
	c.P50, c.P99 = quantile(all, 50), quantile(all, 99)
	return c, all
}

func (c *Counts) add(more Counts) {
	c.Scheduled += more.Scheduled
	c.Requests += more.Requests
	c.OK += more.OK
	c.Rejected += more.Rejected
	c.Failed += more.Failed
	c.Undispatched += more.Undispatched
	c.Late += more.Late
}

func quantile(h *hdrhistogram.Histogram, q float64) time.Duration {
	return micros(h.ValueAtQuantile(q))
}
