package verdict

import (
	"fmt"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/results"
)

// cell is the requests, or calls, of one phase or window that one filter
// chooses. Its memory does not grow with their number.
type cell struct {
	n, failed, rejected, late, undispatched int64
	// unsure may belong here: they do not tell which way they went.
	unsure, unsureFailed int64

	classes map[string]int64 // failures by class
	samples []string         // a few failures in words
	waited  latencies        // from the scheduled instant; of a call, its own time
	sent    latencies        // from the instant of sending
	batches batches
}

func newCell() *cell {
	return &cell{classes: map[string]int64{}, waited: newLatencies(digits), sent: newLatencies(digits), batches: newBatches()}
}

// add takes a request. late tells that it left the sender too late.
func (c *cell) add(r *results.Request, late bool) {
	if r.Outcome == results.Undispatched {
		c.undispatched++
		return
	}
	c.n++
	c.waited.add(r.Latency())
	c.sent.add(r.Done - r.Sent)
	failed := r.Outcome == results.Failed
	c.batches.add(r.Scheduled, r.Latency(), failed)
	if late {
		c.late++
	}
	switch {
	case r.Outcome == results.Rejected:
		c.rejected++
	case failed:
		c.fail(r.Class, func() string { return quote(r) })
	}
}

// addCall takes one call of a request's way.
func (c *cell) addCall(r *results.Request, call *hops.Hop) {
	failed := failedCall(call)
	c.n++
	c.waited.add(int64(call.Took))
	c.batches.add(r.Scheduled, int64(call.Took), failed)
	if failed {
		class := "grpc-" + traffic.CodeName(call.Code)
		c.fail(class, func() string {
			return fmt.Sprintf("request %d at %s: %s called %s, %s", r.Seq, at(r.Scheduled), call.Caller, call.Service, class)
		})
	}
}

func (c *cell) fail(class string, quoted func() string) {
	c.failed++
	if _, known := c.classes[class]; known || len(c.classes) < maxNames {
		c.classes[class]++
	}
	if len(c.samples) < maxSample {
		c.samples = append(c.samples, quoted())
	}
}

// doubt takes a request that may belong here.
func (c *cell) doubt(r *results.Request) {
	c.unsure++
	if r.Outcome == results.Failed {
		c.unsureFailed++
	}
}

// lateShare returns the share of the requests that left late or never.
func (c *cell) lateShare() float64 {
	scheduled := c.n + c.undispatched
	if scheduled == 0 {
		return 0
	}
	return float64(c.late+c.undispatched) / float64(scheduled)
}

// alike returns how many requests count for one independent one, where a
// percentile is asked for: by how much more the share of those beyond it differs
// between slices of time than that of independent requests would.
func (c *cell) alike(q float64) float64 {
	dispersion, _ := c.batches.dispersion(c.batches.slowest(1 - q))
	return dispersion
}
