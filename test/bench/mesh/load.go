package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	callTimeout = 5 * time.Second
	// lateAfter is how long after its instant a request leaves late.
	lateAfter = 10 * time.Millisecond
	// maxUnderWay bounds the requests that wait for an answer.
	maxUnderWay = 20_000
)

var errCrowded = fmt.Errorf("%d requests are waiting for their answers", maxUnderWay)

// tally is what became of one stream's requests.
type tally struct {
	mu      sync.Mutex
	latency *hdrhistogram.Histogram // µs from the scheduled instant, of those that were answered
	lag     *hdrhistogram.Histogram // µs from the scheduled instant to the sending
	sent    int
	late    int
	failed  map[string]int // by error
}

func newTally() *tally {
	return &tally{latency: newHistogram(), lag: newHistogram(), failed: map[string]int{}}
}

// newHistogram holds 1 µs to 60 s at 3 digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

func (t *tally) note(lag, latency time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	_ = t.lag.RecordValue(max(lag.Microseconds(), 1))
	if lag > lateAfter {
		t.late++
	}
	if err != nil {
		t.failed[err.Error()]++
		return
	}
	_ = t.latency.RecordValue(max(latency.Microseconds(), 1))
}

func (t *tally) failures() int {
	n := 0
	for _, c := range t.failed {
		n += c
	}
	return n
}

// drive sends what is scheduled, each request at its instant whatever became of
// those before it, and returns when all are answered: a tally for each stream.
func drive(ctx context.Context, s *schedule, calls []func(context.Context) error) ([]*tally, error) {
	tallies := make([]*tally, len(calls))
	for i := range tallies {
		tallies[i] = newTally()
	}
	room := make(chan struct{}, maxUnderWay)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer punctual()()
	begin := time.Now()
	for {
		stream, at, ok := s.pop()
		if !ok {
			break
		}
		due := begin.Add(at)
		if err := sleepUntil(ctx, due); err != nil {
			return nil, err
		}
		t, call := tallies[stream], calls[stream]
		select {
		case room <- struct{}{}:
		default:
			t.note(time.Since(due), 0, errCrowded)
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			lag := time.Since(due)
			err := call(ctx)
			t.note(lag, time.Since(due), err)
			<-room
		})
	}
	wg.Wait()
	return tallies, ctx.Err()
}

// punctual makes sleepUntil exact for this goroutine. Go's own timers may come
// a millisecond late on an idle machine, more than what is measured here.
func punctual() (undo func()) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // without it: 50 µs later
	return func() {
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
		runtime.UnlockOSThread()
	}
}

// longestSleep is how late the end of a context may be heeded.
const longestSleep = 100 * time.Millisecond

func sleepUntil(ctx context.Context, t time.Time) error {
	for {
		left := time.Until(t)
		if left <= 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		nap := unix.NsecToTimespec(min(left, longestSleep).Nanoseconds())
		if err := unix.Nanosleep(&nap, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("sleep: %w", err)
		}
	}
}
