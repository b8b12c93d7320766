package history

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshsim.dev/meshsim/results"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stage is a folder of runs and how often one was judged.
type stage struct {
	root   string
	rules  int // of the judge
	judged int
	lasts  time.Duration // of one day, in the runs that are added
	fails  error
}

func (s *stage) judge() Judge {
	return Judge{Rules: s.rules, Judge: func(f *results.Folder) (results.Verdict, error) {
		s.judged++
		return results.Verdict{Judge: s.rules, Verdict: results.Inconclusive, Scenario: "demo", Run: f.ID}, s.fails
	}}
}

func (s *stage) runs(t *testing.T, q Query) []Run {
	t.Helper()
	h, err := Open(t.Context(), s.root, s.judge(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, h.Close()) }()
	all, err := h.Runs(t.Context(), q)
	require.NoError(t, err)
	return all
}

// add makes a run folder, with a verdict unless it is nil.
func (s *stage) add(t *testing.T, id string, day int, v *results.Verdict) {
	t.Helper()
	f, err := results.Create(s.root, id)
	require.NoError(t, err)
	began := time.Date(2026, 5, day, 9, 30, 0, 0, time.UTC)
	require.NoError(t, f.WriteRun(results.Run{ID: id, Scenario: "demo", StartedAt: began, EndedAt: began.Add(90 * time.Second), Topology: "eks-1.24", Tool: "v1", Traffic: results.Traffic{CompressTo: s.lasts}}))
	require.NoError(t, f.Close())
	if v != nil {
		require.NoError(t, f.WriteVerdict(*v))
	}
}

func verdictOf(scenario string, failed int64, p99 float64) *results.Verdict {
	low, high := p99-1, p99+1
	return &results.Verdict{
		Verdict: results.Pass, Scenario: scenario, Mesh: "fakemesh", Requests: results.RequestCounts{Total: 6000, Failed: failed, Late: 2},
		Phases: []results.PhaseFigures{{Name: "soak", Judged: true, P99Ms: p99}, {Name: "warm", P99Ms: 900}},
		Budgets: []results.BudgetVerdict{
			{Text: "end-to-end p99 < 100ms", Phase: "soak", Verdict: results.Pass, Figure: &results.Figure{Unit: "ms", Value: p99, Low: &low, High: &high, Limit: 100}},
			{Text: "vault unsealed by itself", Verdict: results.Inconclusive},
		},
		Causes: []results.Cause{{Kind: "drain", Count: 3}, {Kind: "drain", Count: 4}, {Kind: "unknown", Count: 1}},
	}
}

func TestRunsAreReadBackWholeOldestFirst(t *testing.T) {
	s := &stage{root: t.TempDir(), lasts: 200 * time.Second}
	s.add(t, "b", 4, verdictOf("demo", 0, 20))
	s.add(t, "a", 6, verdictOf("demo", 8, 30))
	s.add(t, "c", 5, verdictOf("other", 0, 10))
	all := s.runs(t, Query{})
	require.Equal(t, []string{"b", "c", "a"}, []string{all[0].ID, all[1].ID, all[2].ID})
	low, high, limit, value := 29.0, 31.0, 100.0, 30.0
	require.Equal(t, Run{
		ID: "a", Scenario: "demo", Mesh: "fakemesh", Topology: "eks-1.24", Tool: "v1", Day: 200 * time.Second, Started: time.Date(2026, 5, 6, 9, 30, 0, 0, time.UTC), Seconds: 90,
		Verdict: results.Pass, Requests: 6000, Failed: 8, Late: 2, WorstP99Ms: 30,
		Budgets: []Budget{
			{Text: "end-to-end p99 < 100ms", Phase: "soak", Verdict: results.Pass, Unit: "ms", Value: &value, Low: &low, High: &high, Limit: &limit},
			{Text: "vault unsealed by itself", Verdict: results.Inconclusive},
		},
		Causes: []Cause{{"drain", 7}, {"unknown", 1}},
	}, all[2])
	require.Zero(t, s.judged, "there were verdicts")
	require.Len(t, s.runs(t, Query{Scenario: "demo"}), 2)
	newest := s.runs(t, Query{Last: 2})
	require.Equal(t, []string{"c", "a"}, []string{newest[0].ID, newest[1].ID})
	require.Empty(t, s.runs(t, Query{Scenario: "nope"}))
}

