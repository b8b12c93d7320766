// Package traffic replays the shop's launch day: what customers do, when they
// do it, and what they are answered. Requests are sent open-loop, at scheduled
// instants that no slow answer moves, and every latency counts from there. Each
// scheduled request is accounted for once: answered, failed, or not sent.
//
// The external client is not part of the mesh, and reaches only 127.0.0.1.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// Options say what to send, and where its results go. All are needed.
type Options struct {
	Traffic scenarios.Traffic
	Seed    uint64 // the same seed makes the same requests at the same instants
	HTTP    string // 127.0.0.1:port of the load balancer's REST side
	GRPC    string // 127.0.0.1:port of its gRPC side
	// Begin is the run's start; all times in results are nanoseconds from it.
	// It must hold the monotonic clock, as time.Now's do.
	Begin time.Time
	// PhaseAt names the phase in force at an instant of the run.
	PhaseAt func(at int64) string
	// Scale multiplies the day's requests from now on; 0 is silence.
	Scale func() float64
	// ScaleAt, when it is not nil, is in Scale's place and tells the scale at an
	// instant of the run: senders that share one schedule must read the same.
	ScaleAt func(at int64) float64
	// Began is the schedule's zero; now when it is not set.
	Began time.Time
	// Mine tells which arrivals are this sender's; all when it is nil.
	Mine func(Due) bool
	// Hosts are where traffic may go besides 127.0.0.1. Only a sender inside the
	// cluster has any: the Services that it calls.
	Hosts []string
	// Sink takes every result as it comes, from several goroutines.
	Sink func(results.Request)
}

