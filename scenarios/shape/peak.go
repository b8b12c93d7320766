package shape

import "time"

// PeakOf returns the highest rate of a shape between two instants, and the first
// instant at which it has it. It looks at all bends, and between them often
// enough to be off by a hundredth at most.
func PeakOf(s Shape, from, to time.Duration) (at time.Duration, rate float64) {
	at, rate = from, s.Rate(from)
	look := func(t time.Duration) {
		if r := s.Rate(t); t < to && r > rate {
			at, rate = t, r
		}
	}
	begin := from
	for _, end := range append(s.bends(from, to), to) {
		for i := range looks {
			look(begin + time.Duration(float64(end-begin)*float64(i)/looks))
		}
		look(end - 1) // of a jump down
		begin = end
	}
	return at, rate
}