func TestTheHistoryFollowsTheFolders(t *testing.T) {
	s := &stage{root: t.TempDir()}
	s.add(t, "a", 4, verdictOf("demo", 0, 20))
	require.Len(t, s.runs(t, Query{}), 1)
	s.add(t, "b", 5, nil)
	all := s.runs(t, Query{})
	require.Len(t, all, 2, "a new folder is read")
	require.Equal(t, results.Inconclusive, all[1].Verdict)
	require.Equal(t, 1, s.judged, "it had no verdict")
	s.runs(t, Query{})
	require.Equal(t, 1, s.judged, "nothing is read twice")

	f, err := results.Open(filepath.Join(s.root, "a"))
	require.NoError(t, err)
	require.NoError(t, f.WriteVerdict(*verdictOf("demo", 5, 20)))
	later := time.Now().Add(time.Minute)
	require.NoError(t, os.Chtimes(filepath.Join(s.root, "a", results.VerdictFile), later, later))
	require.Equal(t, int64(5), s.runs(t, Query{})[0].Failed, "a newer verdict is read")

	later = later.Add(time.Minute)
	require.NoError(t, os.Chtimes(filepath.Join(s.root, "a", results.RequestsFile), later, later))
	require.Equal(t, results.Inconclusive, s.runs(t, Query{})[0].Verdict, "a record that is newer than its verdict is judged")
	require.Equal(t, 2, s.judged)

	require.NoError(t, os.RemoveAll(filepath.Join(s.root, "a")))
	require.Len(t, s.runs(t, Query{}), 1, "what is gone is forgotten")
}

func TestVerdictsByOtherRulesAreJudgedAgain(t *testing.T) {
	s := &stage{root: t.TempDir(), rules: 3}
	v := verdictOf("demo", 0, 20)
	v.Judge = 3
	s.add(t, "a", 4, v)
	require.Equal(t, results.Pass, s.runs(t, Query{})[0].Verdict)
	require.Zero(t, s.judged, "they are the judge's own")

	s.rules = 4
	require.Equal(t, results.Inconclusive, s.runs(t, Query{})[0].Verdict, "after an upgrade, though no file is newer")
	require.Equal(t, 1, s.judged)
	s.runs(t, Query{})
	require.Equal(t, 1, s.judged, "once")

	s.add(t, "b", 5, verdictOf("demo", 0, 20)) // by whom is not said
	require.Equal(t, results.Inconclusive, s.runs(t, Query{})[1].Verdict)
	require.Equal(t, 2, s.judged)

	s.rules = 3
	require.Equal(t, results.Pass, s.runs(t, Query{})[0].Verdict, "and after going back")
}

func TestAHistoryThatIsMissingDamagedOrOldIsMadeAnew(t *testing.T) {
	s := &stage{root: t.TempDir()}
	s.add(t, "a", 4, verdictOf("demo", 0, 20))
	path := filepath.Join(s.root, File)
	for name, spoil := range map[string]func(){
		"missing":   func() { require.NoError(t, os.Remove(path)) },
		"no SQLite": func() { require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("not a database ", 100)), 0o644)) },
		"cut off":   func() { require.NoError(t, os.Truncate(path, 5000)) },
		"another version": func() {
			h, err := open(t.Context(), s.root, s.judge(), slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			_, err = h.db.Exec("PRAGMA user_version = 99")
			require.NoError(t, err)
			require.NoError(t, h.Close())
		},
	} {
		require.Len(t, s.runs(t, Query{}), 1)
		spoil()
		require.Len(t, s.runs(t, Query{}), 1, name)
	}
}

func TestARunThatCannotBeReadIsLeftOut(t *testing.T) {
	s := &stage{root: t.TempDir(), fails: errors.New("damaged")}
	s.add(t, "a", 4, verdictOf("demo", 0, 20))
	s.add(t, "b", 5, nil)
	require.NoError(t, os.Mkdir(filepath.Join(s.root, "no-run"), 0o755))
	require.Len(t, s.runs(t, Query{}), 1)
}

func TestAnInterruptedHistoryIsNotRemoved(t *testing.T) {
	s := &stage{root: t.TempDir()}
	s.add(t, "a", 4, verdictOf("demo", 0, 20))
	require.Len(t, s.runs(t, Query{}), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, s.root, s.judge(), slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, context.Canceled)
	require.FileExists(t, filepath.Join(s.root, File))
}

