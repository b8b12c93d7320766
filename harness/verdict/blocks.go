package verdict

import "math"

// blockLength returns how many neighbouring pairs are to be drawn together: the
// length that is best for the variance of a mean (Politis and White 2004, with
// their correction of 2009, for circular blocks), of what a percentile's error
// is made of: who lies above it.
func blockLength(a, b []float64, atA, atB float64) int {
	above := func(v []float64, at float64) []float64 {
		s := make([]float64, len(v))
		for i := range v {
			if v[i] > at {
				s[i] = 1
			}
		}
		return s
	}
	inA, inB := above(a, atA), above(b, atB)
	apart := make([]float64, len(a))
	for i := range apart {
		apart[i] = inB[i] - inA[i]
	}
	longest := 1.0
	for _, s := range [][]float64{inA, inB, apart} {
		longest = max(longest, bestBlock(s))
	}
	return int(math.Ceil(longest))
}

// maxLag bounds the work on very long lists.
const maxLag = 400

func bestBlock(s []float64) float64 {
	n := float64(len(s))
	if n < 20 {
		return 1
	}
	run := max(5, int(math.Ceil(math.Sqrt(math.Log10(n)))))
	lags := min(int(math.Ceil(math.Sqrt(n)))+run, maxLag, len(s)-1)
	r := autocovariances(s, lags)
	if r[0] <= 0 {
		return 1
	}
	// The first lag after which so many in a row are none.
	none := 2 * math.Sqrt(math.Log10(n)/n)
	last, quiet := lags, 0
	for k := 1; k <= lags; k++ {
		if math.Abs(r[k]/r[0]) >= none {
			quiet = 0
			continue
		}
		if quiet++; quiet == run {
			last = k - run
			break
		}
	}
	m := float64(min(2*max(last, 1), lags))
	sum, weighted := r[0], 0.0
	for k := 1; float64(k) <= m; k++ {
		flat := min(1, 2*(1-float64(k)/m))
		sum += 2 * flat * r[k]
		weighted += 2 * flat * float64(k) * r[k]
	}
	if sum <= 0 {
		return 1
	}
	best := math.Cbrt(1.5*weighted*weighted/(sum*sum)) * math.Cbrt(n)
	return min(max(best, 1), 3*math.Sqrt(n), n/3)
}

func autocovariances(s []float64, lags int) []float64 {
	mean := 0.0
	for _, v := range s {
		mean += v
	}
	mean /= float64(len(s))
	r := make([]float64, lags+1)
	for k := range r {
		for i := k; i < len(s); i++ {
			r[k] += (s[i] - mean) * (s[i-k] - mean)
		}
		r[k] /= float64(len(s))
	}
	return r
}
