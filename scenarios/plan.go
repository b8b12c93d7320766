package scenarios

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/scenarios/budget"
)

// Plan is what a scenario will send and how long that takes at least. Steps
// take their own time on top where they outlast a phase's traffic.
type Plan struct {
	Phases  []PhasePlan
	AtLeast time.Duration
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
	Rate       float64       // requests a second, the compressed day's mean
	AtLeast    time.Duration // how long the traffic takes
}

// Plan works out what the scenario will send.
func (s *Scenario) Plan() Plan {
	var plan Plan
	t := s.Spec.Traffic
	for _, p := range s.Spec.Phases {
		rate, lasts := t.MeanRate(p.Scale), s.expected(p)
		one := PhasePlan{
			Name: p.Name, Judged: p.Judged, Rate: rate, AtLeast: lasts.Round(time.Second),
			Requests: max(p.Until.Requests, int(rate*lasts.Seconds())), RealPerDay: int(float64(t.Day.LaunchRequests) * p.Scale),
		}
		if p.Judged {
			one.Needed = budget.Needed(s.Spec.Budgets, p.Name)
		}
		for _, step := range p.Steps {
			one.Steps = append(one.Steps, step.String())
		}
		plan.Phases = append(plan.Phases, one)
		plan.AtLeast += one.AtLeast
		plan.Requests += one.Requests
	}
	return plan
}

// Explain writes what the scenario does, sends and judges.
func (s *Scenario) Explain(w io.Writer) error {
	var b strings.Builder
	plan, t := s.Plan(), s.Spec.Traffic
	fmt.Fprintf(&b, "%s: %s\n\n", s.Metadata.Name, s.Metadata.Description)
	fmt.Fprintf(&b, "Topology %s, seed %d.\n", s.Spec.Topology, s.Spec.Seed)
	fmt.Fprintf(&b, "A launch day of %d requests (an ordinary one has %d) is replayed in %s:\n", t.Day.LaunchRequests, t.Day.Requests, t.CompressTo)
	fmt.Fprintf(&b, "%.1f requests a second on average at scale 1, %.0f times the real rate.\n", t.MeanRate(1), (24*time.Hour).Seconds()/t.CompressTo.Seconds())
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
	s.explainOverrides(&b)
	b.WriteString("\nBudgets\n")
	for _, one := range s.Spec.Budgets {
		fmt.Fprintf(&b, "  %s\n", one.Text)
		for _, line := range wrap(one.Explain(s.Judged()), 88) {
			fmt.Fprintf(&b, "      %s\n", line)
		}
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
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
