// Package sender is the traffic sender as a pod: it draws its part of a
// schedule from a plan, sends it with the very senders that the harness has,
// and gives its results to whoever forwards a port to it. It does what the
// harness tells it, and nothing when that has gone.
package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
)

// Options say who this agent is.
type Options struct {
	Plan  wire.Plan // with this agent's index
	Pod   string
	Spool string // file for results until they are taken
	// Patience is how long it goes on when nobody asks for anything.
	Patience time.Duration
	Log      *slog.Logger
}

// errDeserted ends an agent whose harness has gone.
var errDeserted = errors.New("the harness has gone")

// Serve is the agent on a listener, until it is told to leave (nil), ctx ends,
// or it is deserted. Requests under way are waited for.
func Serve(ctx context.Context, listener net.Listener, o Options) error {
	spool, err := openSpool(o.Spool)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &agent{Options: o, ctx: ctx, leave: cancel, epoch: time.Now(), spool: spool, contact: time.Now()}
	server := &http.Server{
		Handler: a.routes(), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	var beside sync.WaitGroup
	beside.Go(func() { spool.run(ctx) })
	beside.Go(func() { a.watchContact(ctx) })
	beside.Go(func() {
		<-ctx.Done()
		closing, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		if server.Shutdown(closing) != nil {
			_ = server.Close() // what is left has been told to end
		}
	})
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		cancel(fmt.Errorf("serve: %w", err))
	}
	beside.Wait()
	cause := context.Cause(ctx)
	if errors.Is(cause, errLeft) {
		cause = nil
	}
	return errors.Join(cause, a.halt(), spool.close())
}

var errLeft = errors.New("told to leave")

// agent is one sender.
type agent struct {
	Options
	ctx   context.Context // the agent's life
	leave context.CancelCauseFunc
	epoch time.Time // the zero of Mono
	spool *spool

	mu       sync.Mutex
	stream   *traffic.Stream // nil before the start
	zero     time.Time
	timeline wire.Timeline
	contact  time.Time
	readers  int // streams that are being taken

	ending sync.Once
	ended  error
}

// start begins the schedule; it can be asked for again with the same words.
func (a *agent) start(s wire.Start) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stream != nil {
		return nil // an answer that was lost
	}
	t, err := a.Plan.Traffic.Scenario()
	if err != nil {
		return err
	}
	if err := s.Timeline.Check(); err != nil {
		return err
	}
	a.zero, a.timeline = a.epoch.Add(time.Duration(s.Zero)), s.Timeline
	if int64(time.Since(a.zero)) >= s.Timeline.Join {
		return fmt.Errorf("%w: the group has joined already", wire.ErrTooLate)
	}
	plan, join := a.Plan, time.Duration(s.Timeline.Join)
	a.stream, err = traffic.Start(a.ctx, traffic.Options{
		Traffic: t, Seed: plan.Seed, HTTP: plan.HTTP, GRPC: plan.GRPC, Hosts: plan.Hosts,
		Begin: a.zero, Began: a.zero,
		PhaseAt: func(int64) string { return "" }, // the harness knows
		ScaleAt: a.scaleAt,
		Mine: func(d traffic.Due) bool {
			return d.At >= join && plan.Part.Has(plan.Seed, d.Lane, d.Number)
		},
		Sink: a.sink,
	})
	return err
}

func (a *agent) scaleAt(at int64) float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timeline.ScaleAt(at)
}

func (a *agent) sink(r results.Request) {
	if err := a.spool.add(wire.Record, r); err != nil {
		a.Log.Error("a result is lost", "error", err)
	}
}

// replace changes the timeline.
func (a *agent) replace(next wire.Timeline) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stream == nil {
		return errors.New("the schedule has not begun")
	}
	replaced, err := a.timeline.Replace(next, int64(time.Since(a.zero)))
	a.timeline = replaced
	return err
}

// stop settles every request and ends the stream of results.
func (a *agent) stop() error {
	a.mu.Lock()
	stream := a.stream
	a.mu.Unlock()
	a.ending.Do(func() { a.ended = a.end(stream) })
	return a.ended
}

func (a *agent) end(stream *traffic.Stream) error {
	var sum wire.Summary
	if stream != nil {
		if err := stream.Stop(); err != nil {
			sum.Error = err.Error()
		}
		latencies, err := wire.EncodeHistogram(stream.Latencies())
		if err != nil {
			return err
		}
		c := stream.Total()
		sum.Scheduled, sum.Requests, sum.Undispatched, sum.Latencies = c.Scheduled, c.Requests, c.Undispatched, latencies
	}
	return a.spool.add(wire.End, sum)
}

// halt stops the senders when nobody has asked for it.
func (a *agent) halt() error {
	a.mu.Lock()
	stream := a.stream
	a.mu.Unlock()
	if stream == nil {
		return nil
	}
	return stream.Stop()
}

// watchContact ends an agent that nobody has asked for anything for long.
func (a *agent) watchContact(ctx context.Context) {
	tick := time.NewTicker(max(a.Patience/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			a.mu.Lock()
			gone := a.readers == 0 && now.Sub(a.contact) > a.Patience
			a.mu.Unlock()
			if gone {
				a.leave(errDeserted)
				return
			}
		}
	}
}
