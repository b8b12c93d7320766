package verdict

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/results/report"
)

var update = flag.Bool("update", false, "rewrite the samples that the report's tests show")

// The report's tests show runs that were really judged here, so that the two
// cannot drift apart.
func TestTheReportsSamplesAreWhatIsJudgedHere(t *testing.T) {
	for name, c := range map[results.Judgement]synthetic.Options{
		results.Pass:         {Seed: 1},
		results.Fail:         {Seed: 1, Careless: true},
		results.Inconclusive: {Seed: 1, PerPhase: 1500},
	} {
		f, err := synthetic.Write(t.TempDir(), c)
		require.NoError(t, err)
		v, err := Evaluate(f)
		require.NoError(t, err)
		require.Equal(t, name, v.Verdict)
		d, err := report.From(f, v)
		require.NoError(t, err)
		raw, err := json.MarshalIndent(d, "", " ")
		require.NoError(t, err)
		path := filepath.Join("..", "..", "results", "report", "testdata", string(name)+".json")
		if *update {
			require.NoError(t, os.WriteFile(path, append(raw, '\n'), 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(raw), "go test -update rewrites it")
	}
}
