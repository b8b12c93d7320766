package report

import (
	"fmt"
	"io"
	"strings"

	"meshsim.dev/meshsim/results"
)

// Markdown writes the report for a pull request.
func Markdown(w io.Writer, d Data) error {
	m := &markdown{}
	m.head(d)
	m.budgets(d)
	m.causes("Why requests failed", d.Verdict.Causes)
	m.causes("Why requests were slower than their budget", d.Verdict.SlowCauses)
	m.between(d.Matrices)
	m.phases(d.Verdict.Phases)
	m.surroundings(d)
	_, err := io.WriteString(w, m.b.String())
	return err
}

type markdown struct{ b strings.Builder }

func (m *markdown) say(format string, args ...any) { fmt.Fprintf(&m.b, format+"\n", args...) }

var markdownMarks = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "|", `\|`, "~", `\~`,
	"#", `\#`, "@", "@\u200b", // no headings, no calling of people
)

// plain writes text that comes from a run so that it is only text.
func plain(s string) string { return markdownMarks.Replace(results.OneLine(s)) }

func (m *markdown) head(d Data) {
	v := d.Verdict
	m.say("# %s %s: %s\n", sign(v.Verdict), v.Verdict, plain(v.Scenario))
	m.say("%s\n", plain(d.headline()))
	facts := []string{
		count(v.Requests.Total) + " requests", count(v.Requests.Failed) + " failed",
		count(v.Requests.Rejected) + " business refusals", count(v.Requests.Late) + " late",
	}
	if v.Requests.Undispatched > 0 {
		facts = append(facts, count(v.Requests.Undispatched)+" never sent")
	}
	if took := d.duration(); took > 0 {
		facts = append(facts, "took "+lasting(took))
	}
	if v.Mesh != "" {
		facts = append(facts, "mesh "+plain(v.Mesh))
	}
	m.say("%s\n", strings.Join(facts, " · "))
}

func (m *markdown) budgets(d Data) {
	if len(d.Verdict.Budgets) == 0 {
		return
	}
	m.say("## Budgets\n")
	m.say("| | budget | phase | measured | margin |")
	m.say("|---|---|---|---|---|")
	for _, g := range d.groups() {
		for i, r := range g.Rows {
			text := ""
			if i == 0 {
				text = plain(g.Text)
			}
			margin := "–"
			if r.Figure != nil {
				margin = marginText(*r.Figure)
			}
			m.say("| %s %s | %s | %s | %s | %s |", sign(r.Verdict), r.Verdict, text, plain(r.Phase), plain(r.Measured), plain(margin))
		}
	}
	m.say("")
}

func (m *markdown) causes(title string, all []results.Cause) {
	if len(all) == 0 {
		return
	}
	m.say("## %s\n", title)
	for i, c := range all {
		m.say("%d. **%s** %s", i+1, count(c.Count), plain(c.Cause))
		for _, e := range c.Evidence {
			m.say("   - %s", plain(e))
		}
		if c.Mend != "" {
			m.say("   - mend: %s", plain(c.Mend))
		}
		if c.FailureMode != "" {
			m.say("   - failure mode %s", plain(c.FailureMode))
		}
	}
	m.say("")
}

// between names the pairs of services that were not as they should be.
func (m *markdown) between(all []Matrix) {
	for _, one := range all {
		v := newMatrixView(one)
		m.say("## %s\n", v.Title)
		m.say("%d pairs, %s\n", len(one.Cells), plain(v.Beneath))
		for _, c := range v.Bad[:min(len(v.Bad), maxNamedPairs)] {
			m.say("- %s to %s: %s", plain(c.Caller), plain(c.Callee), plain(c.State))
		}
		if more := len(v.Bad) - maxNamedPairs; more > 0 {
			m.say("- and %d more", more)
		}
		if len(v.Bad) == 0 {
			m.say("- all as they should be")
		}
		m.say("")
	}
}

// maxNamedPairs is how many pairs of services are named one by one.
const maxNamedPairs = 12

func (m *markdown) phases(all []results.PhaseFigures) {
	if len(all) == 0 {
		return
	}
	m.say("## Phases\n")
	m.say("| phase | judged | requests | needed | failed | late | p50 ms | p99 ms | max ms | p99 ms from sending |")
	m.say("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, p := range all {
		judged, needed := "no", "–"
		if p.Judged {
			judged, needed = "yes", count(int64(p.Needed))
		}
		m.say("| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |", plain(p.Name), judged, count(p.Requests), needed, count(p.Failed),
			count(p.Late+p.Undispatched), millis(p.P50Ms), millis(p.P99Ms), millis(p.MaxMs), millis(p.SentP99Ms))
	}
	m.say("")
}

func (m *markdown) surroundings(d Data) {
	m.say("## What ran\n")
	for _, fact := range d.facts() {
		m.say("- %s: %s", fact.Name, plain(fact.Text))
	}
	for _, note := range d.Run.Notes {
		m.say("- note: %s", plain(note))
	}
}
