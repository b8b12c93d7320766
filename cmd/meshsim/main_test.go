package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/doctor"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

func TestEveryKindOfEndHasItsExitCode(t *testing.T) {
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"nothing wrong", context.Background(), nil, 0},
		{"a verdict that passes", context.Background(), verdictResult(results.Pass), 0},
		{"a broken budget", context.Background(), verdictResult(results.Fail), 1},
		{"wrong use", context.Background(), usagef("no"), 2},
		{"invalid input", context.Background(), fault.NewInvalid(errors.New("no"), ""), 2},
		{"too little seen", context.Background(), verdictResult(results.Inconclusive), 3},
		{"a broken environment", context.Background(), fault.NewEnvironment(errors.New("no"), ""), 4},
		{"an error of no kind", context.Background(), errors.New("no"), 4},
		{"a signal, whatever it provoked", interrupted, verdictResult(results.Fail), 130},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, exitCode(c.ctx, c.err)) })
	}
}

// run executes a command line in-process, with a cache of its own.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("MESHSIM_CACHE", t.TempDir())
	var out, err bytes.Buffer
	code = Run(t.Context(), Streams{In: strings.NewReader(""), Out: &out, Err: &err}, args)
	return code, out.String(), err.String()
}

func TestAnEarlyEndIsToldWithWhateverKeptItsReportFromBeingMade(t *testing.T) {
	step, full := errors.New("phase stack: vault did not come"), errors.New("write report.html: no space left on device")
	fail, open := &verdictError{results.Fail}, &verdictError{results.Inconclusive}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	const record = "\n  the run's record is in runs/r"
	for name, c := range map[string]struct {
		ctx          context.Context
		run, verdict error
		says, said   string
		code         int
	}{
		"it came to its end":                         {t.Context(), nil, nil, "", "", exitPass},
		"it came to its end, and broke a budget":     {t.Context(), nil, fail, "verdict: fail", "", exitFail},
		"its report could not be made":               {t.Context(), nil, full, full.Error(), "", exitEnvironment},
		"a step failed":                              {t.Context(), step, open, step.Error() + record, "", exitEnvironment},
		"a step failed, and a budget is broken":      {t.Context(), step, fail, "verdict: fail", "meshsim: the run ended early: " + step.Error() + "\n", exitFail},
		"a step failed, and so did its report":       {t.Context(), step, full, step.Error() + record, "meshsim: the run's report could not be made: " + full.Error() + "\n", exitEnvironment},
		"it was interrupted, and so was its report":  {stopped, context.Canceled, full, "context canceled" + record, "meshsim: the run's report could not be made: " + full.Error() + "\n", exitInterrupted},
		"it was interrupted, and a budget is broken": {stopped, context.Canceled, fail, "context canceled" + record, "", exitInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			var errs strings.Builder
			a := &app{streams: Streams{Err: &errs}}
			err := a.conclude(c.ctx, "runs/r/", c.run, c.verdict)
			says := ""
			if err != nil {
				says = err.Error()
			}
			require.Equal(t, c.says, says)
			require.Equal(t, c.said, errs.String())
			require.Equal(t, c.code, exitCode(c.ctx, err))
		})
	}
}

