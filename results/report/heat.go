package report

import (
	"fmt"
	"math"
	"strings"

	"meshsim.dev/meshsim/results"
)

// heatLevels is how many shades the heat map has.
const heatLevels = 6

// heat draws how many requests of each bucket took how long: one SVG path a
// shade, the faintest first. A bin's shade is the logarithm of its share in its
// bucket, so that a few slow requests among many are seen.
func heat(line results.Timeline, x func(int64) float64, y func(float64) float64) []string {
	if len(line.HeatMs) == 0 {
		return nil
	}
	shades := make([]strings.Builder, heatLevels)
	for i, b := range line.Buckets {
		for bin, n := range b.Heat {
			if n <= 0 || b.Requests <= 0 || bin > len(line.HeatMs) {
				continue
			}
			top, bottom := binEdges(line.HeatMs, bin)
			from, to := x(int64(i)*line.BucketMs), x(int64(i+1)*line.BucketMs)
			up, down := max(y(top), latencyTop), min(y(bottom), latencyBottom)
			if down <= up {
				continue
			}
			fmt.Fprintf(&shades[shade(float64(n)/float64(b.Requests))], "M%s %sH%sV%sH%sZ", num(from), num(up), num(to), num(down), num(from))
		}
	}
	all := make([]string, 0, heatLevels)
	for i := range shades {
		all = append(all, shades[i].String())
	}
	return all
}

// binEdges returns the latencies that a bin reaches to and from.
func binEdges(edges []float64, bin int) (top, bottom float64) {
	last := len(edges) - 1
	switch {
	case bin == 0:
		return edges[0], edges[0] / 4
	case bin > last:
		return edges[last] * 4, edges[last]
	}
	return edges[bin], edges[bin-1]
}

// shade is the level of a share: a tenth of a percent is the faintest.
func shade(share float64) int {
	level := int((3 + math.Log10(min(share, 1))) / 3 * heatLevels)
	return min(max(level, 0), heatLevels-1)
}
