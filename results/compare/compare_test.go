package compare

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
)

func ptr[T any](v T) *T { return &v }

// side is a run with one budget in phase soak, of which so many failed.
func side(failed, requests int64, b results.BudgetVerdict) Side {
	b.Phase = "soak"
	return Side{
		Run: results.Run{Topology: "eks-1.24"},
		Verdict: results.Verdict{
			Run: "r", Scenario: "demo", Mesh: "fakemesh", Verdict: b.Verdict, Budgets: []results.BudgetVerdict{b},
			Phases: []results.PhaseFigures{{Name: "soak", Requests: requests, Failed: failed, Judged: true}},
		},
	}
}

func counted(failed, requests int64) Side { return countedAs("failed requests = 0", failed, requests) }

// countedAs is a run whose budget counted so many; its phase saw failures of its
// own, which say nothing of the budget unless it is about them.
func countedAs(text string, bad, of int64) Side {
	return side(300, 20_000, results.BudgetVerdict{
		Text: text, Verdict: results.Pass, Figure: &results.Figure{Unit: "requests", Value: float64(bad), Bad: bad, Of: of},
	})
}

// windowed is a run whose budget has a window, and so no phase.
func windowed(bad, of int64) Side {
	s := counted(bad, of)
	s.Verdict.Budgets[0].Phase = ""
	return s
}

// bare is a run whose figure does not tell of how many it is.
func bare(n float64) Side {
	return side(0, 100, results.BudgetVerdict{Text: "b", Verdict: results.Pass, Figure: &results.Figure{Unit: "requests", Value: n}})
}

func measured(unit string, value, low, high float64, atLeast bool) Side {
	return side(0, 100, results.BudgetVerdict{Text: "b", Verdict: results.Pass, Figure: &results.Figure{Unit: unit, Value: value, Low: &low, High: &high, AtLeast: atLeast}})
}

