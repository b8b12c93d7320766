package verdict

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheFailureBoundIsExact(t *testing.T) {
	// The right-hand figures were worked out by summing the binomial terms.
	for _, c := range []struct {
		failed, n int64
		served    float64 // in percent, at least
	}{
		{0, 5000, 99.9401032997685},
		{1, 500, 99.05477177919248},
		{4, 500, 98.17871482038935},
		{1, 6000, 99.92096025427774},
		{3, 6000, 99.87082357515688},
		{12, 6000, 99.67615816219897},
		{1, 9486, 99.95000075390544},
	} {
		require.InDelta(t, c.served, 100*(1-failureBound(float64(c.failed), float64(c.n))), 1e-8, "%+v", c)
	}
	require.Equal(t, 1.0, failureBound(5, 5))
	require.Equal(t, 1.0, failureBound(0, 0))
	require.InDelta(t, 1-math.Pow(0.05, 1/6000.0), failureBound(0, 6000), 1e-15)
}

func TestTheFailureBoundIsHeldAgainstAShareAsItIsFound(t *testing.T) {
	for _, c := range [][2]float64{{0, 1}, {0, 6000}, {1, 9486}, {12, 6000}, {2500, 5e6}} {
		bound := failureBound(c[0], c[1])
		require.True(t, boundAtMost(c[0], c[1], bound*(1+1e-9)), c)
		require.False(t, boundAtMost(c[0], c[1], bound*(1-1e-9)), c)
	}
	require.False(t, boundAtMost(5, 5, 0.999))
}

func TestTheFailureBoundHoldsForLargeCounts(t *testing.T) {
	got := failureBound(2500, 5_000_000)
	require.InDelta(t, 0.0005-1.645*math.Sqrt(0.0005/5e6), failureFloor(2500, 5_000_000), 2e-6)
	require.InDelta(t, 0.0005+1.645*math.Sqrt(0.0005/5e6), got, 2e-6, "near the normal approximation")
}

func TestTheFailureFloorIsExact(t *testing.T) {
	// Worked out by summing the binomial terms: with this share, so many failures or
	// more come about in one run of twenty.
	for _, c := range []struct {
		failed, n float64
	}{{1, 500}, {4, 6000}, {7, 6000}, {31, 6000}} {
		p := failureFloor(c.failed, c.n)
		below, term := 0.0, math.Pow(1-p, c.n)
		for k := 0.0; k < c.failed; k++ {
			below += term
			term *= (c.n - k) / (k + 1) * p / (1 - p)
		}
		require.InDelta(t, 0.95, below, 1e-8, "%+v", c)
	}
	require.Zero(t, failureFloor(0, 100))
	require.InDelta(t, math.Pow(0.05, 0.2), failureFloor(5, 5), 1e-12)
}

func TestQuantileRanksHoldTheQuantileBetweenThem(t *testing.T) {
	for _, c := range []struct {
		n, q   float64
		lo, hi float64
	}{{6000, 0.99, 5924, 5956}, {600, 0.9, 525, 555}, {1000, 0.5, 469, 532}, {100, 0.99, 97, 101}, {1, 0.5, 0, 2}} {
		lo, hi := quantileRanks(c.n, c.q)
		require.Equal(t, [2]float64{c.lo, c.hi}, [2]float64{math.Floor(lo), math.Ceil(hi)}, "%+v", c)
	}
}

// What 6,000 alike requests count as is seldom a whole number. Few of them beyond a
// limit are few still: they do not make the slowest of all the upper end.
func TestAFewBeyondALimitAreNoDoubtWhereNeighboursAreAlike(t *testing.T) {
	l := newLatencies(3)
	for i := range 6000 {
		l.add(int64(time.Millisecond))
		if i < 4 {
			l.add(int64(200 * time.Millisecond))
		}
	}
	_, hi, bounded := l.interval(0.99, 11.3)
	require.True(t, bounded)
	require.Less(t, hi, 2*time.Millisecond)
	_, hi, _ = l.interval(0.99, 18)
	require.Greater(t, hi, 100*time.Millisecond, "fewer could be more than one in a hundred by chance")
}

func TestTheNearestRankIsThatOfTheFirstSampleWithEnoughBelow(t *testing.T) {
	for _, c := range []struct {
		n    int64
		q    float64
		rank int64
	}{{100, 0.99, 99}, {1000, 0.999, 999}, {10, 0.5, 5}, {11, 0.5, 6}, {1, 0.01, 1}, {3, 1, 3}} {
		require.Equal(t, c.rank, nearestRank(c.n, c.q), "%+v", c)
	}
}

func TestAHistogramKeepsThreeDigitsUpToAMinute(t *testing.T) {
	l := newLatencies(3)
	for i := 1; i <= 1000; i++ {
		l.add(int64(i) * 1_000_000)
	}
	require.InDelta(t, 0.990, l.quantile(0.99).Seconds(), 0.001)
	require.InDelta(t, 0.500, l.quantile(0.5).Seconds(), 0.0005)
	lo, hi, bounded := l.interval(0.5, 1)
	require.True(t, bounded)
	require.InDelta(t, 0.469, lo.Seconds(), 0.0005)
	require.InDelta(t, 0.532, hi.Seconds(), 0.0006)
	l = newLatencies(3)
	l.add(-5)
	require.Equal(t, time.Microsecond, l.quantile(0.5))
	l.add(int64(time.Hour))
	require.Equal(t, time.Minute, l.quantile(1))
	none := newLatencies(3)
	require.Zero(t, none.quantile(0.5))
	_, _, bounded = none.interval(0.5, 1)
	require.False(t, bounded)
}

// Of many quantile intervals at least 95 in 100 hold the true quantile.
func TestQuantileIntervalsHoldTheTruth(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	const runs, n, q = 1500, 600, 0.9
	truth := -math.Log(1 - q) // of the exponential distribution
	lo, hi := quantileRanks(n, q)
	held := 0
	for range runs {
		v := make([]float64, n)
		for i := range v {
			v[i] = draw.ExpFloat64()
		}
		slices.Sort(v)
		if v[int(lo)-1] <= truth && truth <= v[int(math.Ceil(hi))-1] {
			held++
		}
	}
	require.GreaterOrEqual(t, held, runs*95/100-25)
}

// binomial draws the number of failures of n, jumping from one to the next.
func binomial(draw *rand.Rand, n int, p float64) (k int64) {
	for at := 0; ; k++ {
		at += 1 + int(math.Log(1-draw.Float64())/math.Log(1-p))
		if at > n {
			return k
		}
	}
}

func TestNumbersAreWrittenForReaders(t *testing.T) {
	require.Equal(t, "0", count(0))
	require.Equal(t, "999", count(999))
	require.Equal(t, "1,000", count(1000))
	require.Equal(t, "-1,234,567", count(-1234567))
	require.Equal(t, "99.9999 %", share(0.99999999, 4), "never rounded up to 100")
	require.Equal(t, "100 %", share(1, 4))
	require.Equal(t, "99.95 %", share(0.9995, 4))
	require.Equal(t, "123", millis(123.4))
	require.Equal(t, "12.3", millis(12.34))
	require.Equal(t, "-1.23", millis(-1.234))
	require.Equal(t, "abc…", short("abcdef", 4))
	require.Equal(t, "2 × a, 2 × b, 1 × unnamed", tallied(map[string]int64{"b": 2, "a": 2, "": 1}))
	require.Equal(t, "a, b and 2 more", listed([]string{"a", "b", "c", "d"}, 2))
}
