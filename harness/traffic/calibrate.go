package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

// A calibration is short. What is in every latency is measured at a rate that
// is faster than the traffic of a day at scale 2; then rates are doubled until
// one is not held, and the one between the last two is tried.
const (
	calibrationRate   = 200 // requests a second
	calibrationWarmUp = 500 * time.Millisecond
	calibrationLasts  = 1500 * time.Millisecond
	lowestTrial       = 500
	highestTrial      = 64_000
	trialLasts        = 300 * time.Millisecond
)

// A rate is held when no more than trialMissing of its requests are lost or
// never leave, and 99 of 100 of the others leave within trialLag: above what the
// machine can send, they come later and later.
const (
	trialLag     = 10 * time.Millisecond
	trialMissing = 0.01
)

// Calibrate measures this machine's sender against a server of its own that
// does nothing, with the traffic's treatment of connections: what is in these
// latencies, dispatch lag included, is in every latency of a run and does not
// come from the shop. Server and sender share the machine, as load balancer and
// sender do in a run. It takes about five seconds.
func Calibrate(ctx context.Context, t scenarios.Traffic) (results.Calibration, error) {
	door, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		return results.Calibration{}, fmt.Errorf("open a door for the null server: %w", err)
	}
	spoken := new(http.Protocols)
	spoken.SetHTTP1(true)
	spoken.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           http.HandlerFunc(nothing),
		Protocols:         spoken,
		ReadHeaderTimeout: time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(door) }()
	c, err := calibrate(ctx, door.Addr().String(), t.Sender)
	err = errors.Join(err, server.Close())
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return c, err
}

func nothing(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }

func calibrate(ctx context.Context, addr string, sender scenarios.Sender) (results.Calibration, error) {
	easy, err := try(ctx, addr, sender, calibrationRate, calibrationWarmUp, calibrationLasts)
	if err != nil {
		return results.Calibration{}, err
	}
	if easy.latency.TotalCount() == 0 { // a busy machine's timeouts are a finding, not an end
		return results.Calibration{}, fmt.Errorf("the null server was not reached: %d of %d requests failed, %d were not sent",
			easy.Failed, easy.Requests, easy.NotSent)
	}
	c := results.Calibration{
		Requests: int(easy.latency.TotalCount()), P50: micros(easy.latency.ValueAtQuantile(50)),
		P99: micros(easy.latency.ValueAtQuantile(99)), Max: micros(easy.latency.Max()), Trials: []results.Trial{easy.Trial},
	}
	if easy.Held {
		c.Held = calibrationRate
	}
	held := func(rate float64) (bool, error) {
		t, err := try(ctx, addr, sender, rate, 0, trialLasts)
		c.Trials = append(c.Trials, t.Trial)
		if t.Held {
			c.Held = max(c.Held, rate)
		}
		return t.Held, err
	}
	for rate := float64(lowestTrial); rate <= highestTrial; rate *= 2 {
		ok, err := held(rate)
		if err == nil && !ok { // a moment's disturbance is not the machine's limit
			ok, err = held(rate)
		}
		if err != nil {
			return results.Calibration{}, err
		}
		if !ok {
			_, err := held(rate * 3 / 4)
			return c, err
		}
	}
	return c, nil
}

// trial is a rate that was tried, and its latencies in microseconds.
type trial struct {
	results.Trial
	latency *hdrhistogram.Histogram
}

// try sends at one rate for a while, after a warm-up that does not count.
func try(ctx context.Context, addr string, sender scenarios.Sender, rate float64, warmUp, lasts time.Duration) (trial, error) {
	const warming, measured = "warm-up", "measured"
	got := trial{Trial: results.Trial{Rate: rate}, latency: NewHistogram()}
	lag := NewHistogram()
	var mu sync.Mutex
	now := time.Now()
	o := Options{
		Traffic: scenarios.Traffic{
			Mix: map[string]int{"browse": 1}, Timeout: 5 * time.Second, MaxLate: time.Second, Sender: sender,
		},
		HTTP: addr, Begin: now, Began: now, ScaleAt: func(int64) float64 { return 1 },
		PhaseAt: func(at int64) string {
			if time.Duration(at) < warmUp {
				return warming
			}
			return measured
		},
		Sink: func(r results.Request) {
			if r.Phase != measured {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got.count(r)
			if r.Outcome != results.Undispatched {
				recordMicros(lag, r.Lag())
			}
		},
	}
	script, err := NewScript(o.Traffic, o.Seed)
	if err != nil {
		return got, err
	}
	s, err := start(ctx, o, script, drawn(shape.Constant(rate), o.Seed, o.scale))
	if err != nil {
		return got, err
	}
	_ = pause.For(ctx, warmUp+lasts)
	if err := s.Stop(); err != nil {
		return got, err
	}
	got.LagP50, got.LagP99, got.LagMax = micros(lag.ValueAtQuantile(50)), micros(lag.ValueAtQuantile(99)), micros(lag.Max())
	missing := float64(got.NotSent+got.Failed) / float64(max(1, got.Requests))
	got.Held = got.Requests > 0 && missing <= trialMissing && got.LagP99 <= trialLag
	return got, context.Cause(ctx)
}

func (t *trial) count(r results.Request) {
	t.Requests++
	switch r.Outcome {
	case results.Undispatched:
		t.NotSent++
	case results.OK:
		recordMicros(t.latency, r.Latency())
	default:
		t.Failed++
	}
}

// recordMicros adds a time in nanoseconds, cut to what the histogram can hold.
func recordMicros(h *hdrhistogram.Histogram, nanos int64) {
	_ = h.RecordValue(min(max(nanos/1000, 1), h.HighestTrackableValue())) // cannot fail within the range
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// easyShare of the rate that a machine holds leaves it room for all else that a
// rehearsal does.
const easyShare = 0.5

// CheckFit tells whether a calibrated machine can send as fast as is wanted: it
// refuses what is beyond the highest rate held, and warns of what is near it.
func CheckFit(c results.Calibration, wanted float64) (warning string, err error) {
	said := fmt.Sprintf("the traffic reaches %.0f requests a second, and this machine sends at most %.0f on time", wanted, c.Held)
	switch {
	case wanted > c.Held:
		return "", fault.NewEnvironment(errors.New(said), fmt.Sprintf(
			"lower traffic.shape or the phases' scale, raise compressTo by %.1f or more, or let agents on the cluster send", wanted/max(c.Held, 1)))
	case wanted > easyShare*c.Held:
		return said + ", with nothing else to do: requests may leave late, and then latency is inconclusive", nil
	}
	return "", nil
}
