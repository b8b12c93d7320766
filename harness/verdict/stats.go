package verdict

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"gonum.org/v1/gonum/mathext"

	"meshsim.dev/meshsim/scenarios/budget"
)

// confidence of every interval and bound that is stated.
const confidence = budget.Confidence

// failureBound returns the largest share of failures that is compatible with
// failed of n, at 95 % confidence: the upper end of the one-sided
// Clopper-Pearson interval, exact for the binomial. Both may be fractions,
// where dependent requests count for fewer independent ones.
func failureBound(failed, n float64) float64 {
	if n <= 0 || failed >= n {
		return 1
	}
	if failed == 0 {
		return -math.Expm1(math.Log(1-confidence) / n)
	}
	return bisect(func(p float64) bool { return mathext.RegIncBeta(failed+1, n-failed, p) < confidence })
}

// boundAtMost tells whether failureBound is at most a share between 0 and 1,
// which is asked more quickly than the bound is found.
func boundAtMost(failed, n, share float64) bool {
	return failed < n && mathext.RegIncBeta(failed+1, n-failed, share) >= confidence
}

// failureFloor returns the smallest share of failures that is compatible with
// failed of n, at 95 % confidence: the lower end of the one-sided interval.
func failureFloor(failed, n float64) float64 {
	switch {
	case n <= 0 || failed <= 0:
		return 0
	case failed >= n:
		return math.Pow(1-confidence, 1/n)
	}
	return bisect(func(p float64) bool { return mathext.RegIncBeta(failed, n-failed+1, p) < 1-confidence })
}

// bisect returns where, between 0 and 1, below turns from true to false.
func bisect(below func(float64) bool) float64 {
	lo, hi := 0.0, 1.0
	for range 60 {
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
	return mathext.RegIncBeta(float64(n-k), float64(k+1), 1-p)
}

// quantileRanks returns the ranks (from 1) of the order statistics that hold
// the q-quantile of n samples between them at 95 %, whatever the distribution.
// Where n is what dependent samples count as, ranks lie between its whole
// numbers, too: the binomial is continued by the incomplete beta function, as in
// failureBound. hi is beyond n when there are too few samples for an upper end.
func quantileRanks(n, q float64) (lo, hi float64) {
	tail := (1 - confidence) / 2
	// The number of samples below the quantile is binomial(n, q).
	atLeast := func(rank float64) float64 { return mathext.RegIncBeta(rank, n-rank+1, q) }
	lo = (n + 1) * bisect(func(part float64) bool { return atLeast(part*(n+1)) > 1-tail })
	hi = (n + 1) * bisect(func(part float64) bool { return atLeast(part*(n+1)) > tail })
	return lo, hi
}

// nearestRank returns the rank (from 1) of the q-quantile of n samples.
func nearestRank(n int64, q float64) int64 {
	return min(max(int64(math.Ceil(q*float64(n)-1e-9)), 1), n)
}

// latencies is a histogram of latencies: 1 µs to 60 s, of so many digits. What
// took longer counts as 60 s. Its memory is taken when the first one comes.
type latencies struct {
	digits int
	h      *hdrhistogram.Histogram
}

const longest = 60 * time.Second

func newLatencies(digits int) latencies { return latencies{digits: digits} }

func (l *latencies) add(ns int64) {
	if l.h == nil {
		l.h = hdrhistogram.New(1, longest.Microseconds(), l.digits)
	}
	us := min(max(ns/1000, 1), longest.Microseconds())
	// Only values outside the histogram's range are errors, and us is inside.
	_ = l.h.RecordValue(us)
}

// count returns how many there are.
func (l *latencies) count() int64 {
	if l.h == nil {
		return 0
	}
	return l.h.TotalCount()
}

// quantile returns the q-quantile, 0 when there is none.
func (l *latencies) quantile(q float64) time.Duration {
	return l.atRank(nearestRank(l.count(), q))
}

// atRank returns the value of the sample of the given rank (from 1).
func (l *latencies) atRank(rank int64) time.Duration {
	n := l.count()
	if n == 0 {
		return 0
	}
	// The histogram names the upper end of a value's step.
	return min(time.Duration(l.h.ValueAtPercentile(100*float64(rank)/float64(n)))*time.Microsecond, longest)
}

// interval returns the q-quantile's 95 % interval where the samples count for
// one in so many independent ones; bounded is false when too few leave it
// without an upper end.
func (l *latencies) interval(q, dispersion float64) (lo, hi time.Duration, bounded bool) {
	n := l.count()
	if n == 0 {
		return 0, 0, false
	}
	scale := max(dispersion, 1)
	alone := max(float64(n)/scale, 1)
	from, to := quantileRanks(alone, q)
	first := max(int64(math.Floor(from*scale)), 1)
	last := int64(math.Ceil(to * scale))
	return l.atRank(first), l.atRank(min(last, n)), last <= n
}
