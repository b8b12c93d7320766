package plot

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// count writes a whole number with thousands apart.
func count(v float64) string {
	s := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rate writes requests a second.
func rate(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return count(v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// clock writes a time since the beginning, as short as it gets.
func clock(d time.Duration) string {
	if d < time.Second && d > 0 {
		return d.String()
	}
	d = d.Round(time.Second)
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// summary says what is sent and what that is in the shop itself.
func (f *Figure) summary() string {
	return fmt.Sprintf("%s requests in %s: %s a second on average, %s at most (after %s). Time goes by %s times as fast as in the shop, which would see %s and %s a day.",
		count(f.Requests), clock(f.Lasts), rate(f.Mean), rate(f.Peak), clock(f.PeakAt), rate(f.Faster), count(f.RealMean), count(f.RealPeak))
}

// top is a round number that nothing goes above.
func top(peak float64) float64 {
	if peak <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(peak)))
	for _, by := range []float64{1, 2, 4, 5, 6, 8, 10} {
		if by*unit >= peak*(1-1e-9) {
			return by * unit
		}
	}
	return 10 * unit
}

// ticks returns round times from 0 on, most of them at most.
func ticks(lasts time.Duration, most int) []time.Duration {
	var step time.Duration
	for _, step = range []time.Duration{
		time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
		15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
		30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	} {
		if lasts/step < time.Duration(most) {
			break
		}
	}
	for lasts/step >= time.Duration(most) {
		step *= 2
	}
	var all []time.Duration
	for at := time.Duration(0); at <= lasts; at += step {
		all = append(all, at)
	}
	return all
}
