package compare

import (
	"fmt"
	"io"
	"strings"

	"github.com/mitchellh/go-wordwrap"

	"meshsim.dev/meshsim/results"
)

// width is how many columns a line may take, indent how far a budget's text and
// its figures stand in.
const (
	width  = 100
	indent = "           "
)

// lines writes text after lead, wrapped, its other lines a little further in.
func lines(b *strings.Builder, lead, text string) {
	wrapped := wordwrap.WrapString(text, uint(width-len(indent)-2))
	fmt.Fprintf(b, "%s%s\n", lead, strings.ReplaceAll(wrapped, "\n", "\n"+indent+"  "))
}

// Write writes the comparison for a terminal: what is unlike, then each budget
// with its figures by phase, those that moved first. Without all, those that
// stayed are only counted.
func (c Comparison) Write(w io.Writer, all bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nbefore  %s  %s, %d of %d requests failed\n", c.Before.Run, c.Before.Verdict, c.Before.Failed, c.Before.Requests)
	fmt.Fprintf(&b, "after   %s  %s, %d of %d requests failed\n", c.After.Run, c.After.Verdict, c.After.Failed, c.After.Requests)
	if len(c.Unlike) > 0 {
		b.WriteString("\nThe runs are unlike, which may explain a move by itself:\n")
		for _, u := range c.Unlike {
			fmt.Fprintf(&b, "  %s: %s, then %s\n", results.OneLine(u.What), results.OneLine(u.Before), results.OneLine(u.After))
		}
	}
	b.WriteString("\n")
	shown := ""
	for _, move := range []string{Worse, Better, Missing, Open, Same} {
		for _, one := range c.Changes {
			if one.Move != move || move == Same && !all {
				continue
			}
			if budget := move + one.Text; budget != shown {
				lines(&b, fmt.Sprintf("%s %-7s  ", signs[move], move), results.OneLine(one.Text))
				shown = budget
			}
			lines(&b, indent, one.figures())
		}
	}
	if shown != "" {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%d worse, %d better, %d the same, %d open, %d in one run only\n", c.Count(Worse), c.Count(Better), c.Count(Same), c.Count(Open), c.Count(Missing))
	_, err := io.WriteString(w, b.String())
	return err
}

var signs = map[string]string{Worse: "✗", Better: "✓", Same: "=", Open: "?", Missing: "·"}

// figures says how a budget stood in both runs, in its phase where it has one.
func (c Change) figures() string {
	phase := ""
	if c.Phase != "" {
		phase = results.OneLine(c.Phase) + ": "
	}
	return fmt.Sprintf("%s%s; then %s; %s", phase, c.Before.text(), c.After.text(), c.Why)
}

func (v *Value) text() string {
	if v == nil {
		return "–"
	}
	f := v.Figure
	if f == nil {
		return string(v.Verdict)
	}
	number := func(n float64) string {
		switch f.Unit {
		case "ratio":
			return fmt.Sprintf("%.5g %%", 100*n)
		case "ms", "s":
			return fmt.Sprintf("%.2f %s", n, f.Unit)
		}
		return fmt.Sprintf("%.6g", n)
	}
	text := number(f.Value)
	switch {
	case f.Low != nil && f.High != nil:
		text += fmt.Sprintf(" (%s to %s)", number(*f.Low), number(*f.High))
	case f.Low != nil:
		text += fmt.Sprintf(" (≥ %s)", number(*f.Low))
	}
	return text + ", " + string(v.Verdict)
}