func TestBadInputIsOneClearErrorBeforeAnythingIsRaised(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "scenario.yaml")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	shipped, err := os.ReadFile("../../scenarios/mtls-rollout.yaml")
	require.NoError(t, err)
	changed := func(old, new string) string {
		require.Contains(t, string(shipped), old)
		return write(strings.Replace(string(shipped), old, new, 1))
	}
	topologyOf := func(version string) string {
		ci, err := os.ReadFile("../../clusters/topology/ci.yaml")
		require.NoError(t, err)
		text := regexp.MustCompile("kubernetesVersion: .*").ReplaceAllString(string(ci), "kubernetesVersion: "+version)
		require.Contains(t, text, version)
		return write(text)
	}
	for _, c := range []struct {
		name string
		args []string
		want []string // all of them in the error
	}{
		{"an unknown command", []string{"frob"}, []string{"frob", "mend:"}},
		{"an unknown flag", []string{"run", "--frob"}, []string{"--frob", "meshsim run --help"}},
		{"a missing argument", []string{"run"}, []string{"accepts 1 arg"}},
		{"a scenario that is not there", []string{"run", "nope"}, []string{`"nope"`, "mtls-rollout", "mend:"}},
		{"an unknown key", []string{"run", changed("  seed: 5000", "  sede: 5000")}, []string{"scenario.yaml:", "sede"}},
		{"a wrong type", []string{"run", changed("seed: 5000", "seed: many")}, []string{"scenario.yaml:", "seed"}},
		{"unknown budget words", []string{"run", changed("failed requests = 0", "happy requests = 0")}, []string{"happy"}},
		{"a budget on data that no step gives", []string{"run", changed("    - measure-added-latency: {triples: 3000, payloadBytes: 512}\n", "")}, []string{"added latency", "measure-added-latency"}},
		{"an unknown topology", []string{"up", "--topology", "moon"}, []string{`"moon"`, "eks-1.24"}},
		{"a scenario's unknown topology", []string{"run", changed("topology: eks-1.24", "topology: moon")}, []string{`"moon"`}},
		{"a run that is not there", []string{"report", "nope"}, []string{"nope", "mend:"}},
		{"no run at all", []string{"report", "latest", "--runs", t.TempDir()}, []string{"no run", "mend:"}},
		{"flags that exclude each other", []string{"down", "--all", "--name", "x"}, []string{"--all"}},
		{"an argument where there is none", []string{"up", "eks-1.24"}, []string{"eks-1.24", "meshsim up [flags]"}},
		{"an unknown command of a group", []string{"bundle", "frob"}, []string{`unknown command "frob"`}},
		{"a cluster's name that is none", []string{"up", "--name", "../x"}, []string{`"../x"`, "mend:"}},
		{"a rehearsal's cluster that is no name", []string{"run", "mtls-rollout", "--name", "A b"}, []string{`"A b"`, "mend:"}},
		{"a doctor's cluster that is no name", []string{"doctor", "--name", "../x"}, []string{`"../x"`, "mend:"}},
		{"a port that is none", []string{"up", "--http-port", "99999"}, []string{"99999", "--http-port"}},
		{"a port for two", []string{"run", "mtls-rollout", "--http-port", "8080", "--grpc-port", "8080"}, []string{"8080", "mend:"}},
		{"a topology that kind cannot raise", []string{"up", "--topology", topologyOf("v1.99.0")}, []string{"v1.99.0", "mend:"}},
		{"a topology that is none", []string{"up", "--topology", write("kind: Topology\n")}, []string{"scenario.yaml:1:", "mend:"}},
		{"a source that is no checkout", []string{"up", "--source", t.TempDir()}, []string{"no source checkout", "--source"}},
		{"a bundle's source that is no checkout", []string{"bundle", "list", "--source", t.TempDir()}, []string{"no source checkout", "--source"}},
		{"a mirror that is no host", []string{"bundle", "pull", "--source", "../..", "--mirror", "not a host"}, []string{"not a host", "mend:"}},
		{"runs where none can be made", []string{"run", "mtls-rollout", "--runs", "/dev/null/runs"}, []string{"/dev/null", "--runs"}},
		{"the latest of a file", []string{"report", "latest", "--runs", "/dev/null"}, []string{"/dev/null", "--runs"}},
		{"the history of nothing", []string{"history", "--runs", filepath.Join(t.TempDir(), "nope")}, []string{"nope", "--runs"}},
		{"two forms at once", []string{"status", "--json", "--kubeconfig"}, []string{"--kubeconfig"}},
		{"a mesh that there is not", []string{"run", "mtls-rollout", "--mesh", "istio"}, []string{"istio", "fakemesh"}},
		{"a day that is no duration", []string{"run", "mtls-rollout", "--day", "short"}, []string{"--day", "short"}},
		{"a day of nothing", []string{"run", "mtls-rollout", "--day", "0s"}, []string{"--day 0s", "1s to 24h"}},
		{"a day below nothing", []string{"run", "mtls-rollout", "--day=-90s"}, []string{"--day -1m30s", "1s to 24h"}},
		{"a day for traffic that has none", []string{"run", "scale-ci", "--day", "90s"}, []string{"--day 1m30s", "scale-ci.yaml has no day", "constant 5/s", "mend:"}},
		{"a value too long to read", []string{"run", changed("seed: 5000", "seed: "+strings.Repeat("x", 1000))}, []string{"seed", strings.Repeat("x", 60) + "…"}},
		{"several scenarios, each told of", []string{"scenarios", "validate", "nope", changed("seed: 5000", "seed: many"), "mtls-rollout"}, []string{"nope", `"many"`}},
		{"a bundle file that is not there", []string{"bundle", "load", "/nope.tar"}, []string{"/nope.tar", "mend:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := run(t, c.args...)
			require.Equal(t, 2, code, stderr)
			for _, want := range c.want {
				require.Contains(t, stderr, want)
			}
			require.Less(t, len(stderr), 1200, "an error is short enough to be read")
		})
	}
}

