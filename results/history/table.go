package history

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"meshsim.dev/meshsim/results"
)

// Write writes runs as a table, beneath a run why it did not pass and what failed
// most, and below the table how each budget with a number went from run to run of
// the same scenario with days of the same length. "held" counts budgets.
func Write(w io.Writer, runs []Run) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  run\tmesh\tday\trequests\tfailed\tworst p99\theld")
	for _, r := range runs {
		fmt.Fprintf(t, "%s %s\t%s\t%s\t%d\t%d\t%.1f ms\t%d of %d\n", signs[r.Verdict], results.OneLine(r.ID), cmp.Or(results.OneLine(r.Mesh), "none"),
			dayText(r.Day), r.Requests, r.Failed, r.WorstP99Ms, r.count(results.Pass), len(r.Budgets))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("lay out the table: %w", err)
	}
	table := strings.SplitAfter(b.String(), "\n")
	b.Reset()
	b.WriteString(table[0])
	for i, r := range runs {
		b.WriteString(table[i+1])
		r.why(&b)
	}
	for _, one := range rehearsals(runs) {
		trend(&b, one, runs)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// why writes what a run's line of the table leaves open, if anything.
func (r Run) why(b *strings.Builder) {
	var parts []string
	if r.Verdict != results.Pass {
		parts = append(parts, fmt.Sprintf("%s: of its budgets %d broken, %d undecided", r.Verdict, r.count(results.Fail), r.count(results.Inconclusive)))
	}
	if len(r.Causes) > 0 {
		parts = append(parts, fmt.Sprintf("most failures: %d × %s", r.Causes[0].Count, results.OneLine(r.Causes[0].Kind)))
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "    %s\n", strings.Join(parts, "; "))
	}
}

var signs = map[results.Judgement]string{results.Pass: "✓", results.Fail: "✗", results.Inconclusive: "?"}

func (r Run) count(j results.Judgement) (n int) {
	for _, b := range r.Budgets {
		if b.Verdict == j {
			n++
		}
	}
	return n
}

func dayText(day time.Duration) string {
	if day == 0 {
		return "–"
	}
	return day.String()
}

// rehearsal is what two runs have in common whose figures make a trend: another
// day is another load.
type rehearsal struct {
	scenario string
	day      time.Duration
}

func (r Run) rehearsal() rehearsal { return rehearsal{r.Scenario, r.Day} }

func (r rehearsal) String() string {
	if r.day == 0 {
		return results.OneLine(r.scenario)
	}
	return fmt.Sprintf("%s, a day in %s", results.OneLine(r.scenario), r.day)
}

func rehearsals(runs []Run) []rehearsal {
	var all []rehearsal
	for _, r := range runs {
		if !slices.Contains(all, r.rehearsal()) {
			all = append(all, r.rehearsal())
		}
	}
	slices.SortFunc(all, func(a, b rehearsal) int {
		return cmp.Or(cmp.Compare(a.scenario, b.scenario), cmp.Compare(a.day, b.day))
	})
	return all
}

// line is one budget in one phase over the runs.
type line struct {
	text, phase, unit string
	values            []float64
	verdict           results.Judgement
}

// linesOf returns the budgets of a rehearsal that at least two runs have numbers of,
// a budget's phases one after another.
func linesOf(of rehearsal, runs []Run) []*line {
	var lines []*line
	place := map[string]int{} // where a budget came first
	for _, r := range runs {
		if r.rehearsal() != of {
			continue
		}
		for _, one := range r.Budgets {
			if one.Value == nil {
				continue
			}
			i := slices.IndexFunc(lines, func(l *line) bool { return l.text == one.Text && l.phase == one.Phase && l.unit == one.Unit })
			if i < 0 {
				i = len(lines)
				lines = append(lines, &line{text: one.Text, phase: one.Phase, unit: one.Unit})
				if _, seen := place[one.Text]; !seen {
					place[one.Text] = i
				}
			}
			lines[i].values = append(lines[i].values, *one.Value)
			lines[i].verdict = one.Verdict
		}
	}
	slices.SortStableFunc(lines, func(a, b *line) int { return cmp.Compare(place[a.text], place[b.text]) })
	return slices.DeleteFunc(lines, func(l *line) bool { return len(l.values) < 2 })
}

// trend writes how each budget of a rehearsal went, its phases below it.
func trend(b *strings.Builder, of rehearsal, runs []Run) {
	lines := linesOf(of, runs)
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s, from run to run\n", of)
	named, drawn := 0, 0
	for _, l := range lines {
		named, drawn = max(named, utf8.RuneCountInString(l.where())), max(drawn, min(len(l.values), maxSparks))
	}
	shown := ""
	for _, l := range lines {
		if l.text != shown {
			fmt.Fprintf(b, "  %s\n", results.OneLine(l.text))
			shown = l.text
		}
		fmt.Fprintf(b, "    %s  %-*s  %-*s  %s to %s, last %s\n", signs[l.verdict], named, l.where(), drawn, sparks(l.values),
			l.number(slices.Min(l.values)), l.number(slices.Max(l.values)), l.number(l.values[len(l.values)-1]))
	}
}

// where is the phase that a budget was judged in, or that it was judged once.
func (l *line) where() string { return cmp.Or(results.OneLine(l.phase), "the whole run") }

func (l *line) number(v float64) string {
	switch l.unit {
	case "ratio":
		return fmt.Sprintf("%.5g %%", 100*v)
	case "ms", "s":
		return fmt.Sprintf("%.2f %s", v, l.unit)
	}
	return fmt.Sprintf("%.6g", v)
}

const maxSparks = 40

// sparks draws the last values, the lowest as the lowest bar.
func sparks(values []float64) string {
	values = values[max(0, len(values)-maxSparks):]
	lo, hi := slices.Min(values), slices.Max(values)
	bars := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range values {
		i := 0
		if hi > lo {
			i = int((v - lo) / (hi - lo) * float64(len(bars)-1))
		}
		b.WriteRune(bars[min(max(i, 0), len(bars)-1)])
	}
	return b.String()
}
