package verdict

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/results/report"
)

var evidenceFiles = []string{results.RunFile, results.RequestsFile, results.EventsFile, results.ProbesFile}

// judgeCut judges and reports what is left of a folder, as the command does.
func judgeCut(t *testing.T, path, name string, size int) results.Verdict {
	t.Helper()
	f, err := results.Open(path)
	require.NoError(t, err, "%s cut at %d", name, size)
	v, err := Evaluate(f)
	require.NoError(t, err, "%s cut at %d", name, size)
	_, err = report.From(f, v)
	require.NoError(t, err, "%s cut at %d", name, size)
	return v
}

func TestASmallFolderCutAtAnyByteIsInconclusive(t *testing.T) {
	s := newStory("failed requests = 0", "availability >= 50%", "requests >= 8", "end-to-end p50 < 100ms", "restarts = 0", "injected pods = 100%",
		"mtls calls = 100%", "failed requests = 0 shown to 50% during phase soak", "vault unsealed by itself")
	s.event(0, results.Watching, "prod-app").phaseOver(100*time.Millisecond).served("soak", 8)
	s.run.Notes = []string{"a note with an é"}
	keys := false
	s.probe(results.ProbeInjection, results.Injection{Pods: 1, Injected: 1}).probe(results.ProbeMTLS, results.MTLS{Phase: "inject", TLS: 1, Plain: 9}).
		probe(results.ProbeVaultUnseal, results.VaultUnseal{Restarted: true, Seal: "awskms", UnsealedAfterMs: ptr(int64(-1)), OperatorKeysUsed: &keys}).
		probe(results.ProbeVaultUnseal, results.VaultUnseal{Restarted: true, Seal: "awskms", UnsealedAfterMs: ptr(int64(5)), OperatorKeysUsed: &keys}).
		probe(results.ProbeMTLS, results.MTLS{Phase: "soak", TLS: 10})
	f := s.write(t)
	v, err := Evaluate(f)
	require.NoError(t, err)
	require.Equal(t, results.Pass, v.Verdict, "whole, it passes: %+v", v.Budgets)
	for _, name := range evidenceFiles {
		raw := read(t, f, name)
		for size := range len(raw) {
			write(t, f, name, raw[:size])
			v := judgeCut(t, f.Path, name, size)
			require.Equal(t, results.Inconclusive, v.Verdict, "%s cut at %d: %+v", name, size, v.Budgets)
			require.NotEmpty(t, v.Reasons)
		}
		write(t, f, name, raw)
	}
}

func TestALargerFolderCutAnywhereIsInconclusive(t *testing.T) {
	f, err := synthetic.Write(t.TempDir(), synthetic.Options{Seed: 1, Ways: true, Budgets: []string{
		"end-to-end p95 < 500ms of route order", "recovery within 60s after begin of step restart-vault", "failed calls = 0 of service inventory-management",
	}})
	require.NoError(t, err)
	v, err := Evaluate(f)
	require.NoError(t, err)
	require.Equal(t, results.Pass, v.Verdict, "whole, it passes: %+v", v.Budgets)
	draw := rand.New(rand.NewPCG(1, 2))
	for _, name := range evidenceFiles {
		path := filepath.Join(f.Path, name)
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		for range runsOf(12) {
			size := draw.IntN(len(raw))
			require.NoError(t, os.Truncate(path, int64(size)))
			require.Equal(t, results.Inconclusive, judgeCut(t, f.Path, name, size).Verdict, "%s cut at %d", name, size)
			require.NoError(t, os.WriteFile(path, raw, 0o644))
		}
	}
}
