package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
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
	orders   map[uint64]results.Told // by the hashes of their ids
	timeline *timeline

	chosen [][]*selection // by budget, where it is not about whole phases
	onHops bool           // some budget needs the ways
	// lastPhase is of the request before, inPhase what its phase's may belong to.
	lastPhase string
	inPhase   []*selection
}

type phaseTally struct {
	figures results.PhaseFigures
	*cell
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

func newTally(run results.Run, budgets []budget.Budget, marks marks) *tally {
	t := &tally{
		run: run, byName: map[string]*phaseTally{}, byRoute: map[string]*routeTally{},
		orders: map[uint64]results.Told{}, timeline: newTimeline(), chosen: make([][]*selection, len(budgets)),
	}
	for _, p := range run.Phases {
		tallied := t.addPhase(p.Name)
		if tallied.figures.Judged = p.Judged; p.Judged {
			tallied.figures.Needed = budget.Needed(budgets, p.Name)
		}
	}
	for _, e := range marks.events {
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
	for i, b := range budgets {
		t.chosen[i] = choose(run, b, marks)
		if len(t.chosen[i]) > 0 && b.OnHops() {
			t.onHops = true
		}
	}
	return t
}

// choose makes the selections that a budget needs: none where it is about all
// requests of whole phases, whose own tallies do.
func choose(run results.Run, b budget.Budget, marks marks) []*selection {
	from, to := whole()
	switch {
	case b.Subject == budget.Recovery:
		return []*selection{newSelection(b, "", from, to)}
	case !b.OnRequests() || b.Plain():
		return nil
	case b.Window != nil:
		from, to, why := marks.window(*b.Window)
		if why != "" {
			return nil
		}
		return []*selection{newSelection(b, "", from, to)}
	}
	var all []*selection
	for _, name := range phasesOf(run, b) {
		all = append(all, newSelection(b, name, from, to))
	}
	return all
}

// of returns the selections of a budget.
func (t *tally) of(i int) []*selection { return t.chosen[i] }

func (t *tally) addPhase(name string) *phaseTally {
	p := &phaseTally{figures: results.PhaseFigures{Name: name}, cell: newCell()}
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

// add takes a request with its way, nil when it told none.
func (t *tally) add(r *results.Request, told []hops.Hop) {
	t.total.Total++
	late := r.Outcome != results.Undispatched && r.Lag() > int64(t.run.Traffic.MaxLate)
	t.phaseOf(r.Phase).add(r, late)
	t.addToChosen(r, told, late)
	if r.Outcome == results.Undispatched {
		t.total.Undispatched++
		return
	}
	route := t.route(r.Route)
	route.figures.Requests++
	route.waited.add(r.Latency())
	t.timeline.add(r)
	if late {
		t.total.Late++
	}
	switch r.Outcome {
	case results.Rejected:
		t.total.Rejected++
	case results.Failed:
		t.total.Failed++
		route.figures.Failed++
	}
	if told := r.Told(); told != results.ToldNothing {
		order := hash(r.OrderID)
		t.orders[order] = max(t.orders[order], told)
	}
}

// told counts the orders of which the client was told so.
func (t *tally) told(what results.Told) (n int64) {
	for _, told := range t.orders {
		if told == what {
			n++
		}
	}
	return n
}

func (t *tally) addToChosen(r *results.Request, told []hops.Hop, late bool) {
	var way journey
	if t.onHops {
		way = journeyOf(r, told)
	}
	if r.Phase != t.lastPhase || t.inPhase == nil {
		t.enter(r.Phase)
	}
	for _, s := range t.inPhase {
		s.add(r, &way, late)
	}
}

// enter finds the selections that a phase's requests may belong to. Neighbours
// are mostly of the same.
func (t *tally) enter(phase string) {
	t.lastPhase, t.inPhase = phase, []*selection{}
	for _, selections := range t.chosen {
		for _, s := range selections {
			if s.phase == "" || s.phase == phase {
				t.inPhase = append(t.inPhase, s)
			}
		}
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
		f.Requests, f.Failed, f.Late, f.Undispatched = p.n, p.failed, p.late, p.undispatched
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

// quote says in a line what happened to one failed request.
func quote(r *results.Request) string {
	text := fmt.Sprintf("request %d at %s: %s", r.Seq, at(r.Scheduled), r.Route)
	if r.Class != "" {
		text += ", " + r.Class
	}
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
