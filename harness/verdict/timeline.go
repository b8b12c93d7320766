package verdict

import (
	"slices"
	"sort"
	"time"

	"meshsim.dev/meshsim/results"
)

// timeline cuts the run into equal buckets. It begins with buckets of a second
// and doubles their width whenever there would be too many; histograms are
// merged then, so that no percentile is ever averaged.
type timeline struct {
	width   time.Duration
	buckets []*bucket // nil where nothing was scheduled
}

type bucket struct {
	requests, failed int64
	waited           latencies
	heat             [heatBins]int64
}

const (
	maxBuckets = 480
	heatBins   = 20
)

// heatEdges are the upper edges of the heat map's bins in milliseconds, of which
// each is the half as wide again as the one before; the last bin has none.
var heatEdges = func() (edges [heatBins - 1]float64) {
	for i, e := 0, 1.0; i < len(edges); i, e = i+1, e*1.5 {
		edges[i] = float64(int(e*100+0.5)) / 100
	}
	return edges
}()

func newTimeline() *timeline { return &timeline{width: time.Second} }

func (t *timeline) add(r *results.Request) {
	for r.Scheduled/int64(t.width) >= maxBuckets {
		t.widen()
	}
	i := int(r.Scheduled / int64(t.width))
	for len(t.buckets) <= i {
		t.buckets = append(t.buckets, nil)
	}
	if t.buckets[i] == nil {
		t.buckets[i] = &bucket{waited: newLatencies(2)}
	}
	b := t.buckets[i]
	b.requests++
	if r.Outcome == results.Failed {
		b.failed++
	}
	b.waited.add(r.Latency())
	b.heat[sort.SearchFloat64s(heatEdges[:], float64(r.Latency())/1e6)]++
}

func (t *timeline) widen() {
	t.width *= 2
	half := make([]*bucket, 0, maxBuckets)
	for pair := range slices.Chunk(t.buckets, 2) {
		var whole *bucket
		for _, b := range pair {
			switch {
			case b == nil:
			case whole == nil:
				whole = b
			default:
				whole.merge(b)
			}
		}
		half = append(half, whole)
	}
	t.buckets = half
}

func (b *bucket) merge(other *bucket) {
	b.requests += other.requests
	b.failed += other.failed
	b.waited.h.Merge(other.waited.h)
	for i, n := range other.heat {
		b.heat[i] += n
	}
}

func (t *timeline) figures() results.Timeline {
	out := results.Timeline{BucketMs: t.width.Milliseconds(), Buckets: make([]results.Bucket, len(t.buckets)), HeatMs: heatEdges[:]}
	for i, b := range t.buckets {
		if b == nil {
			continue
		}
		last := heatBins
		for last > 0 && b.heat[last-1] == 0 {
			last--
		}
		out.Buckets[i] = results.Bucket{
			Requests: b.requests, Failed: b.failed, P50Ms: ms(b.waited.quantile(0.5)), P99Ms: ms(b.waited.quantile(0.99)),
			Heat: slices.Clone(b.heat[:last]),
		}
	}
	return out
}