func TestABundleThatIsNotThereIsTheEnvironments(t *testing.T) {
	code, _, stderr := run(t, "bundle", "verify")
	require.Equal(t, 4, code, stderr)
	require.Contains(t, stderr, "meshsim bundle build")
}

func TestShippedScenariosAreListedAndValid(t *testing.T) {
	code, stdout, stderr := run(t, "scenarios", "list")
	require.Equal(t, 0, code, stderr)
	all, err := scenarios.Shipped()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	for _, shipped := range all {
		name := shipped.Name
		require.Contains(t, stdout, name)
		code, _, stderr := run(t, "scenarios", "validate", name)
		require.Equal(t, 0, code, stderr)
		code, stdout, stderr := run(t, "scenarios", "explain", name)
		require.Equal(t, 0, code, stderr)
		require.Contains(t, stdout, "Budgets")
	}
}

func TestReportJudgesACutOffRunAsInconclusive(t *testing.T) {
	runs := t.TempDir()
	folder, err := results.Create(runs, "20240611T090000Z-mtls-rollout")
	require.NoError(t, err)
	require.NoError(t, folder.WriteRun(results.Run{
		ID: folder.ID, Scenario: "mtls-rollout", Mesh: "fakemesh", StartedAt: time.Now(),
		Phases: []results.PhasePlan{{Name: "baseline", Scale: 1, Judged: true}}, Budgets: []string{"failed requests = 0"},
	}))
	require.NoError(t, folder.AddEvent(results.Event{Kind: results.PhaseBegin, Name: "baseline", Phase: "baseline"}))
	require.NoError(t, folder.AddRequest(results.Request{Phase: "baseline", Route: "browse", Proto: "http", Status: 200, Outcome: results.OK, Done: 1e6}))
	require.NoError(t, folder.Close())

	code, stdout, stderr := run(t, "report", "latest", "--runs", runs, "--json")
	require.Equal(t, 3, code, stderr)
	var v results.Verdict
	require.NoError(t, json.Unmarshal([]byte(stdout), &v))
	require.Equal(t, results.Inconclusive, v.Verdict)
	require.Equal(t, int64(1), v.Requests.Total)
	for _, name := range []string{results.HTMLFile, results.MarkdownFile, results.VerdictFile} {
		require.FileExists(t, filepath.Join(folder.Path, name))
	}
}

func TestOnlyStandingClustersKeepTheEngineAndAllThatWereBegunAreRemoved(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "clusters", "standing"), 0o700))
	for _, file := range []string{"standing.lock", "standing.log", "killed.lock", "killed.log"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "clusters", file), nil, 0o600))
	}
	a := &app{cacheDir: dir}
	standing, err := a.clusterNames(false)
	require.NoError(t, err)
	require.Equal(t, []string{"standing"}, standing)
	all, err := a.clusterNames(true)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"standing", "killed"}, all)
}

