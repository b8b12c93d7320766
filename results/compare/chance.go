package compare

import "math"

// splitChance is the two-sided probability that of all failures of two runs at
// least so unequal a part falls to one, had both the same chance to fail.
func splitChance(failedA, a, failedB, b int64) float64 {
	n := failedA + failedB
	if n == 0 {
		return 1
	}
	share := float64(b) / float64(a+b)
	less := atMost(failedB, n, share)
	more := 1 - atMost(failedB-1, n, share)
	return min(1, 2*min(less, max(more, 0)))
}

// atMost is the probability of at most k hits among n with chance p each.
func atMost(k, n int64, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n:
		return 1
	case p <= 0:
		return 1
	case p >= 1:
		return 0
	}
	sum := 0.0
	for i := int64(0); i <= k; i++ {
		sum += math.Exp(logChoose(n, i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(sum, 1)
}

func logChoose(n, k int64) float64 {
	of := func(v int64) float64 {
		l, _ := math.Lgamma(float64(v) + 1)
		return l
	}
	return of(n) - of(k) - of(n-k)
}
