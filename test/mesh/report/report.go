// Package report is the table that a conformance run leaves.
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Outcome is how a row ended.
type Outcome string

const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	// NotApplicable is a row that this mesh or host cannot be asked; what was
	// seen says why.
	NotApplicable Outcome = "not applicable"
	// NotRun is a row that was left out of this run.
	NotRun Outcome = "not run"
)

// Row is one sentence of the contract and what was seen of it.
type Row struct {
	ID       string
	Says     string
	Expected string
	Seen     string
	Outcome  Outcome
}

// Report is a run. Facts stand above the table, in their order.
type Report struct {
	Facts []Fact
	Rows  []Row
}

// Fact is something that the rows depend on, such as the mesh's version.
type Fact struct{ Name, Value string }

// Count tells how many rows ended so.
func (r *Report) Count(o Outcome) int {
	n := 0
	for _, row := range r.Rows {
		if row.Outcome == o {
			n++
		}
	}
	return n
}

// Summary is one line: how many rows there are and how they ended.
func (r *Report) Summary() string {
	var parts []string
	for _, o := range []Outcome{Pass, Fail, NotApplicable, NotRun} {
		if n := r.Count(o); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return fmt.Sprintf("%d rows: %s", len(r.Rows), strings.Join(parts, ", "))
}

// seenAtMost is how much of what was seen a cell holds, in bytes; a failure's
// whole text is in the test's own output.
const seenAtMost = 600

// Markdown writes the facts, the summary and the table.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Facts {
		fmt.Fprintf(&b, "- %s: %s\n", f.Name, f.Value)
	}
	fmt.Fprintf(&b, "- %s\n\n", r.Summary())
	b.WriteString("| id | what | expected | seen | outcome |\n|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		cells := []string{row.ID, row.Says, row.Expected, shorten(row.Seen), string(row.Outcome)}
		for i, c := range cells {
			cells[i] = cell(c)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func shorten(s string) string {
	if len(s) <= seenAtMost {
		return s
	}
	return strings.ToValidUTF8(s[:seenAtMost], "") + " …"
}

// cell keeps a text within its cell: one line, no bars, no markup by accident.
func cell(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`).Replace(s)
}

// Set fills in how a row ended. A row that is not there yet is added.
func (r *Report) Set(row Row) {
	i := slices.IndexFunc(r.Rows, func(have Row) bool { return have.ID == row.ID })
	if i < 0 {
		r.Rows = append(r.Rows, row)
		return
	}
	r.Rows[i] = row
}
