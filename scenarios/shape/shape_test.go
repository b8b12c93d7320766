package shape

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const day = 90 * time.Second

// sums integrates a rate the slow way, in steps that do not step over a bend.
func sums(s Shape, from, to time.Duration) float64 {
	total := 0.0
	begin := from
	for _, end := range append(s.bends(from, to), to) {
		const steps = 400
		width := float64(end-begin) / steps
		for i := range steps {
			total += s.Rate(begin+time.Duration((float64(i)+0.5)*width)) * width / float64(time.Second)
		}
		begin = end
	}
	return total
}

// any makes a shape of all kinds and depths from its randomness.
func anyShape(rng *rand.Rand, depth int) Shape {
	span := func(most time.Duration) time.Duration { return most/10 + time.Duration(rng.Int64N(int64(most))) }
	some := func(n int) []Shape {
		all := make([]Shape, 1+rng.IntN(n))
		for i := range all {
			all[i] = anyShape(rng, depth-1)
		}
		return all
	}
	kinds := 7
	if depth > 0 {
		kinds = 13
	}
	switch rng.IntN(kinds) {
	case 0:
		return Constant(rng.Float64() * 50)
	case 1:
		return Ramp(rng.Float64()*50, rng.Float64()*50, span(5*time.Minute))
	case 2:
		return Step(rng.Float64()*50, rng.Float64()*50, span(5*time.Minute))
	case 3:
		p := Peak{At: span(time.Minute), Rise: span(10 * time.Second), Hold: span(10 * time.Second), Fall: span(10 * time.Second)}
		if rng.IntN(2) == 0 {
			p.Every = p.Rise + p.Hold + p.Fall + span(time.Minute)
		}
		return Spike(rng.Float64()*20, rng.Float64()*100, p)
	case 4:
		return Diurnal(float64(rng.IntN(10_000)), rng.Float64(), rng.Float64(), time.Second+span(10*time.Minute))
	case 5:
		return LaunchDay(rng.IntN(2000), rng.IntN(8000), time.Second+span(10*time.Minute))
	case 6:
		counts := make([]int64, 1+rng.IntN(40))
		for i := range counts {
			counts[i] = rng.Int64N(200)
		}
		part := span(20 * time.Second)
		return Recorded(counts, part, part*time.Duration(len(counts)-1)+span(2*part))
	case 7:
		return Sum(some(3)...)
	case 8:
		return Max(some(3)...)
	case 9:
		return Scale(anyShape(rng, depth-1), rng.Float64()*4)
	case 10:
		return Compress(anyShape(rng, depth-1), 0.2+rng.Float64()*5)
	case 11:
		delays := make([]time.Duration, 1+rng.IntN(5))
		for i := range delays {
			delays[i] = time.Duration(rng.Int64N(int64(20 * time.Second)))
		}
		return Later(anyShape(rng, depth-1), delays)
	default:
		var parts []Part
		for _, s := range some(3) {
			parts = append(parts, Part{s, time.Second + span(2*time.Minute)})
		}
		if rng.IntN(2) == 0 {
			parts[len(parts)-1].Lasts = 0
		}
		return Sequence(parts...)
	}
}

func eachShape(t *testing.T, shapes uint64, check func(t *testing.T, s Shape, rng *rand.Rand)) {
	for seed := range shapes {
		rng := rand.New(rand.NewPCG(seed, 4))
		s := anyShape(rng, 2)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Log(s)
				}
			}()
			check(t, s, rng)
		})
	}
}

func TestTheCountIsTheRatesIntegral(t *testing.T) {
	eachShape(t, 120, func(t *testing.T, s Shape, rng *rand.Rand) {
		from := time.Duration(rng.Int64N(int64(10 * time.Minute)))
		to := from + time.Duration(rng.Int64N(int64(10*time.Minute)))
		want := sums(s, from, to)
		require.InDelta(t, want, s.Count(from, to), 1e-3+1e-4*want, "%s to %s", from, to)
		require.Zero(t, s.Count(to, from))
		require.Zero(t, s.Count(from, from))
	})
}

