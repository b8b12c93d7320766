package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/results/compare"
	"meshsim.dev/meshsim/results/history"
)

// recordRun writes a run of one phase below runs.
func recordRun(t *testing.T, runs, id, scenario string, failed int) {
	t.Helper()
	folder, err := results.Create(runs, id)
	require.NoError(t, err)
	began := time.Date(2026, 5, 4, 9, 30, 0, 0, time.UTC)
	require.NoError(t, folder.WriteRun(results.Run{
		ID: id, Scenario: scenario, Mesh: "fakemesh", StartedAt: began, EndedAt: began.Add(time.Minute),
		Phases: []results.PhasePlan{{Name: "soak", Scale: 1, Judged: true}}, Budgets: []string{"failed requests = 0"},
	}))
	for i := range 6000 {
		r := results.Request{Seq: uint64(i), Phase: "soak", Route: "browse", Proto: "http", Status: 200, Outcome: results.OK, Done: 1e6}
		if i < failed {
			r.Outcome, r.Status, r.Class = results.Failed, 502, "http-502"
		}
		require.NoError(t, folder.AddRequest(r))
	}
	require.NoError(t, folder.Close())
}

func TestTwoRunsAreComparedByName(t *testing.T) {
	runs := t.TempDir()
	recordRun(t, runs, "1-good", "demo", 0)
	recordRun(t, runs, "2-bad", "demo", 40)
	recordRun(t, runs, "3-other", "other", 0)

	code, stdout, stderr := run(t, "compare", "1-good", "latest", "--runs", runs)
	require.Equal(t, 2, code, stdout)
	require.Contains(t, stderr, "1-good rehearsed demo and 3-other rehearsed other")
	require.Contains(t, stderr, "--unlike")

	code, stdout, stderr = run(t, "compare", "1-good", "2-bad", "--runs", runs)
	require.Equal(t, 1, code, stderr)
	require.Contains(t, stdout, "✗ worse    failed requests = 0\n           soak: 0, pass; then 40, fail")
	require.Contains(t, stdout, "1 worse, 0 better, 0 the same")

	code, stdout, _ = run(t, "compare", "2-bad", "1-good", "--runs", runs, "--json")
	require.Equal(t, 0, code)
	var c compare.Comparison
	require.NoError(t, json.Unmarshal([]byte(stdout), &c))
	require.Equal(t, compare.Better, c.Changes[0].Move)

	code, stdout, _ = run(t, "compare", "1-good", "3-other", "--runs", runs, "--unlike")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "scenario: demo, then other")

	code, _, stderr = run(t, "compare", "1-good", "nope", "--runs", runs)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "nope")
	require.NoFileExists(t, filepath.Join(runs, "1-good", results.VerdictFile), "comparing writes nothing")
}

func TestTheHistoryListsTheRunsThatThereAre(t *testing.T) {
	runs := t.TempDir()
	code, _, stderr := run(t, "history", "--runs", runs)
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "no such run")
	recordRun(t, runs, "1-good", "demo", 0)
	recordRun(t, runs, "2-bad", "demo", 40)
	recordRun(t, runs, "3-other", "other", 0)

	code, stdout, stderr := run(t, "history", "--runs", runs, "--scenario", "demo")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "✗ 2-bad ")
	require.Contains(t, stdout, "fail: of its budgets 1 broken, 0 undecided; most failures: 40 × unknown")
	require.Contains(t, stdout, "▁█")
	require.NotContains(t, stdout, "3-other")

	require.NoError(t, os.RemoveAll(filepath.Join(runs, "2-bad")))
	code, stdout, _ = run(t, "history", "--runs", runs, "--json")
	require.Equal(t, 0, code)
	var found []history.Run
	require.NoError(t, json.Unmarshal([]byte(stdout), &found))
	require.Len(t, found, 2)
	require.Equal(t, results.Pass, found[0].Verdict)
}

func TestTheSchemaIsPrintedWithoutARun(t *testing.T) {
	code, stdout, stderr := run(t, "report", "--schema")
	require.Equal(t, 0, code, stderr)
	require.Equal(t, string(results.VerdictSchema), stdout)
	code, _, _ = run(t, "report", "--schema", "latest")
	require.Equal(t, 2, code)
}
