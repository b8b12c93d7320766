package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"meshsim.dev/meshsim/results"
)

// gauge is a budget's figure drawn: what was measured with its interval, and
// what is allowed.
type gauge struct {
	Value, Low, High string // x of each; Low and High are "" without an interval
	Wide             string // of the interval
	Limit            string
	AllowedX         string // of the part that the budget allows
	AllowedWide      string
	Margin           string // in words
	Inside           bool
	Words            string
}

const gaugeWidth = 120

// newGauge returns nil where there is nothing to draw. Shares are drawn by what
// is missing to the whole: 99.95 and 99.99 % are worlds apart.
func newGauge(f *results.Figure) *gauge {
	if f == nil || !finite(f.Value) || !finite(f.Limit) {
		return nil
	}
	value, limit, low, high := f.Value, f.Limit, f.Low, f.High
	if f.Unit == "ratio" && f.AtLeast {
		value, limit = 1-value, 1-limit
		low, high = flip(f.High), flip(f.Low)
	}
	top, bottom := max(value, limit, 0), min(value, 0)
	for _, end := range []*float64{low, high} {
		if end != nil && finite(*end) {
			top, bottom = max(top, *end), min(bottom, *end)
		}
	}
	if top-bottom <= 0 { // a zero budget that holds
		top = bottom + 1
	}
	top += (top - bottom) * 0.25
	x := func(v float64) float64 { return (min(max(v, bottom), top) - bottom) / (top - bottom) * gaugeWidth }
	g := &gauge{Value: num(x(value)), Limit: num(x(limit)), AllowedX: "0", AllowedWide: num(x(limit)), Inside: f.Margin() >= 0, Margin: marginText(*f)}
	if low != nil || high != nil {
		from, to := value, value
		if low != nil {
			from = *low
		}
		if high != nil {
			to = *high
		}
		g.Low, g.High, g.Wide = num(x(from)), num(x(to)), num(max(x(to)-x(from), 1))
	}
	g.Words = strings.Join(notEmpty(figureText(*f), g.Margin), ", ")
	return g
}

func flip(v *float64) *float64 {
	if v == nil {
		return nil
	}
	f := 1 - *v
	return &f
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// marginText says how far the worse end of the interval is from the limit.
func marginText(f results.Figure) string {
	m := f.Margin()
	switch {
	case m == 0 && f.Limit == 0:
		return "none allowed, none seen"
	case m >= 0 && strings.HasPrefix(inUnit(m, f.Unit), "0 "): // of a share, less than is written
		return "nothing to spare"
	case m >= 0:
		return inUnit(m, f.Unit) + " to spare"
	default:
		return inUnit(-m, f.Unit) + " over"
	}
}

// figureText is the value with its interval.
func figureText(f results.Figure) string {
	text := inUnit(f.Value, f.Unit)
	switch {
	case f.Low != nil && f.High != nil:
		text += fmt.Sprintf(" (95 %%: %s to %s)", inUnit(*f.Low, f.Unit), inUnit(*f.High, f.Unit))
	case f.Low != nil:
		text += fmt.Sprintf(" (95 %%: at least %s)", inUnit(*f.Low, f.Unit))
	case f.High != nil:
		text += fmt.Sprintf(" (95 %%: at most %s)", inUnit(*f.High, f.Unit))
	}
	return text
}

// inUnit writes a number as its unit is read.
func inUnit(v float64, unit string) string {
	switch unit {
	case "ratio":
		return strconv.FormatFloat(math.Round(v*1e6)/1e4, 'f', -1, 64) + " %"
	case "ms":
		return strings.TrimSuffix(fmt.Sprintf("%.2f", v), ".00") + " ms"
	case "s":
		return fmt.Sprintf("%.3g s", v)
	case "": // of a query, whose unit nobody knows
		return fmt.Sprintf("%.4g", v)
	}
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return count(int64(v)) + " " + unit
	}
	return fmt.Sprintf("%.4g %s", v, unit)
}