// Stream is traffic under way.
type Stream struct {
	book     *book
	began    time.Time // the schedule's zero: midnight of the first day
	stop     chan struct{}
	stopOnce sync.Once
	stopAt   atomic.Int64
	unhook   func() bool
	senders  sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// Start begins to send; the first day begins now. The stream ends by Stop, or
// when ctx does; either way requests under way are waited for.
func Start(ctx context.Context, o Options) (*Stream, error) {
	plan, err := newSenderPlan(weights(o.Traffic))
	if err != nil {
		return nil, fault.NewInvalid(err, "")
	}
	if err := check(o, plan); err != nil {
		return nil, err
	}
	if o.Began.IsZero() { // before the source reads it
		o.Began = time.Now()
	}
	return start(ctx, o, plan, o.source())
}

// source is where the arrivals come from.
func (o Options) source() source {
	rates, scale := o.Traffic.Rates(), o.scale()
	if r := o.Traffic.Replay; r != nil {
		return replayed(r, rates, o.Seed, scale)
	}
	return drawn(rates, o.Seed, scale)
}

// scale returns the scale at an instant of the schedule.
func (o Options) scale() func(at time.Duration) float64 {
	if o.ScaleAt == nil {
		return func(time.Duration) float64 { return o.Scale() }
	}
	zero := o.Began.Sub(o.Begin)
	return func(at time.Duration) float64 { return o.ScaleAt(int64(zero + at)) }
}

// weights are the routes' shares of the traffic: the mix's, or the recording's.
func weights(t scenarios.Traffic) map[string]int {
	if t.Replay == nil {
		return t.Mix
	}
	w := map[string]int{}
	for _, route := range t.Replay.Routes() {
		w[route] = int(t.Replay.Recording.Count([]string{route}))
	}
	return w
}

func check(o Options, plan senderPlan) error {
	t := o.Traffic
	switch {
	case t.CompressTo <= 0, t.Timeout <= 0, t.MaxLate <= 0:
		return fault.NewInvalid(errors.New("a day's length, the timeout and the permitted lateness must be more than nothing"), "")
	case t.Day.Requests < 0, t.Day.LaunchRequests < 0:
		return fault.NewInvalid(errors.New("a day cannot have fewer requests than none"), "")
	}
	var errs []error
	if plan.http.Total() > 0 {
		errs = append(errs, checkAddress("HTTP", o.HTTP, o.Hosts...))
	}
	if len(plan.grpc) > 0 {
		errs = append(errs, checkAddress("gRPC", o.GRPC, o.Hosts...))
	}
	return errors.Join(errs...)
}

// senderPlan shares the mix out: one sender for all HTTP routes, one for each
// gRPC method.
type senderPlan struct {
	http  Mix
	grpc  []string // routes, sorted
	share map[string]float64
}

func newSenderPlan(weights map[string]int) (senderPlan, error) {
	all, err := NewMix(weights)
	if err != nil {
		return senderPlan{}, err
	}
	if all.Total() == 0 {
		return senderPlan{}, errors.New("the mix gives weight to no route")
	}
	p := senderPlan{share: map[string]float64{}}
	overHTTP := map[string]int{}
	for _, route := range slices.Sorted(maps.Keys(weights)) {
		weight := weights[route]
		switch protoOf(route) {
		case "http":
			overHTTP[route] = weight
		case "grpc":
			if weight > 0 {
				p.grpc = append(p.grpc, route)
				p.share[route] = float64(weight) / all.Total()
			}
		default:
			return senderPlan{}, fmt.Errorf("the mix names an unknown route %q", route)
		}
	}
	p.http, err = NewMix(overHTTP)
	p.share["http"] = p.http.Total() / all.Total()
	return p, err
}

func protoOf(route string) string {
	r, _ := scenarios.FindRoute(route)
	return r.Proto
}

// edgeService is the service that answers a route at the edge.
func edgeService(route string) string {
	r, _ := scenarios.FindRoute(route)
	return r.Service
}

// lanes are the senders' parts.
func (p senderPlan) lanes(seed uint64) []lane {
	var all []lane
	if p.http.Total() > 0 {
		all = append(all, lane{
			proto: "http", share: p.share["http"], routes: p.http.routes,
			route: func(n uint64) string { return p.http.pick(draw(seed, routeStream, n)) },
		})
	}
	for i, name := range p.grpc {
		all = append(all, lane{
			number: uint64(i + 1), proto: "grpc", share: p.share[name], routes: []string{name},
			route: func(uint64) string { return name },
		})
	}
	return all
}

func start(ctx context.Context, o Options, plan senderPlan, from source) (*Stream, error) {
	lanes := plan.lanes(o.Seed)
	due, err := schedules(lanes, parted(from, o.Mine))
	if err != nil {
		return nil, err
	}
	if o.Began.IsZero() {
		o.Began = time.Now()
	}
	s := &Stream{
		book: newBook(o.Traffic.MaxLate, o.PhaseAt, o.Sink), began: o.Began, stop: make(chan struct{}),
	}
	for i, l := range lanes {
		d := &desk{
			stream: l.number, streams: uint64(1 + len(plan.grpc)), proto: l.proto, offset: s.began.Sub(o.Begin),
			begin: o.Begin, book: s.book, pending: map[uint64]*results.Request{},
		}
		p := &pacer{
			schedule: due[i], desk: d, began: s.began, stop: s.stop,
			stopped: func() time.Duration { return time.Duration(s.stopAt.Load()) },
		}
		s.send(d, func() error { return errors.Join(send(o, l, d, p), due[i].close()) })
	}
	s.unhook = context.AfterFunc(ctx, s.end)
	return s, nil
}

// send sends what is due in one lane until the pacer stops.
func send(o Options, l lane, d *desk, p *pacer) error {
	if l.proto == "http" {
		return newHTTPSender(d, o.HTTP, o.Seed, o.Traffic.Timeout, o.Hosts...).run(p)
	}
	m, _ := methodFor(l.routes[0])
	sender := &grpcSender{desk: d, method: m, seed: o.Seed, calls: map[uint64]*grpcCall{}}
	return sender.run(p, o.GRPC, o.Traffic.Timeout)
}

// routeStream is a stream of randomness of its own, for the choice of routes.
const routeStream = 1 << 32

func (s *Stream) send(d *desk, run func() error) {
	s.senders.Go(func() {
		err := run()
		d.sweep()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs = append(s.errs, err)
		}
	})
}

// end stops the schedule; requests under way go on.
func (s *Stream) end() {
	s.stopOnce.Do(func() {
		s.stopAt.Store(int64(time.Since(s.began)))
		close(s.stop)
	})
}

// Stop ends the schedule and returns when every request is accounted for,
// which takes no longer than the timeout of one. The error is about the
// senders, never about answers. It may be called again.
func (s *Stream) Stop() error {
	s.unhook()
	s.end()
	s.senders.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// Counts returns the figures of a phase so far.
func (s *Stream) Counts(phase string) Counts { return s.book.counts(phase) }

// Total returns the figures of all phases so far.
func (s *Stream) Total() Counts { return s.book.total() }

// Take accounts for a request that another sender of the same run has settled,
// its times being this run's. Its phase is the one in force at its instant.
func (s *Stream) Take(r results.Request) {
	r.Phase = s.book.schedule(r.Scheduled)
	s.book.close(r)
}

// Latencies returns what finished requests took from their scheduled instants,
// in microseconds, of all phases.
func (s *Stream) Latencies() *hdrhistogram.Histogram { return s.book.latencies() }
