package verdict

import (
	"math"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/budget"
)

// selection gathers what one budget is about, from one phase or window.
type selection struct {
	phase    string // "" where there is a window
	from, to int64  // ns; a phase's are without bounds
	filter   []budget.Condition
	outcomes []budget.Condition // of filter, where only what counts as bad is chosen
	onHops   bool
	calls    bool
	cell     *cell   // nil for recovery
	series   *series // of recovery
}

func newSelection(b budget.Budget, phase string, from, to int64) *selection {
	s := &selection{phase: phase, from: from, to: to, onHops: b.OnHops(), calls: b.OfCalls()}
	for _, c := range b.Filter {
		if b.ChoosesOutcome(c) {
			s.outcomes = append(s.outcomes, c)
		} else {
			s.filter = append(s.filter, c)
		}
	}
	if b.Subject == budget.Recovery {
		s.series = newSeries()
	} else {
		s.cell = newCell()
	}
	return s
}

// whole is a selection's span where it has a phase.
func whole() (from, to int64) { return math.MinInt64, math.MaxInt64 }

func (s *selection) add(r *results.Request, way *journey, late bool) {
	if s.phase != "" && r.Phase != s.phase || r.Scheduled < s.from || r.Scheduled >= s.to || !matchesRequest(r, s.filter) {
		return
	}
	if len(s.outcomes) > 0 && !matchesRequest(r, s.outcomes) && r.Outcome != results.Undispatched {
		other := *r
		other.Outcome = results.OK // it is seen, and is not what is counted
		r = &other
	}
	if s.calls {
		s.addCalls(r, way)
		return
	}
	belongs := yes
	if s.onHops {
		belongs = way.any(s.filter)
	}
	switch {
	case belongs == no || r.Outcome == results.Undispatched && s.onHops:
	case s.series != nil:
		s.series.add(r, belongs == maybe)
	case belongs == maybe:
		s.cell.doubt(r)
	default:
		s.cell.add(r, late)
	}
}

func (s *selection) addCalls(r *results.Request, way *journey) {
	if r.Outcome == results.Undispatched {
		return
	}
	for i := range way.calls {
		if call := &way.calls[i]; call.Depth > 0 && matches(call, s.filter) == yes {
			s.cell.addCall(r, call)
		}
	}
	if !way.told {
		s.cell.doubt(r)
	}
}

// matchesRequest tells whether the conditions on the request itself hold.
func matchesRequest(r *results.Request, conditions []budget.Condition) bool {
	for _, c := range conditions {
		value := ""
		switch c.Field {
		case budget.Route:
			value = r.Route
		case budget.Status:
			value = strconv.Itoa(r.Status)
		case budget.Protocol:
			value = r.Proto
		case budget.Class:
			value = r.Class
		default:
			continue // of a hop
		}
		if !c.Matches(value) {
			return false
		}
	}
	return true
}

// belongs is whether something is what a filter chooses.
type belongs int

const (
	no belongs = iota
	maybe
	yes
)

// failedCall tells whether a hop's call failed. A business answer is none.
func failedCall(h *hops.Hop) bool { return h.Code != codes.OK && !traffic.IsBusinessCode(h.Code) }

// matches holds a hop against the filter's conditions on hops. What an answer
// did not tell may be anything.
func matches(c *hops.Hop, filter []budget.Condition) belongs {
	result := yes
	for _, condition := range filter {
		value, known := "", true
		switch condition.Field {
		case budget.Service:
			value = c.Service
		case budget.Caller:
			value = c.Caller
		case budget.Version:
			value, known = c.Version, c.Answered()
		case budget.Node:
			value, known = c.Node, c.Answered()
		default:
			continue // of the request
		}
		switch {
		case !known:
			result = min(result, maybe)
		case !condition.Matches(value):
			return no
		}
	}
	return result
}

// journey is the way of one request through the shop.
type journey struct {
	calls []hops.Hop
	told  bool // all of it is known
}

// edges are the services that answer at the edge, by route.
type edges map[string]string

func newEdges() edges {
	all := edges{}
	for _, r := range scenarios.Routes() {
		all[r.Name] = r.Service
	}
	return all
}

// readWay reads the way that a request tells, nil when it tells none. It may be
// called by several at once.
func (e edges) readWay(r *results.Request) []hops.Hop {
	if r.Hops == "" {
		return nil
	}
	all, err := hops.Parse(e[r.Route], r.Hops)
	if err != nil {
		return nil
	}
	return all
}

// journeyOf returns a request's way as told or, when it told none, what is
// known of it.
func journeyOf(r *results.Request, told []hops.Hop) journey {
	if told != nil {
		w := journey{calls: told, told: true}
		for i := range told {
			w.told = w.told && told[i].Untold == 0
		}
		return w
	}
	// Only where it failed is known, if that.
	edge := edgeService(r.Route)
	w := journey{calls: []hops.Hop{{Service: edge}}}
	for i, service := range strings.Split(r.Hop, ">") {
		if service == "" || i == 0 && service == edge {
			continue
		}
		w.calls = append(w.calls, hops.Hop{Service: service, Caller: w.calls[len(w.calls)-1].Service, Depth: i})
	}
	return w
}

// any tells whether one hop of the way is what the filter chooses.
func (w *journey) any(filter []budget.Condition) belongs {
	best := no
	if !w.told {
		best = maybe
	}
	for i := range w.calls {
		best = max(best, matches(&w.calls[i], filter))
	}
	return best
}
