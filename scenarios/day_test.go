package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

// awaiting is a scenario with traffic of its own and a wait for a whole cycle of
// it.
func awaiting(traffic string) string {
	return strings.Replace(spec(traffic), "  phases:\n", `  phases:
  - name: mesh
    judged: false
    steps:
    - install: {component: cert-manager}
    - install: {component: vault}
    - install: {component: issuer}
    - install: {component: mesh}
    - inject
    - await-authenticated
`, 1)
}

func TestACycleIsByDefaultHowLongTheTrafficTakesToRepeatItself(t *testing.T) {
	file := record(t, 101, "browse", "order")
	for _, c := range []struct {
		name, yaml string
		want       time.Duration
	}{
		{"a launch day", "    compressTo: 200s\n", 200 * time.Second},
		{"a launch day in journeys", "    compressTo: 200s\n    journeys: shop\n", 200 * time.Second},
		{"a shape of the day's length", "    compressTo: 200s\n    shape: diurnal\n", 200 * time.Second},
		{"a shape of its own length", "    shape: {launch-day: {lasts: 30s}}\n", 30 * time.Second},
		{"a day and one spike", "    shape: {sum: [launch-day, {spike: {base: 0, peak: 9, at: 7s, hold: 5s}}]}\n", 90 * time.Second},
		{"a spike time and again", "    shape: {spike: {base: 1, peak: 9, at: 7s, hold: 5s, every: 20s}}\n", 20 * time.Second},
		{"a whole recording", "    replay: {file: " + file + ", compressTo: 50s}\n", 50 * time.Second},
		{"a recording as a shape", "    shape: {recorded: {file: " + file + ", compressTo: 50s}}\n", 50 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Parse("demo.yaml", []byte(awaiting(c.yaml)))
			require.NoError(t, err)
			require.Equal(t, &AwaitAuthenticated{c.want}, s.Spec.Phases[0].Steps[5].Options)
		})
	}
}

func TestACycleMustBeSaidWhereTheTrafficIsSteady(t *testing.T) {
	steady := awaiting("    shape: {constant: 20}\n")
	require.Equal(t, []Problem{{16, 7, "step await-authenticated needs a cycle here, such as {cycle: 90s}: this traffic (constant 20/s) does not repeat itself within 1s to 24h0m0s"}},
		problemsOf(t, steady))
	s, err := Parse("demo.yaml", []byte(strings.Replace(steady, "- await-authenticated", "- await-authenticated: {cycle: 7s}", 1)))
	require.NoError(t, err)
	require.Equal(t, &AwaitAuthenticated{7 * time.Second}, s.Spec.Phases[0].Steps[5].Options)

	problems := problemsOf(t, awaiting("    shape: {wiggle: 3}\n"))
	require.Contains(t, problems[0].Message, "unknown shape")
	for _, p := range problems {
		require.NotContains(t, p.Message, "needs a cycle", "what the traffic is to be is not known")
	}
}

func TestAnotherDayChangesWhatItsLengthSays(t *testing.T) {
	own, err := Load("mtls-rollout")
	require.NoError(t, err)
	require.Zero(t, own.RecordedTraffic().Day)
	s, err := LoadDay("mtls-rollout", 90*time.Second)
	require.NoError(t, err)
	require.Equal(t, own.Spec.Traffic.Day, s.Spec.Traffic.Day, "the requests are the same")
	require.InDelta(t, 5000./90, s.Spec.Traffic.MeanRate(1), 1e-6)
	require.Equal(t, &AwaitAuthenticated{90 * time.Second}, s.Spec.Phases[3].Steps[0].Options)
	require.Equal(t, 90*time.Second, s.RecordedTraffic().CompressTo)
	require.Equal(t, 90*time.Second, s.RecordedTraffic().Day)
	require.InDelta(t, 0.45, s.Plan().Ends.Seconds()/own.Plan().Ends.Seconds(), 0.01)
	baseline := own.Spec.Phases[0]
	require.InDelta(t, 0.45, (s.HoldLimit(baseline)-time.Minute).Seconds()/(own.HoldLimit(baseline)-time.Minute).Seconds(), 0.01)
	var b strings.Builder
	require.NoError(t, s.Explain(&b))
	require.Contains(t, b.String(), "is replayed in 1m30s:\n55.6 requests a second on average at scale 1, 960 times the real rate.")
	require.Contains(t, b.String(), "enforce: await-authenticated for 1m30s")

	s, err = LoadDay("mtls-rollout-ci", 90*time.Second)
	require.NoError(t, err)
	require.Contains(t, s.Spec.Phases[3].Steps[0].String(), "await-authenticated for 30s", "what is said stays")
}

func TestADayIsOnlyForTrafficWhoseLengthIsTheDays(t *testing.T) {
	file := record(t, 3600, "browse", "order")
	for _, c := range []struct {
		name, yaml string
		want       time.Duration // of a cycle; 0 where there is no day
	}{
		{"nothing said", "    timeout: 1s\n", 48 * time.Second},
		{"a shape of the day's length", "    shape: doubled\n", 48 * time.Second},
		{"deep within", "    shape: {sum: [{constant: 3}, {scale: {by: 2, shape: diurnal}}]}\n", 48 * time.Second},
		{"a replay as fast as days go", "    replay: {file: " + file + "}\n", 2 * time.Second},
		{"a recording as fast as days go", "    shape: {recorded: {file: " + file + "}}\n", 2 * time.Second},
		{"a rate", "    shape: {constant: 20}\n", 0},
		{"a shape of its own length", "    shape: {launch-day: {lasts: 30s}}\n", 0},
		{"a replay of its own length", "    replay: {file: " + file + ", compressTo: 50s}\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "demo.yaml")
			require.NoError(t, os.WriteFile(path, []byte(spec(c.yaml)), 0o600))
			s, err := LoadDay(path, 48*time.Second)
			if c.want == 0 {
				require.Equal(t, fault.Invalid, fault.KindOf(err))
				require.ErrorContains(t, err, "--day 48s: the traffic of "+path+" has no day")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, s.Spec.Traffic.Cycle().Round(10*time.Millisecond))
		})
	}
	for _, day := range []time.Duration{-time.Second, 0, time.Millisecond, 25 * time.Hour} {
		_, err := LoadDay("mtls-rollout", day)
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.ErrorContains(t, err, "--day "+day.String()+": a day should last from 1s to 24h0m0s")
	}
}