func TestABudgetMovesOnlyByMoreThanChance(t *testing.T) {
	said := func(j results.Judgement) Side { return side(0, 100, results.BudgetVerdict{Text: "b", Verdict: j}) }
	share := func(failed, requests int64) Side {
		low := 0.5
		s := side(failed, requests, results.BudgetVerdict{Text: "b", Verdict: results.Pass,
			Figure: &results.Figure{Unit: "ratio", Value: 1 - float64(failed)/float64(requests), Low: &low, Limit: 0.9995, AtLeast: true, Bad: failed, Of: requests}})
		return s
	}
	orders := func(n float64) Side {
		return side(0, 100, results.BudgetVerdict{Text: "b", Verdict: results.Pass, Figure: &results.Figure{Unit: "orders", Value: n}})
	}
	single := func(seconds float64, verdict results.Judgement) Side {
		return side(0, 100, results.BudgetVerdict{Text: "b", Verdict: verdict, Figure: &results.Figure{Unit: "s", Value: seconds}})
	}
	for name, c := range map[string]struct {
		before, after Side
		move, why     string
	}{
		"no failure in either":                     {counted(0, 6000), counted(0, 9000), Same, "none in either"},
		"one failure more among many":              {counted(0, 6000), counted(1, 6000), Same, "100 %"},
		"five failures more are few":               {counted(0, 6000), counted(5, 6000), Same, "6 %"},
		"six failures more are not":                {counted(0, 6000), counted(6, 6000), Worse, "3.1 %"},
		"fewer failures":                           {counted(54, 6000), counted(1, 6000), Better, "less than 0.1 %"},
		"as many of twice the requests are better": {counted(200, 6000), counted(200, 12000), Better, "less than 0.1 %"},
		"rejected requests, by those":              {countedAs("rejected requests = 0", 0, 6000), countedAs("rejected requests = 0", 60, 6000), Worse, "less than 0.1 %"},
		"as many late as before":                   {countedAs("late requests = 5", 5, 6000), countedAs("late requests = 5", 5, 6000), Same, "100 %"},
		"a route's failures, not the phase's":      {countedAs("failed requests = 0 of route order", 9, 900), countedAs("failed requests = 0 of route order", 0, 900), Better, "0.4 %"},
		"a window, which has no phase":             {windowed(0, 900), windowed(30, 900), Worse, "less than 0.1 %"},
		"as many of the two, and no count of all":  {bare(5), bare(5), Same, "the same value"},
		"availability, by its failures":            {share(0, 6000), share(60, 6000), Worse, "less than 0.1 %"},
		"intervals that overlap":                   {measured("ms", 5, 4, 6, false), measured("ms", 7, 5.9, 8, false), Same, "overlap"},
		"intervals that lie apart":                 {measured("ms", 5, 4, 6, false), measured("ms", 7, 6.1, 8, false), Worse, "apart"},
		"lower latency":                            {measured("ms", 7, 6.1, 8, false), measured("ms", 5, 4, 6, false), Better, "apart"},
		"a share that should be high":              {measured("pods", 0.9, 0.85, 0.92, true), measured("pods", 1, 0.95, 1, true), Better, "apart"},
		"a share that should be high falls":        {measured("pods", 1, 0.95, 1, true), measured("pods", 0.9, 0.85, 0.92, true), Worse, "apart"},
		"a duration measured once":                 {single(8.8, results.Pass), single(8.9, results.Pass), Same, "once"},
		"one of a side that is inconclusive":       {single(0, results.Inconclusive), single(0.004, results.Pass), Same, "once"},
		"one that breaks its budget":               {single(8.8, results.Pass), single(400, results.Fail), Worse, "broken now"},
		"one that keeps its budget again":          {single(400, results.Fail), single(8.8, results.Pass), Better, "holds now"},
		"a count is another":                       {orders(0), orders(1), Worse, "a count"},
		"a count is the same":                      {orders(3), orders(3), Same, "the same value"},
		"units that differ go by the verdict":      {orders(0), measured("ms", 5, 4, 6, false), Same, "no number"},
		"without numbers, broken":                  {said(results.Pass), said(results.Fail), Worse, "broken now"},
		"without numbers, mended":                  {said(results.Fail), said(results.Pass), Better, "holds now"},
		"without numbers, inconclusive":            {said(results.Inconclusive), said(results.Pass), Open, "inconclusive"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Runs(c.before, c.after, false)
			require.NoError(t, err)
			require.Len(t, got.Changes, 1)
			require.Equal(t, c.move, got.Changes[0].Move, got.Changes[0].Why)
			require.Contains(t, got.Changes[0].Why, c.why)
		})
	}
}

func TestBudgetsOfOneRunOnlyAreNamed(t *testing.T) {
	before, after := counted(0, 6000), counted(0, 6000)
	after.Verdict.Budgets = append(after.Verdict.Budgets, results.BudgetVerdict{Text: "new", Verdict: results.Pass})
	before.Verdict.Budgets = append(before.Verdict.Budgets, results.BudgetVerdict{Text: "old", Verdict: results.Pass})
	c, err := Runs(before, after, false)
	require.NoError(t, err)
	require.Equal(t, 2, c.Count(Missing))
	require.Equal(t, []string{"failed requests = 0", "old", "new"}, []string{c.Changes[0].Text, c.Changes[1].Text, c.Changes[2].Text})
	require.Nil(t, c.Changes[1].After)
	require.Nil(t, c.Changes[2].Before)
	require.True(t, c.Comparable())
}

func TestRunsOfDifferentScenariosAreRefused(t *testing.T) {
	before, after := counted(0, 6000), counted(0, 6000)
	after.Verdict.Scenario = "other"
	_, err := Runs(before, after, false)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, "--unlike")
	c, err := Runs(before, after, true)
	require.NoError(t, err)
	require.Equal(t, []Unlike{{"scenario", "demo", "other"}}, c.Unlike)
}

