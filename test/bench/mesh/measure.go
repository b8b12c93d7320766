package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/test/bench/sheet"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

// cell is one protocol at one rate, measured on all paths.
type cell struct {
	protocol echo.Protocol
	rate     float64
	on, turn time.Duration // as a schedule has them
}

func (c cell) name() string { return fmt.Sprintf("%s/%.0f", c.protocol, c.rate) }

// warmUp opens the connections that a cell will need, and wakes up all that is
// slow the first time.
func warmUp(ctx context.Context, c echo.Client) error {
	const rounds, together = 10, 16
	var mu sync.Mutex
	var errs []error
	for range rounds {
		var wg sync.WaitGroup
		for range together {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, callTimeout)
				defer cancel()
				if err := c.Call(ctx); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
		wg.Wait()
	}
	return errors.Join(errs...)
}

// measure runs one cell.
func measure(ctx context.Context, paths []path, c cell) ([]figures, error) {
	var calls []func(context.Context) error
	for _, p := range paths {
		client, err := echo.NewClient(c.protocol, p.dial(c.protocol))
		if err != nil {
			return nil, err
		}
		defer client.Close()
		if err := warmUp(ctx, client); err != nil {
			return nil, fmt.Errorf("warm up %s by %s: %w", c.protocol, p.name, err)
		}
		calls = append(calls, client.Call)
	}
	before, err := cpuTimes(paths)
	if err != nil {
		return nil, err
	}
	tallies, err := drive(ctx, newSchedule(len(paths), c.rate, c.on, c.turn, rand.Uint64()), calls)
	if err != nil {
		return nil, err
	}
	after, err := cpuTimes(paths)
	if err != nil {
		return nil, err
	}
	all := make([]figures, len(paths))
	for i, t := range tallies {
		all[i] = t.figures(c, paths[i].name)
		all[i].FrontCPU, all[i].BackCPU = per1000(after[i].front-before[i].front, t.sent), per1000(after[i].back-before[i].back, t.sent)
	}
	return all, nil
}

// per1000 is milliseconds of CPU for each 1,000 requests.
func per1000(d time.Duration, requests int) float64 {
	if requests == 0 {
		return 0
	}
	return float64(d.Microseconds()) / float64(requests)
}

type cpuTime struct{ front, back time.Duration }

func cpuTimes(paths []path) ([]cpuTime, error) {
	all := make([]cpuTime, len(paths))
	for i, p := range paths {
		if p.front == nil {
			continue
		}
		var errF, errB error
		all[i].front, errF = p.front.cpu()
		all[i].back, errB = p.back.cpu()
		if err := errors.Join(errF, errB); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// handshakeWorkers keep both cores busy.
const handshakeWorkers = 8

// shake opens connections one after another, for turns of that length, on each
// of the paths in turn. Every one is a connection of opaque TCP, for which the
// pair shakes hands anew, and ends when one answer has come.
func shake(ctx context.Context, paths []path, on, turn time.Duration) ([]handshakes, error) {
	all := make([]handshakes, len(paths))
	for i, p := range paths {
		all[i].Path = p.name
	}
	for range int(on / turn) {
		for i, p := range paths {
			if err := shakeOnce(ctx, p, turn, &all[i]); err != nil {
				return nil, err
			}
		}
	}
	for i := range all {
		all[i].finish()
	}
	return all, nil
}

func shakeOnce(ctx context.Context, p path, turn time.Duration, h *handshakes) error {
	before, err := cpuTimes([]path{p})
	if err != nil {
		return err
	}
	var done, failed atomic.Int64
	begin := time.Now()
	var wg sync.WaitGroup
	for range handshakeWorkers {
		wg.Go(func() {
			for time.Since(begin) < turn && ctx.Err() == nil {
				if err := shakeHands(ctx, p.dial(echo.TCP)); err != nil {
					failed.Add(1)
					continue
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	after, err := cpuTimes([]path{p})
	if err != nil {
		return err
	}
	h.Handshakes += int(done.Load())
	h.Failed += int(failed.Load())
	h.took += took
	h.front += after[0].front - before[0].front
	h.back += after[0].back - before[0].back
	return ctx.Err()
}

func shakeHands(ctx context.Context, dial echo.Dialer) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return echo.Once(ctx, dial)
}

// crowded measures what is resident in the two proxies while the front has 50
// endpoints, spoken to in two protocols, and the back 50 clients.
func crowded(ctx context.Context, w *world, rate float64, on time.Duration) (crowdFigures, error) {
	var calls []func(context.Context) error
	for _, p := range []echo.Protocol{echo.HTTP, echo.GRPC} {
		c, err := echo.NewClient(p, w.dialFrom(fromCrowd))
		if err != nil {
			return crowdFigures{}, err
		}
		defer c.Close()
		calls = append(calls, c.Call)
		var each []echo.Client
		for _, pod := range w.crowdPods {
			one, err := echo.NewClient(p, func(ctx context.Context) (net.Conn, error) { return pod.Dial(ctx, w.from(fromWeb)) })
			if err != nil {
				return crowdFigures{}, err
			}
			defer one.Close()
			each = append(each, one)
		}
		var turn atomic.Int64
		calls = append(calls, func(ctx context.Context) error { return each[int(turn.Add(1))%len(each)].Call(ctx) })
	}
	samples, stop := watchMemory(ctx, w)
	tallies, err := drive(ctx, newSchedule(len(calls), rate, on, 0, rand.Uint64()), calls)
	stop()
	if err != nil {
		return crowdFigures{}, err
	}
	f := <-samples
	f.Endpoints, f.Rate, f.Errors = crowdSize, rate*float64(len(calls)), map[string]int{}
	for _, t := range tallies {
		f.Requests += t.sent
		f.Failed += t.failures()
		for what, n := range t.failed {
			f.Errors[what] += n
		}
	}
	return f, f.err
}

func (r *residence) note(m sheet.Memory) {
	if m.Now > r.Bytes {
		r.Bytes, r.File = m.Now, m.File
	}
	r.Peak = m.Peak
}

// watchMemory looks four times a second until stop is called; then the most
// that was seen comes by the channel.
func watchMemory(ctx context.Context, w *world) (<-chan crowdFigures, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	out := make(chan crowdFigures, 1)
	go func() {
		var f crowdFigures
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for f.err == nil {
			var front, back sheet.Memory
			var errF, errB error
			front, errF = w.front.memory()
			back, errB = w.back.memory()
			f.err = errors.Join(errF, errB)
			f.Front.note(front)
			f.Back.note(back)
			select {
			case <-ctx.Done():
				out <- f
				return
			case <-tick.C:
			}
		}
		out <- f
	}()
	return out, stop
}