func TestEveryCommandsHelpHasExamplesThatAreTrueAndFitsAScreen(t *testing.T) {
	a := &app{streams: Streams{Out: io.Discard, Err: io.Discard}}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		require.NotEmpty(t, c.Example, c.CommandPath())
		for line := range strings.Lines(c.Example) {
			requireTrue(t, a.newRoot(), line)
		}
		code, stdout, _ := run(t, append(strings.Fields(c.CommandPath())[1:], "--help")...)
		require.Equal(t, 0, code)
		for line := range strings.Lines(stdout) {
			if !strings.Contains(c.Example, strings.TrimSpace(line)) {
				require.LessOrEqual(t, utf8.RuneCountInString(line), helpWidth+1, line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(a.newRoot())
}

// requireTrue parses an example as the shell and the command would.
func requireTrue(t *testing.T, root *cobra.Command, example string) {
	t.Helper()
	example, _, _ = strings.Cut(example, "   #")
	_, example, found := strings.Cut(example, "meshsim ")
	require.True(t, found, example)
	example, _, _ = strings.Cut(example, " | ")
	example, _, _ = strings.Cut(example, " > ")
	example, _, _ = strings.Cut(example, ")")
	words := shellWords.FindAllString(example, -1)
	c, rest, err := root.Find(words)
	require.NoError(t, err, example)
	require.NoError(t, c.ParseFlags(rest), example)
	require.NoError(t, c.ValidateArgs(c.Flags().Args()), example)
}

var shellWords = regexp.MustCompile(`'[^']*'|\S+`)

func TestListsFitAScreen(t *testing.T) {
	_, stdout, _ := run(t, "scenarios", "list")
	for line := range strings.Lines(stdout) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), helpWidth+1, line)
	}
	var out strings.Builder
	a := &app{streams: Streams{Out: &out}}
	require.NoError(t, a.printFindings([]doctor.Finding{{Name: "kernel netem", State: doctor.Warning,
		Detail: strings.Repeat("absent ", 20), Mend: strings.Repeat("load it ", 20)}}, false))
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(line), helpWidth+1, line)
	}
	require.Contains(t, out.String(), "\n"+strings.Repeat(" ", 23)+"mend: load it load it")
}

func TestTheDoctorLooksAtThePortsThatItIsGiven(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no engine, which is another finding
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, taken, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	code, stdout, stderr := run(t, "doctor", "--http-port", taken, "--json")
	require.Equal(t, 4, code, stderr)
	var findings []doctor.Finding
	require.NoError(t, json.Unmarshal([]byte(stdout), &findings))
	i := slices.IndexFunc(findings, func(f doctor.Finding) bool { return f.Name == "port "+taken })
	require.GreaterOrEqual(t, i, 0, stdout)
	require.Equal(t, doctor.Missing, findings[i].State)
	require.Contains(t, findings[i].Mend, taken)
}

func TestAKubeconfigThatIsNotThereIsAnError(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no engine: only the record counts
	code, stdout, stderr := run(t, "status", "--kubeconfig")
	require.Equal(t, 4, code, stderr)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "meshsim up")

	code, stdout, stderr = run(t, "status", "--json")
	require.Equal(t, 0, code, stderr)
	require.JSONEq(t, `{"cluster": null, "containers": [], "nodes": []}`, stdout)
}

func TestAGivenCacheIsFoundFromAnyFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	want, err := filepath.Abs("here")
	require.NoError(t, err)
	got, err := (&app{cacheDir: "here"}).cache()
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func TestAnInterruptedCommandExits130(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, err bytes.Buffer
	code := Run(ctx, Streams{In: strings.NewReader(""), Out: &out, Err: &err}, []string{"scenarios", "list"})
	require.Equal(t, 130, code)
	require.Contains(t, err.String(), "interrupted")
}