func TestWhatTheRunsDoNotShareIsNamed(t *testing.T) {
	before, after := counted(0, 6000), counted(0, 6000)
	after.Verdict.Mesh = "linkerd"
	before.Run.Traffic = results.Traffic{LaunchPerDay: 5000, CompressTo: 200 * time.Second}
	after.Run.Traffic = results.Traffic{LaunchPerDay: 5000, CompressTo: 90 * time.Second, Day: 90 * time.Second}
	after.Run.Host = results.Host{CPUs: 8, MemoryBytes: 32 << 30}
	after.Run.Shop.Values = map[string]any{"retries": 0}
	before.Run.Images = []results.Image{{Name: "vault", Version: "1.19.0", Digest: "sha256:a"}, {Name: "gone", Digest: "sha256:b"}, {Name: "node", Version: "v1.24.17", Digest: "sha256:d"}}
	after.Run.Images = []results.Image{{Name: "vault", Version: "1.20.0", Digest: "sha256:c"}, {Name: "node", Version: "v1.24.17", Digest: "sha256:e"}}
	c, err := Runs(before, after, false)
	require.NoError(t, err)
	require.Equal(t, []Unlike{
		{"mesh", "fakemesh", "linkerd"}, {"CPUs", "0", "8"}, {"memory", "0.0 GiB", "32.0 GiB"},
		{"traffic", "a launch day of 5000 requests in 3m20s", "a launch day of 5000 requests in 1m30s"}, {"the shop's values", "none", `{"retries":0}`}, {"image vault", "1.19.0", "1.20.0"}, {"image node", "v1.24.17 as d", "v1.24.17 as e"},
	}, c.Unlike)
	alike, err := Runs(before, before, false)
	require.NoError(t, err)
	require.Empty(t, alike.Unlike)
	raw, err := json.Marshal(alike)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"unlike":[]`)
}

func TestTheTableShowsWhatMoved(t *testing.T) {
	before, after := counted(0, 6000), counted(40, 6000)
	after.Verdict.Mesh = "x\x1b[31m\nlinkerd"
	c, err := Runs(before, after, false)
	require.NoError(t, err)
	c.Changes = append(c.Changes, Change{Text: "stays", Move: Same, Before: &Value{Verdict: results.Pass}, After: &Value{Verdict: results.Pass}},
		Change{Text: "share", Move: Better, Before: &Value{Verdict: results.Fail, Figure: &results.Figure{Unit: "ratio", Value: 0.5}},
			After: &Value{Verdict: results.Pass, Figure: &results.Figure{Unit: "ms", Value: 1, Low: ptr(0.5), High: ptr(2.0)}}})
	var b strings.Builder
	require.NoError(t, c.Write(&b, false))
	text := b.String()
	require.Contains(t, text, "✗ worse")
	require.Contains(t, text, "50 %, fail")
	require.Contains(t, text, "1.00 ms (0.50 ms to 2.00 ms), pass")
	require.Contains(t, text, "1 worse, 1 better, 1 the same, 0 open")
	require.NotContains(t, text, "stays")
	require.NotContains(t, text, "\x1b")
	b.Reset()
	require.NoError(t, c.Write(&b, true))
	require.Contains(t, b.String(), "= same")
	for line := range strings.Lines(text + b.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), width+1, line)
	}
}

func TestTheChanceOfASplitIsExact(t *testing.T) {
	require.Equal(t, 1.0, splitChance(0, 10, 0, 10))
	require.InDelta(t, 2*math.Pow(0.5, 6), splitChance(0, 100, 6, 100), 1e-12)
	require.InDelta(t, 2*math.Pow(0.5, 6), splitChance(6, 100, 0, 100), 1e-12)
	require.Equal(t, 1.0, splitChance(3, 100, 3, 100))
	require.InDelta(t, 1, splitChance(1_000_000, 10_000_000, 1_000_000, 10_000_000), 0.01, "also of many")
	require.InDelta(t, 0.6230468750, atMost(5, 10, 0.5), 1e-9)
	require.Zero(t, atMost(-1, 10, 0.5))
	require.Equal(t, 1.0, atMost(10, 10, 0.5))
}
