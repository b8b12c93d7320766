package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

// A calibration is short, and faster than the traffic of a day at scale 2.
const (
	calibrationRate   = 200 // requests a second
	calibrationWarmUp = 500 * time.Millisecond
	calibrationLasts  = 2 * time.Second
)

// Calibrate measures this machine's sender against a server of its own that
// does nothing: what is in these latencies, dispatch lag included, is in every
// latency of a run and does not come from the shop. It takes about three
// seconds.
func Calibrate(ctx context.Context) (results.Calibration, error) {
	door, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		return results.Calibration{}, fmt.Errorf("open a door for the null server: %w", err)
	}
	server := &http.Server{
		Handler:           http.HandlerFunc(nothing),
		ReadHeaderTimeout: time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(door) }()
	c, err := calibrate(ctx, door.Addr().String())
	err = errors.Join(err, server.Close())
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return c, err
}

func nothing(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }

func calibrate(ctx context.Context, addr string) (results.Calibration, error) {
	const warming, measured = "warm-up", "measured"
	begin := time.Now()
	var slowest atomic.Int64
	o := Options{
		Traffic: scenarios.Traffic{Mix: map[string]int{"browse": 1}, Timeout: 5 * time.Second, MaxLate: time.Second},
		HTTP:    addr, Begin: begin, Scale: func() float64 { return 1 },
		PhaseAt: func(at int64) string {
			if time.Duration(at) < calibrationWarmUp {
				return warming
			}
			return measured
		},
		Sink: func(r results.Request) {
			for old := slowest.Load(); r.Phase == measured && r.Latency() > old; old = slowest.Load() {
				if slowest.CompareAndSwap(old, r.Latency()) {
					return
				}
			}
		},
	}
	plan, err := newSenderPlan(o.Traffic.Mix)
	if err != nil {
		return results.Calibration{}, err
	}
	s, err := start(ctx, o, plan, drawn(shape.Constant(calibrationRate), o.Seed, o.scale()))
	if err != nil {
		return results.Calibration{}, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(calibrationWarmUp + calibrationLasts):
	}
	if err := s.Stop(); err != nil {
		return results.Calibration{}, err
	}
	if err := context.Cause(ctx); err != nil {
		return results.Calibration{}, err
	}
	got := s.Counts(measured)
	if got.OK == 0 { // a busy machine's timeouts are a finding, not an end
		return results.Calibration{}, fmt.Errorf("the null server was not reached: %s", got)
	}
	return results.Calibration{
		Requests: int(got.Requests), P50: got.P50, P99: got.P99, Max: time.Duration(slowest.Load()),
	}, nil
}
