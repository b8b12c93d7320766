package traffic

import (
	"fmt"
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

// book accounts for every request once. It keeps sums, not requests. Safe for
// concurrent use.
type book struct {
	maxLate time.Duration
	phaseAt func(at int64) string
	sink    func(results.Request)

	mu     sync.Mutex
	phases map[string]*page
}

type page struct {
	Counts
	latency *hdrhistogram.Histogram // microseconds
}

func newBook(maxLate time.Duration, phaseAt func(int64) string, sink func(results.Request)) *book {
	return &book{maxLate: maxLate, phaseAt: phaseAt, sink: sink, phases: map[string]*page{}}
}

// page must be called with mu held.
func (b *book) page(phase string) *page {
	p, ok := b.phases[phase]
	if !ok {
		p = &page{latency: NewHistogram()}
		b.phases[phase] = p
	}
	return p
}

// schedule opens the account of a request due at an instant of the run, and
// returns its phase, which is the one in force then.
func (b *book) schedule(at int64) string {
	phase := b.phaseAt(at)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.page(phase).Scheduled++
	return phase
}

// close settles a scheduled request, in the phase that schedule gave it, and
// passes it on.
func (b *book) close(r results.Request) {
	b.count(&r)
	b.sink(r)
}

func (b *book) count(r *results.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.page(r.Phase)
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
	if time.Duration(r.Lag()) > b.maxLate {
		p.Late++
	}
	micros := min(max(r.Latency()/1000, 1), p.latency.HighestTrackableValue())
	_ = p.latency.RecordValue(micros) // cannot fail within the range
}

// counts returns the figures of one phase.
func (b *book) counts(phase string) Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.phases[phase]
	if !ok {
		return Counts{}
	}
	c := p.Counts
	c.P50, c.P99 = quantile(p.latency, 50), quantile(p.latency, 99)
	return c
}

// total returns the figures of all phases together.
func (b *book) total() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	var c Counts
	for _, p := range b.phases {
		c.Scheduled += p.Scheduled
		c.Requests += p.Requests
		c.OK += p.OK
		c.Rejected += p.Rejected
		c.Failed += p.Failed
		c.Undispatched += p.Undispatched
		c.Late += p.Late
	}
	all := b.merged()
	c.P50, c.P99 = quantile(all, 50), quantile(all, 99)
	return c
}

// latencies returns the phases' histograms as one.
func (b *book) latencies() *hdrhistogram.Histogram {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.merged()
}

// merged must be called with mu held.
func (b *book) merged() *hdrhistogram.Histogram {
	all := NewHistogram()
	for _, p := range b.phases {
		all.Merge(p.latency)
	}
	return all
}

// NewHistogram returns one as all of a run's are: 1 µs to a minute, three
// significant digits, so that any can be merged with any.
func NewHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Minute.Microseconds(), 3)
}

func quantile(h *hdrhistogram.Histogram, q float64) time.Duration {
	return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond
}
