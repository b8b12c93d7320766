package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"

	"meshsim.dev/meshsim/results"
)

//go:embed page.html.tmpl
var pageText string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// page parses the template; it is part of the program, so it always parses.
func page() (*template.Template, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"count": wholeNumber, "tie": ties.Replace, "millis": millis, "sign": sign, "short": func(d string) string { return shorten(d, 19) },
		"gauge": newGauge, "signed": signedMillis, "again": again,
	}).Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("parse the page's template: %w", err)
	}
	return t, nil
}

// ties keep a figure and its unit on one line.
var ties = strings.NewReplacer(" ×", "\u00a0×", "× ", "×\u00a0", " %", "\u00a0%", " ms", "\u00a0ms")

// view is what the page's template is given.
type view struct {
	Data
	Style    template.CSS
	Headline string
	Groups   []budgetGroup
	Tiles    []tile
	Chart    *chart
	Facts    []fact
	Method   []string
	Causes   *causesView // nil when nothing failed
	Slow     *causesView // nil when nothing was slower than its budget
	Matrices []matrixView
	Axis     *axis // nil when no certificate was seen

	AddedViews []addedView
	Parts      []part
	Script     template.JS
	ScriptHash string // by which the page's own policy lets the script run
}

// part is a heading that the page can be entered at.
type part struct{ ID, Name string }

// parts lists the headings that the page has.
func (v view) parts() []part {
	var all []part
	for _, p := range []struct {
		shown    bool
		id, name string
	}{
		{v.Chart != nil, "time", "over time"}, {v.Causes != nil, "causes", "failures"}, {v.Slow != nil, "slow", "slow requests"},
		{true, "budgets", "budgets"}, {len(v.Matrices) > 0, "matrix", "between services"}, {len(v.AddedViews) > 0, "added", "added latency"},
		{v.Axis != nil, "certificates", "certificates"}, {true, "phases", "phases"}, {true, "ran", "what ran"}, {true, "again", "run it again"},
	} {
		if p.shown {
			all = append(all, part{p.id, p.name})
		}
	}
	return all
}

// causesView is the causes, those beyond the first few folded away.
type causesView struct{ First, Rest []causeView }

type causeView struct {
	results.Cause
	Width   string // of its bar, in percent of the most frequent cause's
	Singles []requestView
}

const firstCauses = 6

func newCausesView(all []results.Cause) *causesView {
	if len(all) == 0 {
		return nil
	}
	v := &causesView{}
	for i, c := range all {
		one := causeView{c, num(100 * float64(c.Count) / float64(max(all[0].Count, 1))), requestsOf(c)}
		if i < firstCauses {
			v.First = append(v.First, one)
		} else {
			v.Rest = append(v.Rest, one)
		}
	}
	return v
}

// tile is one figure that is read at a glance.
type tile struct {
	Name, Value, Beneath string
	Bad                  bool
}

// HTML writes the report as one page that needs nothing else: no network, no
// other file. Its script only moves the chart; without it nothing is missing.
// Whatever came from the run is escaped.
func HTML(w io.Writer, d Data) error {
	t, err := page()
	if err != nil {
		return err
	}
	v := view{
		Data: d, Style: template.CSS(pageStyle), Headline: d.headline(), Groups: d.groups(), Tiles: d.tiles(),
		Chart: newChart(d), Facts: d.facts(), Method: method,
		Causes: newCausesView(d.Verdict.Causes), Slow: newCausesView(d.Verdict.SlowCauses), Axis: newAxis(d),
		Script: template.JS(pageScript), ScriptHash: hashOf(pageScript),
	}
	for _, m := range d.Matrices {
		v.Matrices = append(v.Matrices, newMatrixView(m))
	}
	for _, a := range d.Added {
		if one, ok := newAddedView(a); ok {
			v.AddedViews = append(v.AddedViews, one)
		}
	}
	v.Parts = v.parts()
	if err := t.Execute(w, v); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// hashOf names a script as a Content-Security-Policy does.
func hashOf(script string) string {
	sum := sha256.Sum256([]byte(script))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Took is how long the run took, "" when it is not known.
func (v view) Took() string {
	if took := v.duration(); took > 0 {
		return lasting(took)
	}
	return ""
}

// Begun is when the run began.
func (v view) Begun() string { return v.Run.StartedAt.UTC().Format("2 January 2006, 15:04 MST") }

// FakeMesh tells whether the mesh was played by the stand-in.
func (v view) FakeMesh() bool { return v.Verdict.Mesh == "fakemesh" }

// Merged tells whether a group's rows all say the same and can be shown as one.
func (g budgetGroup) Merged() bool {
	for _, r := range g.Rows {
		if r.Measured != g.Rows[0].Measured || r.Verdict != g.Rows[0].Verdict || len(r.Evidence) > 0 {
			return len(g.Rows) == 1
		}
	}
	return true
}

// PhaseNames lists the phases of a group's rows.
func (g budgetGroup) PhaseNames() string {
	names := make([]string, 0, len(g.Rows))
	for _, r := range g.Rows {
		if r.Phase != "" {
			names = append(names, r.Phase)
		}
	}
	return strings.Join(names, ", ")
}

func (d Data) tiles() []tile {
	v := d.Verdict
	tiles := []tile{
		{Name: "requests", Value: count(v.Requests.Total), Beneath: count(v.Requests.Rejected) + " business refusals"},
		{Name: "failed", Value: count(v.Requests.Failed), Beneath: failedShare(v.Requests), Bad: v.Requests.Failed > 0},
	}
	var slowest *results.PhaseFigures
	for i, p := range v.Phases {
		if p.Requests > 0 && (slowest == nil || p.P99Ms > slowest.P99Ms) {
			slowest = &v.Phases[i]
		}
	}
	if slowest != nil {
		tiles = append(tiles, tile{Name: "slowest p99", Value: millis(slowest.P99Ms) + " ms", Beneath: "in " + slowest.Name})
	}
	late := tile{Name: "left late", Value: count(v.Requests.Late), Beneath: fmt.Sprintf("by more than %s", d.Run.Traffic.MaxLate)}
	if n := v.Requests.Undispatched; n > 0 {
		late.Beneath, late.Bad = count(n)+" never left", true
	}
	tiles = append(tiles, late)
	kept, open := 0, 0
	for _, g := range d.groups() {
		switch g.Verdict {
		case results.Pass:
			kept++
		case results.Inconclusive:
			open++
		}
	}
	broken := len(d.groups()) - kept - open
	return append(tiles, tile{
		Name: "budgets held", Value: fmt.Sprintf("%d of %d", kept, len(d.groups())),
		Beneath: fmt.Sprintf("%d broken, %d open", broken, open), Bad: broken > 0,
	})
}

func failedShare(r results.RequestCounts) string {
	if r.Failed == 0 || r.Total == 0 {
		return "none"
	}
	return fmt.Sprintf("%.3g %% of all", 100*float64(r.Failed)/float64(r.Total))
}

// wholeNumber is count for the template, where whole numbers have several types.
func wholeNumber(n any) (string, error) {
	switch n := n.(type) {
	case int:
		return count(int64(n)), nil
	case int64:
		return count(n), nil
	}
	return "", fmt.Errorf("%T is no whole number", n)
}