func TestCountsOfStretchesAddUp(t *testing.T) {
	eachShape(t, 120, func(t *testing.T, s Shape, rng *rand.Rand) {
		const end = 20 * time.Minute
		whole, parts := s.Count(0, end), 0.0
		for at := time.Duration(0); at < end; {
			next := min(at+1+time.Duration(rng.Int64N(int64(time.Minute))), end)
			part := s.Count(at, next)
			require.GreaterOrEqual(t, part, 0.0)
			parts += part
			at = next
		}
		require.InDelta(t, whole, parts, 1e-3+1e-6*whole)
	})
}

func TestARateIsNeverLessThanNothingNorAboveItsBound(t *testing.T) {
	eachShape(t, 120, func(t *testing.T, s Shape, rng *rand.Rand) {
		for range 2000 {
			at := time.Duration(rng.Int64N(int64(time.Hour))) - 5*time.Minute
			rate := s.Rate(at)
			require.GreaterOrEqual(t, rate, 0.0, at)
			require.LessOrEqual(t, rate, s.Bound()*(1+1e-12), at)
		}
	})
}

func TestTheMeanIsThatOfTheLongRun(t *testing.T) {
	eachShape(t, 20, func(t *testing.T, s Shape, _ *rand.Rand) {
		from := s.Settled()
		lasts := 10 * time.Hour
		if p := s.period(); p > 0 {
			lasts = min(p*max(1, lasts/p), 40*time.Hour)
		}
		want := s.Mean() * lasts.Seconds()
		require.InDelta(t, want, s.Count(from, from+lasts), 1+0.02*want)
	})
}

func TestAfterIsTheInverseOfTheCount(t *testing.T) {
	eachShape(t, 20, func(t *testing.T, s Shape, rng *rand.Rand) {
		from := time.Duration(rng.Int64N(int64(10 * time.Minute)))
		n := rng.Float64() * 20_000
		at, ok := After(s, from, n)
		if !ok {
			require.Less(t, s.Count(from, from+longest), n*(1+1e-9))
			return
		}
		slack := 1e-6*n + 2*s.Bound()*1e-9 + 1e-6
		require.GreaterOrEqual(t, s.Count(from, at), n-slack)
		require.LessOrEqual(t, s.Count(from, at-2), n+slack)
		require.Greater(t, at, from)
	})
	at, ok := After(Constant(0), time.Minute, 0)
	require.True(t, ok)
	require.Equal(t, time.Minute, at)
	_, ok = After(Constant(0), 0, 1)
	require.False(t, ok, "silence never gets anywhere")
	at, ok = After(Step(0, 10, time.Hour), 0, 5)
	require.True(t, ok)
	require.InDelta(t, float64(time.Hour+time.Second/2), float64(at), 10)
}

func TestBendsAreInOrderAndBetween(t *testing.T) {
	eachShape(t, 120, func(t *testing.T, s Shape, rng *rand.Rand) {
		from := time.Duration(rng.Int64N(int64(10 * time.Minute)))
		to := from + time.Duration(rng.Int64N(int64(10*time.Minute)))
		last := from
		for _, b := range s.bends(from, to) {
			require.Greater(t, b, last)
			last = b
		}
		require.LessOrEqual(t, last, max(from, to))
	})
}

