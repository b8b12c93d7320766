package traffic

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const day = 90 * time.Second

// requestsIn integrates a shape over a stretch of time.
func requestsIn(s Shape, from, to time.Duration) float64 {
	const steps = 20_000
	sum := 0.0
	for i := range steps {
		at := from + time.Duration((float64(i)+0.5)/steps*float64(to-from))
		sum += s.Rate(at)
	}
	return sum * (to - from).Seconds() / steps
}

func TestADayHoldsTheRequestsItIsMeantTo(t *testing.T) {
	for _, c := range []struct {
		name             string
		requests, launch int
		day              time.Duration
	}{
		{"the launch day of the case study", 1000, 5000, day},
		{"a real day's length", 1000, 5000, 24 * time.Hour},
		{"a day without a launch", 1000, 1000, day},
		{"a launch out of nothing", 0, 5000, day},
		{"a launch day that is given as smaller than any day", 1000, 10, day},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewShape(c.requests, c.launch, c.day)
			want := float64(max(c.requests, c.launch))
			require.InEpsilon(t, want, requestsIn(s, 0, c.day), 0.001)
			require.InEpsilon(t, want, s.Mean()*c.day.Seconds(), 1e-9)
			require.InEpsilon(t, want, requestsIn(s, 3*c.day, 4*c.day), 0.001, "every day")
		})
	}
}

func TestTheLaunchIsAWaveThatOneMachineCanHold(t *testing.T) {
	s := NewShape(1000, 5000, day)
	peak := 0.0
	for at := time.Duration(0); at < day; at += 10 * time.Millisecond {
		rate := s.Rate(at)
		require.Positive(t, rate)
		require.LessOrEqual(t, rate, s.Bound())
		peak = max(peak, rate)
	}
	require.InDelta(t, 1.6, peak/s.Mean(), 0.05)
	require.InDelta(t, peak, s.Bound(), 0.1*peak, "a loose bound wastes candidates")
	require.Less(t, s.Rate(day/10), 0.3*s.Mean(), "the night before is quiet")
	require.Greater(t, s.Rate(day/2), 1.3*s.Mean())
}

func TestTheRateHasNoJumps(t *testing.T) {
	s := NewShape(1000, 5000, day)
	for at := time.Duration(0); at < 2*day; at += time.Millisecond {
		require.InDelta(t, s.Rate(at), s.Rate(at+time.Millisecond), 0.05*s.Mean(), "at %s", at)
	}
	require.InDelta(t, s.Rate(-day/4), s.Rate(3*day/4), 1e-9)
}
