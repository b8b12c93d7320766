package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ms returns d in milliseconds, to the microsecond.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// millis writes milliseconds with three digits that count.
func millis(v float64) string {
	switch abs := math.Abs(v); {
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// count writes a whole number with thousands set apart.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// share writes a ratio as a percentage. It is cut, never rounded up: 99.9999 %
// must not read as 100 %.
func share(ratio float64, decimals int) string {
	scale := math.Pow(10, float64(decimals))
	cut := math.Floor(ratio*100*scale+1e-9) / scale
	return strconv.FormatFloat(cut, 'f', -1, 64) + " %"
}

// at writes an instant of the run in seconds.
func at(ns int64) string { return fmt.Sprintf("%.1f s", float64(ns)/1e9) }

// short cuts a text to at most n characters, on one line.
func short(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

// tallied writes counts as "31 × http-502, 6 × reset", the most frequent first.
func tallied(counts map[string]int64) string {
	names := slices.Collect(maps.Keys(counts))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s × %s", count(counts[name]), cmp.Or(name, "unnamed"))
	}
	return strings.Join(parts, ", ")
}

// listed writes at most n names and how many more there are.
func listed(names []string, n int) string {
	if len(names) <= n {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:n], ", "), len(names)-n)
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}
