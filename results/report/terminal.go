package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"meshsim.dev/meshsim/results"
)

// Screen is what a summary is written for.
type Screen struct {
	Width int  // columns; 80 when 0, at most 100 are used
	Color bool // ANSI colours
}

// Terminal writes a summary that fits a screen: verdict, budgets, causes.
func Terminal(w io.Writer, d Data, s Screen) error {
	t := &terminal{screen: s, b: &bytes.Buffer{}}
	if s.Width <= 0 {
		t.screen.Width = 80
	}
	t.screen.Width = min(t.screen.Width, 100)
	t.head(d)
	for _, g := range d.groups() {
		t.budget(g)
	}
	t.causes(d.Verdict.Causes)
	t.phases(d.Verdict.Phases)
	_, err := io.WriteString(w, t.b.String())
	return err
}

type terminal struct {
	screen Screen
	b      *bytes.Buffer
}

// line writes text wrapped, the first line behind first, others behind spaces.
func (t *terminal) line(first, text string) {
	indent := strings.Repeat(" ", len([]rune(first)))
	for i, line := range wrap(text, t.screen.Width-len(indent)) {
		if i > 0 {
			first = indent
		}
		fmt.Fprintf(t.b, "%s%s\n", first, line)
	}
}

func (t *terminal) color(j results.Judgement, text string) string {
	if !t.screen.Color {
		return text
	}
	code := map[results.Judgement]string{results.Pass: "32", results.Fail: "31"}[j]
	if code == "" {
		code = "33"
	}
	return "\x1b[1;" + code + "m" + text + "\x1b[0m"
}

func (t *terminal) head(d Data) {
	v := d.Verdict
	t.b.WriteString("\n")
	t.marked(v.Verdict, "", strings.ToUpper(string(v.Verdict)), "  ", v.Scenario)
	t.line("", d.headline())
	facts := fmt.Sprintf("%s requests, %s failed, %s late", count(v.Requests.Total), count(v.Requests.Failed), count(v.Requests.Late))
	if v.Requests.Undispatched > 0 {
		facts += fmt.Sprintf(", %s never sent", count(v.Requests.Undispatched))
	}
	if took := d.duration(); took > 0 {
		facts += ", " + lasting(took)
	}
	if v.Mesh != "" {
		facts += ", mesh " + v.Mesh
	}
	t.line("", facts)
	t.b.WriteString("\n")
}

// marked writes a line whose mark is coloured. It is coloured after wrapping, so
// that the colour's codes take no room.
func (t *terminal) marked(j results.Judgement, before, mark, after, text string) {
	outer := t.b
	t.b = &bytes.Buffer{}
	t.line(before+mark+after, text)
	written := t.b.String()
	t.b = outer
	t.b.WriteString(strings.Replace(written, mark, t.color(j, mark), 1))
}

// budget writes one line when all phases agree, else one a phase.
func (t *terminal) budget(g budgetGroup) {
	t.marked(g.Verdict, "  ", sign(g.Verdict), " ", g.Text)
	if g.Verdict == results.Pass && len(g.Rows) > 1 {
		names := make([]string, len(g.Rows))
		for i, r := range g.Rows {
			names[i] = r.Phase
		}
		t.line("      ", "holds in "+strings.Join(slices.Compact(names), ", "))
		return
	}
	for _, r := range g.Rows {
		text := r.Measured
		if r.Phase != "" {
			text = r.Phase + ": " + text
		}
		first := "      "
		if len(g.Rows) > 1 {
			first += sign(r.Verdict) + " "
		}
		t.line(first, text)
	}
}

const shownCauses = 5

func (t *terminal) causes(all []results.Cause) {
	if len(all) == 0 {
		return
	}
	t.b.WriteString("\nWhy requests failed\n")
	for _, c := range all[:min(len(all), shownCauses)] {
		t.line(fmt.Sprintf("  %7s  ", count(c.Count)), c.Cause)
		if len(c.Pods) > 0 {
			t.line("           ", "pods: "+strings.Join(c.Pods[:min(len(c.Pods), 3)], ", "))
		}
		if c.Mend != "" {
			t.line("           ", "mend: "+c.Mend)
		}
	}
	if more := len(all) - shownCauses; more > 0 {
		fmt.Fprintf(t.b, "           and %d more in the report\n", more)
	}
}

func (t *terminal) phases(all []results.PhaseFigures) {
	if len(all) == 0 {
		return
	}
	t.b.WriteString("\n")
	fmt.Fprintf(t.b, "  %-16s %9s %8s %9s %9s\n", "phase", "requests", "failed", "p50 ms", "p99 ms")
	for _, p := range all {
		name := []rune(results.OneLine(p.Name))
		fmt.Fprintf(t.b, "  %-16s %9s %8s %9s %9s\n", string(name[:min(len(name), 16)]), count(p.Requests), count(p.Failed), millis(p.P50Ms), millis(p.P99Ms))
	}
}