func TestCompositionKeepsItsLaws(t *testing.T) {
	eachShape(t, 120, func(t *testing.T, a Shape, rng *rand.Rand) {
		b := anyShape(rng, 1)
		const end = 7 * time.Minute
		by := 0.2 + rng.Float64()*10
		countA, countB := a.Count(0, end), b.Count(0, end)
		about := func(want, got float64, law string) {
			require.InDelta(t, want, got, 1e-3+1e-5*want, law)
		}
		about(countA+countB, Sum(a, b).Count(0, end), "a sum's count is the sum of the counts")
		about(Sum(b, a).Count(0, end), Sum(a, b).Count(0, end), "a sum has no order")
		about(by*countA, Scale(a, by).Count(0, end), "a scaled shape has so many times the requests")
		about(countA, Compress(a, by).Count(0, scaleTime(end, 1/by)), "a compressed shape has the same requests in less time")
		about(countA, Compress(Compress(a, by), 1/by).Count(0, end), "compressing back gives the shape again")
		about(countA, Max(a, a).Count(0, end), "the highest of one is that one")
		about(countA, Max(a, Constant(0)).Count(0, end), "nothing is never the highest")
		about(Max(a, b).Count(0, end), Max(b, a).Count(0, end), "the highest has no order")
		most := Max(a, b).Count(0, end)
		require.GreaterOrEqual(t, most, max(countA, countB)*(1-1e-5)-1e-3)
		require.LessOrEqual(t, most, (countA+countB)*(1+1e-5)+1e-3)
		about(countA+countB, Sequence(Part{a, end}, Part{b, end}).Count(0, 2*end), "a sequence has the requests of its parts")
		about(2*(countA+countB), Sequence(Part{a, end}, Part{b, end}).Count(0, 4*end), "and again")
		at := time.Duration(rng.Int64N(int64(end)))
		require.Equal(t, b.Rate(at), Sequence(Part{a, end}, Part{b, 0}).Rate(end+at), "a part's clock starts when its turn comes")
		require.Equal(t, max(a.Rate(at), b.Rate(at)), Max(a, b).Rate(at))
		require.Equal(t, a.Rate(at)+b.Rate(at), Sum(a, b).Rate(at))
	})
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
			s := LaunchDay(c.requests, c.launch, c.day)
			want := float64(max(c.requests, c.launch))
			require.InEpsilon(t, want, s.Count(0, c.day), 1e-9)
			require.InEpsilon(t, want, s.Mean()*c.day.Seconds(), 1e-9)
			require.InEpsilon(t, want, s.Count(3*c.day, 4*c.day), 1e-9, "every day")
			require.InEpsilon(t, want, sums(s, 0, c.day), 1e-4)
		})
	}
}

