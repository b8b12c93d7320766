package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// tally counts and times requests in one pass over the record, in memory that
// does not grow with their number (but for one number an order).
type tally struct {
	run      results.Run
	total    results.RequestCounts
	phases   []*phaseTally
	byName   map[string]*phaseTally
	routes   []*routeTally
	byRoute  map[string]*routeTally
	orders   map[uint64]struct{} // hashes of the ids of acknowledged orders
	timeline *timeline
}

type phaseTally struct {
	figures results.PhaseFigures
	classes map[string]int64 // failures by class
	samples []string         // a few failures in words
	waited  latencies        // from the scheduled instant
	sent    latencies        // from the instant of sending
}

type routeTally struct {
	figures results.RouteFigures
	waited  latencies
}

const (
	digits    = 3  // of the histograms that are judged by
	maxSample = 5  // requests that are quoted
	maxNames  = 64 // phases or routes that a damaged record can make up
)

func newTally(run results.Run, budgets []budget.Budget, events []results.Event) *tally {
	t := &tally{
		run: run, byName: map[string]*phaseTally{}, byRoute: map[string]*routeTally{},
		orders: map[uint64]struct{}{}, timeline: newTimeline(),
	}
	for _, p := range run.Phases {
		tallied := t.addPhase(p.Name)
		if tallied.figures.Judged = p.Judged; p.Judged {
			tallied.figures.Needed = budget.Needed(budgets, p.Name)
		}
	}
	for _, e := range events {
		p := t.byName[e.Name]
		if p == nil {
			continue
		}
		switch e.Kind {
		case results.PhaseBegin:
			p.figures.BeginMs = e.At / int64(time.Millisecond)
		case results.PhaseEnd:
			p.figures.EndMs = e.At / int64(time.Millisecond)
		}
	}
	return t
}

func (t *tally) addPhase(name string) *phaseTally {
	p := &phaseTally{
		figures: results.PhaseFigures{Name: name}, classes: map[string]int64{},
		waited: newLatencies(digits), sent: newLatencies(digits),
	}
	t.phases = append(t.phases, p)
	t.byName[name] = p
	return p
}

func (t *tally) phase(name string) *phaseTally { return t.byName[name] }

// phaseOf finds or makes the tally of a request's phase.
func (t *tally) phaseOf(name string) *phaseTally {
	if p := t.byName[name]; p != nil {
		return p
	}
	if len(t.phases) >= maxNames {
		return t.phases[len(t.phases)-1]
	}
	return t.addPhase(name)
}

func (t *tally) route(name string) *routeTally {
	if r := t.byRoute[name]; r != nil {
		return r
	}
	if len(t.routes) >= maxNames {
		return t.routes[len(t.routes)-1]
	}
	r := &routeTally{figures: results.RouteFigures{Name: name}, waited: newLatencies(digits)}
	t.routes = append(t.routes, r)
	t.byRoute[name] = r
	return r
}

func (t *tally) add(r *results.Request) {
	t.total.Total++
	p := t.phaseOf(r.Phase)
	if r.Outcome == results.Undispatched {
		t.total.Undispatched++
		p.figures.Undispatched++
		return
	}
	route := t.route(r.Route)
	p.figures.Requests++
	route.figures.Requests++
	p.waited.add(r.Latency())
	p.sent.add(r.Done - r.Sent)
	route.waited.add(r.Latency())
	t.timeline.add(r)
	if r.Lag() > int64(t.run.Traffic.MaxLate) {
		t.total.Late++
		p.figures.Late++
	}
	switch r.Outcome {
	case results.Rejected:
		t.total.Rejected++
	case results.Failed:
		t.total.Failed++
		p.figures.Failed++
		route.figures.Failed++
		p.fail(r)
	case results.OK:
		if r.OrderID != "" {
			t.orders[hash(r.OrderID)] = struct{}{}
		}
	}
}

func (p *phaseTally) fail(r *results.Request) {
	if _, known := p.classes[r.Class]; known || len(p.classes) < maxNames {
		p.classes[r.Class]++
	}
	if len(p.samples) < maxSample {
		p.samples = append(p.samples, quote(r))
	}
}

// hash is FNV-1a, kept here so that a run of millions keeps numbers, not texts.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

func (t *tally) phaseFigures() []results.PhaseFigures {
	all := make([]results.PhaseFigures, 0, len(t.phases))
	for _, p := range t.phases {
		f := p.figures
		f.P50Ms, f.P99Ms, f.MaxMs = ms(p.waited.quantile(0.5)), ms(p.waited.quantile(0.99)), ms(p.waited.quantile(1))
		f.SentP50Ms, f.SentP99Ms = ms(p.sent.quantile(0.5)), ms(p.sent.quantile(0.99))
		all = append(all, f)
	}
	return all
}

func (t *tally) routeFigures() []results.RouteFigures {
	var all []results.RouteFigures
	for _, r := range t.routes {
		f := r.figures
		f.P50Ms, f.P99Ms = ms(r.waited.quantile(0.5)), ms(r.waited.quantile(0.99))
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b results.RouteFigures) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// lateShare returns the share of the phase's requests that left late or never.
func (p *phaseTally) lateShare() float64 {
	scheduled := p.figures.Requests + p.figures.Undispatched
	if scheduled == 0 {
		return 0
	}
	return float64(p.figures.Late+p.figures.Undispatched) / float64(scheduled)
}

// quote says in a line what happened to one failed request.
func quote(r *results.Request) string {
	text := fmt.Sprintf("request %d at %s: %s, %s", r.Seq, at(r.Scheduled), r.Route, r.Class)
	if r.Agent != "" {
		text += ", agent " + r.Agent
	}
	if r.Hop != "" {
		text += ", hop " + r.Hop
	}
	if r.Pod != "" {
		text += ", pod " + r.Pod
	}
	if r.Error != "" {
		text += ": " + short(r.Error, 160)
	}
	return text
}
