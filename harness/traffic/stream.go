// Package traffic replays the shop's launch day: what customers do, when they
// do it, and what they are answered. Requests are sent open-loop, at scheduled
// instants that no slow answer moves, and every latency counts from there. Each
// scheduled request is accounted for once: answered, failed, or not sent.
//
// The external client is not part of the mesh, and reaches only 127.0.0.1.
package traffic

import (
	"cmp"
	"context"
	"errors"
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
	// ScaleAt multiplies the day's requests at an instant of the run; 0 is silence.
	// Senders that share one schedule must be told the same.
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

	legs uint64 // gRPC calls of one run of ghz; 0 for legLength
}

// Stream is traffic under way.
type Stream struct {
	book     *book
	taken    *shelf    // of other senders' requests
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
	script, err := NewScript(o.Traffic, o.Seed)
	if err != nil {
		return nil, fault.NewInvalid(err, "")
	}
	if err := check(o, script.plan); err != nil {
		return nil, err
	}
	if o.Began.IsZero() { // before the source reads it
		o.Began = time.Now()
	}
	return start(ctx, o, script, o.source(script))
}

// source is where the arrivals come from.
func (o Options) source(script *Script) source {
	rates, scale := o.Traffic.Rates(), o.scale
	switch {
	case o.Traffic.Replay != nil:
		return replayed(o.Traffic.Replay, rates, o.Seed, scale)
	case o.Traffic.Journeys != nil:
		return walked(script, o.Traffic.Arriving(), rates, scale)
	}
	return drawn(rates, o.Seed, scale)
}

// scale is the scale at an instant of the schedule.
func (o Options) scale(at time.Duration) float64 { return o.ScaleAt(int64(o.Began.Sub(o.Begin) + at)) }

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

func start(ctx context.Context, o Options, script *Script, from source) (*Stream, error) {
	lanes := script.plan.lanes(o.Seed)
	due, err := schedules(lanes, parted(from, o.Mine))
	if err != nil {
		return nil, err
	}
	s := &Stream{
		book: newBook(o.Traffic.MaxLate, o.PhaseAt, o.Sink), began: o.Began, stop: make(chan struct{}),
	}
	s.taken = s.book.shelf()
	for i, l := range lanes {
		d := &desk{
			proto: l.proto, offset: s.began.Sub(o.Begin), begin: o.Begin, book: s.book.shelf(),
			pending: map[uint64]*results.Request{},
		}
		p := &pacer{
			schedule: due[i], desk: d, began: s.began, stop: s.stop,
			stopped: func() time.Duration { return time.Duration(s.stopAt.Load()) }, alarm: newAlarm(),
		}
		s.send(d, func() error {
			defer p.alarm.close()
			return errors.Join(send(o, script, l, d, p), due[i].close())
		})
	}
	s.unhook = context.AfterFunc(ctx, s.end)
	return s, nil
}

// send sends what is due in one lane until the pacer stops.
func send(o Options, script *Script, l lane, d *desk, p *pacer) error {
	if l.proto == "http" {
		return newHTTPSender(d, script, o.HTTP, o.Traffic, o.Hosts...).run(p)
	}
	m, _ := methodFor(l.routes[0])
	sender := &grpcSender{desk: d, method: m, script: script, legs: cmp.Or(o.legs, legLength), calls: map[uint64]*grpcCall{}}
	return sender.run(p, o.GRPC, o.Traffic.Timeout)
}

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
// which takes no longer than the timeout of one, or two where requests may have
// to wait for a connection. The error is about the
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
	r.Phase = s.taken.schedule(r.Scheduled)
	s.taken.close(r)
}

// Latencies returns what finished requests took from their scheduled instants,
// in microseconds, of all phases.
func (s *Stream) Latencies() *hdrhistogram.Histogram { return s.book.latencies() }
