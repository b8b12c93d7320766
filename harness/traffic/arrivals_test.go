package traffic

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/scenarios/shape"
)

const day = 90 * time.Second

func steady(scale float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return scale }
}

// until collects all arrivals before an instant, asking in steps.
func until(a *Arrivals, end, step time.Duration) []time.Duration {
	var out []time.Duration
	for horizon := step; ; horizon += step {
		for {
			at, ok := a.Next(min(horizon, end))
			if !ok {
				break
			}
			if at >= end {
				return out
			}
			out = append(out, at)
		}
		if horizon >= end {
			return out
		}
	}
}

func TestTheSameSeedIsTheSameDayHoweverItIsRead(t *testing.T) {
	launch := shape.LaunchDay(1000, 5000, day)
	at := func(seed, stream uint64, step time.Duration) []time.Duration {
		return until(NewArrivals(launch, 1, seed, stream, steady(1)), day, step)
	}
	want := at(5000, 0, day)
	require.Equal(t, want, at(5000, 0, 7*time.Millisecond))
	require.Equal(t, want, at(5000, 0, 333*time.Millisecond))
	require.NotEqual(t, want, at(5001, 0, day), "another seed")
	require.NotEqual(t, want, at(5000, 1, day), "another stream")
	for i := 1; i < len(want); i++ {
		require.GreaterOrEqual(t, want[i], want[i-1])
	}
}

func TestArrivalsFollowTheShape(t *testing.T) {
	launch := shape.LaunchDay(1000, 5000, day)
	const days, parts = 20, 18
	var got [parts]float64
	for _, at := range until(NewArrivals(launch, 1, 1, 0, steady(1)), days*day, time.Second) {
		got[at%day*parts/day]++
	}
	for i := range parts {
		from := day * time.Duration(i) / parts
		want := days * launch.Count(from, from+day/parts)
		require.InDelta(t, want, got[i], 4.5*math.Sqrt(want), "part %d", i) // a Poisson count's spread
	}
}

func TestGapsAreExponential(t *testing.T) {
	arrivals := until(NewArrivals(shape.Constant(100), 1, 2, 0, steady(1)), 500*time.Second, time.Second)
	require.InDelta(t, 50_000, len(arrivals), 4.5*math.Sqrt(50_000))
	var sum, squares, short float64
	for i := 1; i < len(arrivals); i++ {
		gap := (arrivals[i] - arrivals[i-1]).Seconds()
		sum += gap
		squares += gap * gap
		if gap < 0.01 {
			short++
		}
	}
	n := float64(len(arrivals) - 1)
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	require.InDelta(t, 1, deviation/mean, 0.03, "as far apart as an exponential's are")
	require.InDelta(t, 1-1/math.E, short/n, 0.01, "63 % are shorter than the mean")
}

func TestSharesAddUpToTheWhole(t *testing.T) {
	launch := shape.LaunchDay(1000, 5000, day)
	total := 0
	for stream, share := range []float64{0.95, 0.03, 0.02} {
		n := len(until(NewArrivals(launch, share, 5000, uint64(stream), steady(1)), 10*day, time.Second))
		require.InDelta(t, 50_000*share, n, 4.5*math.Sqrt(50_000*share))
		total += n
	}
	require.InDelta(t, 50_000, total, 4.5*math.Sqrt(50_000))
}

func TestAScaleIsInForceWithinAGrain(t *testing.T) {
	change := 100 * time.Second
	for _, c := range []struct{ before, after float64 }{{1, 2}, {2, 1}, {0, 1}, {1, 0}, {1, -1}} {
		scale := func(at time.Duration) float64 {
			if at < change {
				return c.before
			}
			return c.after
		}
		arrivals := until(NewArrivals(shape.Constant(100), 1, 3, 0, scale), 2*change, time.Second)
		var before, after float64
		for _, at := range arrivals {
			if at < change {
				before++
			} else {
				after++
			}
		}
		require.InDelta(t, 10_000*c.before, before, 4.5*math.Sqrt(10_000*c.before))
		require.InDelta(t, 10_000*max(0, c.after), after, 4.5*math.Sqrt(10_000*max(0, c.after)))
	}
}

func TestTheRateAtAnInstantIsTheMeantOne(t *testing.T) {
	launch := shape.LaunchDay(1000, 5000, day)
	a := NewArrivals(launch, 0.5, 1, 0, steady(2))
	require.InDelta(t, launch.Rate(day/2), a.Rate(day/2), 1e-9)
	require.Zero(t, NewArrivals(launch, 1, 1, 0, steady(-1)).Rate(day/2))
}

func BenchmarkArrivals(b *testing.B) {
	a := NewArrivals(shape.LaunchDay(1000, 5000, day), 1, 1, 0, steady(1))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := a.Next(math.MaxInt64); !ok {
			b.Fatal("the process ended")
		}
	}
}

func TestAGrainFollowsAnother(t *testing.T) {
	for at, next := range map[time.Duration]time.Duration{
		0: Grain, 1: Grain, Grain - 1: Grain, Grain: 2 * Grain, -1: 0, -Grain + 1: 0, -Grain: 0, -Grain - 1: -Grain,
	} {
		require.Equal(t, next, grainAfter(at), at)
	}
}
