package scenarios

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mitchellh/go-wordwrap"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/scenarios/budget"
	"meshsim.dev/meshsim/scenarios/shape"
)

// Plan is what a scenario will send and how long that takes at least. Steps
// take their own time on top where they outlast a phase's traffic.
type Plan struct {
	Phases  []PhasePlan
	AtLeast time.Duration
	Ends    time.Duration // AtLeast, not rounded
	// Requests is how many are sent at least.
	Requests int
}

// PhasePlan is one phase of a plan.
type PhasePlan struct {
	Name       string
	Judged     bool
	Steps      []string
	Requests   int           // at least
	Needed     int           // to be conclusive; 0 when not judged
	RealPerDay int           // what the shop would see in a day at this scale
	Rate       float64       // requests a second, the traffic's mean at this scale
	From       time.Duration // when the phase begins, at the earliest
	AtLeast    time.Duration // how long the traffic takes, from then
}

// Plan works out what the scenario will send.
func (s *Scenario) Plan() Plan {
	var plan Plan
	t := s.Spec.Traffic
	rates, faster := t.Rates(), t.Faster()
	var from time.Duration
	for _, p := range s.Spec.Phases {
		lasts := until(p, rates, from)
		rate := rates.Mean() * p.Scale
		one := PhasePlan{
			Name: p.Name, Judged: p.Judged, Rate: rate, From: from, AtLeast: lasts.Round(time.Second),
			Requests:   max(p.Until.Requests, int(p.Scale*rates.Count(from, from+lasts))),
			RealPerDay: int(math.Round(rate / faster * (24 * time.Hour).Seconds())),
		}
		if p.Judged {
			one.Needed = budget.Needed(s.Spec.Budgets, p.Name)
		}
		for _, step := range p.Steps {
			one.Steps = append(one.Steps, step.String())
		}
		plan.Phases = append(plan.Phases, one)
		from = min(from+lasts, longestFor)
		plan.Requests += one.Requests
	}
	plan.Ends, plan.AtLeast = from, from.Round(time.Second)
	return plan
}

// until returns how long a phase that begins at from waits for its requests and
// its time, ten years when they never come.
func until(p Phase, rates shape.Shape, from time.Duration) time.Duration {
	end, ok := shape.After(shape.Scale(rates, p.Scale), from, float64(p.Until.Requests))
	if !ok || p.Until.AtLeast >= longestFor {
		return longestFor
	}
	return max(p.Until.AtLeast, end-from)
}

// Explain writes what the scenario does, sends and judges.
func (s *Scenario) Explain(w io.Writer) error {
	var b strings.Builder
	plan, t := s.Plan(), s.Spec.Traffic
	fmt.Fprintf(&b, "%s: %s\n\n", s.Metadata.Name, s.Metadata.Description)
	fmt.Fprintf(&b, "Topology %s, seed %d.\n", s.Spec.Topology, s.Spec.Seed)
	if t.Shape == nil && t.Replay == nil && t.Journeys == nil {
		fmt.Fprintf(&b, "A launch day of %d requests (an ordinary one has %d) is replayed in %s:\n", t.Day.LaunchRequests, t.Day.Requests, t.CompressTo)
	} else {
		for _, line := range wrap("Traffic: "+t.Rates().String()+":", 100) {
			fmt.Fprintln(&b, line)
		}
	}
	fmt.Fprintf(&b, "%.1f requests a second on average at scale 1, %.0f times the real rate.\n", t.MeanRate(1), t.Faster())
	if t.Journeys != nil {
		for _, line := range wrap(t.wordsForJourneys(), 100) {
			fmt.Fprintln(&b, line)
		}
	}
	fmt.Fprintf(&b, "At least %d requests in %s; steps that take longer prolong it.\n\nPhases\n", plan.Requests, plan.AtLeast)
	table := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "  NAME\tJUDGED\tREQUESTS\tNEEDED\tREAL A DAY\tSENT A SECOND\tAT LEAST")
	for _, p := range plan.Phases {
		judged, needed := "no", "-"
		if p.Judged {
			judged, needed = "yes", fmt.Sprint(p.Needed)
		}
		fmt.Fprintf(table, "  %s\t%s\t%d\t%s\t%d\t%.1f\t%s\n", p.Name, judged, p.Requests, needed, p.RealPerDay, p.Rate, p.AtLeast)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	b.WriteString("\nSteps\n")
	for _, p := range plan.Phases {
		for _, step := range p.Steps {
			fmt.Fprintf(&b, "  %s: %s\n", p.Name, step)
		}
	}
	if len(t.Agents) > 0 {
		b.WriteString("\nAgents, inside the cluster; what has a rate of its own comes on top of the requests above\n")
		for _, a := range t.Agents {
			fmt.Fprintf(&b, "  %s\n", a)
		}
	}
	s.explainOverrides(&b)
	b.WriteString("\nBudgets\n")
	for _, one := range s.Spec.Budgets {
		s.explainBudget(&b, one, plan)
	}
	for _, warning := range s.Warnings {
		fmt.Fprintf(&b, "\nwarning: %s", warning)
	}
	if len(s.Warnings) > 0 {
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// explainOverrides lists what comes in the place of the bundle's own.
func (s *Scenario) explainOverrides(b *strings.Builder) {
	o := s.Spec.Overrides
	if o.Empty() {
		return
	}
	b.WriteString("\nOverrides\n")
	for _, part := range []struct {
		kind string
		from map[string]bundle.Override
	}{{"image", o.Images}, {"chart", o.Charts}} {
		for _, name := range slices.Sorted(maps.Keys(part.from)) {
			fmt.Fprintf(b, "  %s %s from %s\n", part.kind, name, part.from[name].From)
		}
	}
}

// wrap breaks text between words into lines of at most width characters.
func wrap(text string, width uint) []string {
	return strings.Split(wordwrap.WrapString(text, width), "\n")
}
