package verdict

import (
	"slices"
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
}

const maxBuckets = 240

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
				whole.requests += b.requests
				whole.failed += b.failed
				whole.waited.h.Merge(b.waited.h)
			}
		}
		half = append(half, whole)
	}
	t.buckets = half
}

func (t *timeline) figures() results.Timeline {
	out := results.Timeline{BucketMs: t.width.Milliseconds(), Buckets: make([]results.Bucket, len(t.buckets))}
	for i, b := range t.buckets {
		if b != nil {
			out.Buckets[i] = results.Bucket{
				Requests: b.requests, Failed: b.failed, P50Ms: ms(b.waited.quantile(0.5)), P99Ms: ms(b.waited.quantile(0.99)),
			}
		}
	}
	return out
}
