package verdict

import (
	"math"
	"sort"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// confidence of every interval and bound that is stated.
const confidence = 0.95

// failureBound returns the largest share of failures that is compatible with
// failed of n, at 95 % confidence: the upper end of the one-sided
// Clopper-Pearson interval, exact for the binomial.
func failureBound(failed, n int64) float64 {
	if n <= 0 || failed >= n {
		return 1
	}
	if failed == 0 {
		return 1 - math.Pow(1-confidence, 1/float64(n))
	}
	// P(X <= failed | p) falls with p; find where it reaches 1 - confidence.
	return bisect(func(p float64) bool { return binomialCDF(failed, n, p) > 1-confidence })
}

// bisect returns where, between 0 and 1, below turns from true to false.
func bisect(below func(float64) bool) float64 {
	lo, hi := 0.0, 1.0
	for range 100 {
		mid := (lo + hi) / 2
		if below(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// binomialCDF returns P(X <= k) of n trials with success probability p.
func binomialCDF(k, n int64, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n:
		return 1
	}
	return incompleteBeta(1-p, float64(n-k), float64(k+1))
}

// incompleteBeta returns the regularised incomplete beta function I_x(a, b), by
// its continued fraction.
func incompleteBeta(x, a, b float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= 1 {
		return 1
	}
	if x > (a+1)/(a+b+2) { // the fraction converges fast on the other side only
		return 1 - incompleteBeta(1-x, b, a)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log1p(-x))
	return front * betaFraction(x, a, b) / a
}

// betaFraction evaluates the continued fraction by Lentz's method.
func betaFraction(x, a, b float64) float64 {
	const tiny, enough = 1e-300, 1e-15
	guard := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/guard(1-(a+b)*x/(a+1))
	f := d
	for i := 1; i < 100_000; i++ {
		m := float64(i)
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d, c = 1/guard(1+even*d), guard(1+even/c)
		f *= d * c
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d, c = 1/guard(1+odd*d), guard(1+odd/c)
		step := d * c
		f *= step
		if math.Abs(step-1) < enough {
			break
		}
	}
	return f
}

// quantileRanks returns the ranks (from 1) of the order statistics that hold
// the q-quantile of n samples between them at 95 %, whatever the distribution.
// hi is n+1 when there are too few samples for an upper end.
func quantileRanks(n int64, q float64) (lo, hi int64) {
	tail := (1 - confidence) / 2
	// The number of samples below the quantile is binomial(n, q).
	lo = int64(sort.Search(int(n), func(k int) bool { return binomialCDF(int64(k), n, q) > tail }))
	hi = int64(sort.Search(int(n), func(k int) bool { return binomialCDF(int64(k), n, q) >= 1-tail })) + 1
	return max(lo, 1), hi
}

// nearestRank returns the rank (from 1) of the q-quantile of n samples.
func nearestRank(n int64, q float64) int64 {
	return min(max(int64(math.Ceil(q*float64(n)-1e-9)), 1), n)
}

// latencies is a histogram of latencies: 1 µs to 60 s, three digits. What took
// longer counts as 60 s.
type latencies struct{ h *hdrhistogram.Histogram }

const longest = 60 * time.Second

func newLatencies(digits int) latencies {
	return latencies{hdrhistogram.New(1, longest.Microseconds(), digits)}
}

func (l latencies) add(ns int64) {
	us := min(max(ns/1000, 1), longest.Microseconds())
	// Only values outside the histogram's range are errors, and us is inside.
	_ = l.h.RecordValue(us)
}

// quantile returns the q-quantile, 0 when there is none.
func (l latencies) quantile(q float64) time.Duration {
	return l.atRank(nearestRank(l.h.TotalCount(), q))
}

// atRank returns the value of the sample of the given rank (from 1).
func (l latencies) atRank(rank int64) time.Duration {
	n := l.h.TotalCount()
	if n == 0 {
		return 0
	}
	// The histogram names the upper end of a value's step.
	return min(time.Duration(l.h.ValueAtPercentile(100*float64(rank)/float64(n)))*time.Microsecond, longest)
}

// interval returns the q-quantile's 95 % interval; bounded is false when too
// few samples leave it without an upper end.
func (l latencies) interval(q float64) (lo, hi time.Duration, bounded bool) {
	n := l.h.TotalCount()
	if n == 0 {
		return 0, 0, false
	}
	from, to := quantileRanks(n, q)
	if to > n {
		return l.atRank(from), l.atRank(n), false
	}
	return l.atRank(from), l.atRank(to), true
}