func TestTheLaunchIsAWaveThatOneMachineCanHold(t *testing.T) {
	s := LaunchDay(1000, 5000, day)
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

func TestTheLaunchDaysRateHasNoJumps(t *testing.T) {
	s := LaunchDay(1000, 5000, day)
	for at := time.Duration(0); at < 2*day; at += time.Millisecond {
		require.InDelta(t, s.Rate(at), s.Rate(at+time.Millisecond), 0.05*s.Mean(), "at %s", at)
	}
	require.InDelta(t, s.Rate(-day/4), s.Rate(3*day/4), 1e-9)
}

func TestALaunchDayIsTheSameDayInLessTime(t *testing.T) {
	real, short := LaunchDay(1000, 5000, 24*time.Hour), LaunchDay(1000, 5000, 200*time.Second)
	compressed := Compress(real, 432)
	for at := time.Duration(0); at < 400*time.Second; at += 777 * time.Millisecond {
		require.InEpsilon(t, short.Rate(at), compressed.Rate(at), 1e-6)
		require.InDelta(t, short.Count(0, at), compressed.Count(0, at), 1e-6)
	}
}

func TestSimpleShapesAreWhatTheyAreCalled(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name  string
		shape Shape
		at    map[time.Duration]float64
		ten   float64 // requests in the first ten seconds
		mean  float64
	}{
		{"a constant rate", Constant(5), map[time.Duration]float64{-s: 5, 0: 5, time.Hour: 5}, 50, 5},
		{"a rate below nothing", Constant(-5), map[time.Duration]float64{0: 0}, 0, 0},
		{"a ramp", Ramp(0, 10, 10*s), map[time.Duration]float64{0: 0, 5 * s: 5, 10 * s: 10, time.Hour: 10}, 50, 10},
		{"a ramp down", Ramp(10, 0, 5*s), map[time.Duration]float64{0: 10, 5 * s: 0, 9 * s: 0}, 25, 0},
		{"a step", Step(1, 9, 5*s), map[time.Duration]float64{5*s - 1: 1, 5 * s: 9, 9 * s: 9}, 50, 9},
		{"a step at once", Step(1, 9, 0), map[time.Duration]float64{0: 9, s: 9}, 90, 9},
		{"a spike", Spike(1, 11, Peak{At: 2 * s, Rise: 2 * s, Hold: s, Fall: 2 * s}), map[time.Duration]float64{s: 1, 3 * s: 6, 4 * s: 11, 5 * s: 11, 6 * s: 6, 8 * s: 1}, 40, 1},
		{"a spike that comes again", Spike(0, 10, Peak{At: s, Hold: s, Every: 3 * s}), map[time.Duration]float64{0: 0, s: 10, 2 * s: 0, 4 * s: 10, 5 * s: 0, 301 * s: 10}, 30, 10. / 3},
		{"a recording", Recorded([]int64{10, 30}, 2*s, 4*s), map[time.Duration]float64{0: 5, s: 5, 2 * s: 15, 4 * s: 5, 6 * s: 15, -s: 15}, 90, 10},
		{"a recording with a shorter end", Recorded([]int64{10, 30}, 2*s, 3*s), map[time.Duration]float64{0: 5, 2 * s: 30, 3 * s: 5}, 125, 40. / 3},
		{"a sequence that ends with a rate", Sequence(Part{Constant(1), 2 * s}, Part{Constant(3), 0}), map[time.Duration]float64{s: 1, 2 * s: 3, time.Hour: 3}, 26, 3},
		{"a sequence that begins again", Sequence(Part{Constant(1), 2 * s}, Part{Constant(3), 2 * s}), map[time.Duration]float64{s: 1, 2 * s: 3, 4 * s: 1, 7 * s: 3}, 18, 2},
		{"the highest of two that cross", Max(Constant(5), Ramp(0, 10, 10*s)), map[time.Duration]float64{0: 5, 4 * s: 5, 8 * s: 8}, 62.5, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			for at, want := range c.at {
				require.InDelta(t, want, c.shape.Rate(at), 1e-9, "at %s", at)
			}
			require.InDelta(t, c.ten, c.shape.Count(0, 10*s), 1e-6)
			require.InDelta(t, c.mean, c.shape.Mean(), 1e-9)
			require.NotEmpty(t, c.shape.String())
		})
	}
}

func BenchmarkRate(b *testing.B) {
	s := LaunchDay(1000, 5000, day)
	at := time.Duration(0)
	for b.Loop() {
		at += time.Millisecond
		_ = s.Rate(at)
	}
}

func TestThePeakIsTheHighestRateThereIs(t *testing.T) {
	eachShape(t, 120, func(t *testing.T, s Shape, rng *rand.Rand) {
		from := time.Duration(rng.Int64N(int64(time.Minute)))
		to := from + time.Second + time.Duration(rng.Int64N(int64(5*time.Minute)))
		at, peak := PeakOf(s, from, to)
		require.Equal(t, s.Rate(at), peak)
		require.True(t, from <= at && at < to)
		for range 1000 {
			require.LessOrEqual(t, s.Rate(from+time.Duration(rng.Int64N(int64(to-from)))), peak*1.01+1e-9)
		}
	})
}

func TestWhatComesLaterIsAsMuchInTheEnd(t *testing.T) {
	s := Later(Spike(0, 60, Peak{At: 10 * time.Second, Hold: 10 * time.Second}), []time.Duration{8 * time.Second, 0})
	require.Equal(t, []float64{0, 30, 60, 30, 0}, []float64{
		s.Rate(9 * time.Second), s.Rate(12 * time.Second), s.Rate(19 * time.Second), s.Rate(21 * time.Second), s.Rate(29 * time.Second),
	})
	require.InDelta(t, 600, s.Count(0, time.Minute), 1e-9)
	require.InDelta(t, 60, s.Count(10*time.Second, 12*time.Second), 1e-9)
	require.Equal(t, 28*time.Second, s.Settled())
	require.Equal(t, "spike from 0/s to 60/s at 10s for 10s, later by 4s on average", s.String())
}