func TestTheTrendIsDrawnWhereThereAreTwoRuns(t *testing.T) {
	s := &stage{root: t.TempDir()}
	for i, p99 := range []float64{20, 80, 50} {
		s.add(t, string(rune('a'+i)), 4+i, verdictOf("demo", 0, p99))
	}
	s.add(t, "x", 9, verdictOf("other", 0, 10))
	var b strings.Builder
	require.NoError(t, Write(&b, s.runs(t, Query{})))
	text := b.String()
	require.Contains(t, text, "✓ a    fakemesh  –    6000      0       20.0 ms    1 of 2\n    most failures: 7 × drain\n")
	require.Contains(t, text, "demo, from run to run\n  end-to-end p99 < 100ms\n    ✓  soak  ▁█▄  20.00 ms to 80.00 ms, last 50.00 ms")
	require.NotContains(t, text, "other, from")
	require.NotContains(t, text, "a day in")
	require.Equal(t, "▁▁▁", sparks([]float64{3, 3, 3}))
}

func TestALineOfTheTableFitsATerminal(t *testing.T) {
	run := Run{ID: "20261128T150405Z-mtls-rollout-careless-ci", Scenario: "mtls-rollout-careless-ci", Mesh: "fakemesh", Day: 200 * time.Second, Verdict: results.Fail,
		Requests: 123_456, Failed: 123_456, WorstP99Ms: 10_000, Budgets: make([]Budget, 26), Causes: []Cause{{Kind: "proxy-before-app", Count: 123_456}}}
	for i := range run.Budgets[:24] {
		run.Budgets[i].Verdict = results.Pass
	}
	run.Budgets[24].Verdict, run.Budgets[25].Verdict = results.Fail, results.Inconclusive
	var b strings.Builder
	require.NoError(t, Write(&b, []Run{run}))
	for line := range strings.Lines(b.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 100, line)
	}
	require.Equal(t, `  run                                        mesh      day    requests  failed  worst p99   held
✗ 20261128T150405Z-mtls-rollout-careless-ci  fakemesh  3m20s  123456    123456  10000.0 ms  24 of 26
    fail: of its budgets 1 broken, 1 undecided; most failures: 123456 × proxy-before-app
`, b.String())
}

func TestRunsOfAnotherDayHaveATrendOfTheirOwn(t *testing.T) {
	s := &stage{root: t.TempDir()}
	for i, lasts := range []time.Duration{200 * time.Second, 90 * time.Second, 200 * time.Second, 90 * time.Second} {
		s.lasts = lasts
		s.add(t, string(rune('a'+i)), 4+i, verdictOf("demo", 0, float64(10*(i+1))))
	}
	var b strings.Builder
	require.NoError(t, Write(&b, s.runs(t, Query{})))
	require.Contains(t, b.String(), "✓ b    fakemesh  1m30s  6000")
	_, trends, _ := strings.Cut(b.String(), "\n\n")
	require.Equal(t, `demo, a day in 1m30s, from run to run
  end-to-end p99 < 100ms
    ✓  soak  ▁█  20.00 ms to 40.00 ms, last 40.00 ms

demo, a day in 3m20s, from run to run
  end-to-end p99 < 100ms
    ✓  soak  ▁█  10.00 ms to 30.00 ms, last 30.00 ms
`, trends)
}

func TestABudgetsPhasesStandBelowIt(t *testing.T) {
	run := func(budgets ...Budget) Run { return Run{Scenario: "demo", Budgets: budgets} }
	one := func(text, phase string, value float64) Budget {
		return Budget{Text: text, Phase: phase, Verdict: results.Pass, Unit: "s", Value: &value}
	}
	var b strings.Builder
	require.NoError(t, Write(&b, []Run{
		run(one("p99 < 2s", "a", 1), one("denials alerted within 5m", "", 9)),
		run(one("p99 < 2s", "a", 1.5), one("p99 < 2s", "b", 1), one("denials alerted within 5m", "", 8)),
		run(one("p99 < 2s", "b", 0.5)), // the phase came later
	}))
	_, trends, _ := strings.Cut(b.String(), "\n\n")
	require.Equal(t, `demo, from run to run
  p99 < 2s
    ✓  a              ▁█  1.00 s to 1.50 s, last 1.50 s
    ✓  b              █▁  0.50 s to 1.00 s, last 0.50 s
  denials alerted within 5m
    ✓  the whole run  █▁  8.00 s to 9.00 s, last 8.00 s
`, trends)
}
