package scenarios

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/scenarios/budget"
)

// explainBudget writes what a budget asks, which evidence it will need, and
// whether the planned traffic brings what makes it conclusive.
func (s *Scenario) explainBudget(b *strings.Builder, one budget.Budget, plan Plan) {
	fmt.Fprintf(b, "  %s\n", one.Text)
	say := func(text string) {
		for _, line := range wrap(text, 88) {
			fmt.Fprintf(b, "      %s\n", line)
		}
	}
	say(one.Explain(s.Judged()))
	say("evidence: " + one.Evidence())
	for _, need := range s.needs(one, plan) {
		say("needs: " + need)
	}
}

// needs says how much must be seen before the budget is conclusive, and whether
// the scenario plans as much: one line for all phases that are alike.
func (s *Scenario) needs(b budget.Budget, plan Plan) []string {
	switch {
	case b.Subject == budget.AddedLatency:
		return s.triples(b)
	case b.NeededHere(s.Spec.Budgets, "") == 0:
		return nil
	case b.Subject == budget.Recovery:
		return []string{fmt.Sprintf("%d %s in %d s without a failure; %s", budget.CleanRequests, counted(b), budget.CleanSeconds,
			s.planned(b, s.slowest(plan)*budget.CleanSeconds*s.share(b), budget.CleanRequests))}
	case b.Window != nil:
		needed := b.NeededHere(s.Spec.Budgets, "")
		n, known := s.inWindow(*b.Window, plan)
		if !known {
			return []string{fmt.Sprintf("%d %s; how many come is not known beforehand, as a step takes its own time", needed, counted(b))}
		}
		return []string{fmt.Sprintf("%d %s; %s", needed, counted(b), s.planned(b, n*s.share(b), needed))}
	}
	lines := map[string][]string{} // phases by what is needed in them
	var order []string
	for _, p := range plan.Phases {
		if (len(b.Phases) == 0 && !p.Judged) || !b.Covers(p.Name) {
			continue
		}
		needed := b.NeededHere(s.Spec.Budgets, p.Name)
		line := fmt.Sprintf("%d %s in %%s; %s", needed, counted(b), s.planned(b, float64(p.Requests)*s.share(b), needed))
		if lines[line] == nil {
			order = append(order, line)
		}
		lines[line] = append(lines[line], p.Name)
	}
	var all []string
	for _, line := range order {
		in := strings.Join(lines[line], ", ")
		if len(lines[line]) > 1 {
			in = "each of " + in
		}
		all = append(all, fmt.Sprintf(line, in))
	}
	return all
}

func counted(b budget.Budget) string {
	what := "requests"
	if b.OfCalls() {
		what = "calls"
	}
	if b.Subject == budget.Availability || (b.Subject == budget.FailedRequests || b.Subject == budget.FailedCalls) && b.Count == 0 {
		what += " without a failure"
	}
	return what
}

// planned holds what is planned against what is needed.
func (s *Scenario) planned(b budget.Budget, n float64, needed int) string {
	switch {
	case n < 0 || b.OfCalls():
		return "how many of these are planned is not known beforehand"
	case n >= float64(needed):
		return fmt.Sprintf("at least %d are planned", int(math.Round(n)))
	default:
		return fmt.Sprintf("only %d are planned for certain, so it may stay inconclusive", int(math.Round(n)))
	}
}

// share is how much of the traffic the budget's filter is known to choose, below
// zero when it is not known.
func (s *Scenario) share(b budget.Budget) float64 {
	whole := 1.0
	for _, c := range b.Filter {
		if b.ChoosesOutcome(c) {
			continue
		}
		chosen := 0.0
		for _, route := range Routes() {
			switch {
			case c.Field == budget.Route && c.Matches(route.Name), c.Field == budget.Protocol && c.Matches(route.Proto),
				c.Field == budget.Service && c.Matches(route.Service): // at the edge; others come on top
				chosen += s.Spec.Traffic.weight(route.Name)
			}
		}
		if chosen == 0 {
			return -1
		}
		whole *= chosen
	}
	return whole
}

// weight returns the share (0–1) of the requests that take a route, 0 when it
// is not known.
func (t Traffic) weight(route string) float64 {
	if t.Replay != nil {
		return 0
	}
	weights, total := t.Weights(), 0
	for _, weight := range weights {
		total += weight
	}
	if total == 0 {
		return 0
	}
	return float64(weights[route]) / float64(total)
}

// slowest is the least mean rate of the phases.
func (s *Scenario) slowest(plan Plan) float64 {
	slowest := math.Inf(1)
	for _, p := range plan.Phases {
		slowest = min(slowest, p.Rate)
	}
	return slowest
}

// inWindow returns how many requests the plan surely has in a window; not known
// where a step's own time is all that it spans.
func (s *Scenario) inWindow(w budget.Window, plan Plan) (n float64, known bool) {
	if w.From.Mark == w.To.Mark && w.From.End == w.To.End { // so long before or after one mark
		i := s.phaseOf(w.From.Mark)
		if i < 0 || i >= len(plan.Phases) {
			return 0, false
		}
		return plan.Phases[i].Rate * (w.To.Shift - w.From.Shift).Seconds(), true
	}
	for i, p := range plan.Phases {
		begin, end := budget.Edge{Mark: phaseMark(p.Name)}, budget.Edge{Mark: phaseMark(p.Name), End: true}
		if s.order(w.From) <= s.order(begin) && s.order(end) <= s.order(w.To) {
			n += float64(plan.Phases[i].Requests)
			known = true
		}
	}
	outside := (w.From.Shift - w.To.Shift).Seconds()
	return max(0, n-max(0, outside)*s.fastest(plan)), known
}

func (s *Scenario) fastest(plan Plan) float64 {
	fastest := 0.0
	for _, p := range plan.Phases {
		fastest = max(fastest, p.Rate)
	}
	return fastest
}

func phaseMark(name string) budget.Mark { return budget.Mark{Kind: budget.PhaseMark, Name: name} }

// phaseOf returns the phase that a mark is in, below zero when in none.
func (s *Scenario) phaseOf(m budget.Mark) int {
	if m.Kind == budget.StepMark {
		return s.findStep(m).phase
	}
	return slices.Index(phaseNames(s), m.Name)
}

// triples says how many triples of the twins a percentile needs.
func (s *Scenario) triples(b budget.Budget) []string {
	needed := budget.TriplesNeeded(b.Quantile)
	var all []string
	for _, p := range s.Spec.Phases {
		for _, step := range p.Steps {
			o, ok := step.Options.(*MeasureAddedLatency)
			if !ok || (o.Path == PathShop) != (b.Per == "request") {
				continue
			}
			line := fmt.Sprintf("%d triples, and a difference of plain against plain below %s; %d are planned in %s",
				needed, b.Duration.Round(time.Microsecond), o.Triples, p.Name)
			if o.Triples < needed {
				line += ", so it stays inconclusive"
			}
			all = append(all, line)
		}
	}
	return all
}
