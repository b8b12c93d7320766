package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/traffic/importer"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/test/bench/sheet"
)

// A child of the bench is this program again, which under test is the test; and so
// is meshsim.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(envRole) != "":
		main()
	case len(os.Args) > 2 && os.Args[1] == "traffic" && os.Args[2] == "import":
		if err := importLog(); err != nil {
			log.Fatal(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// importLog is what meshsim does with a log that comes in, but for the recording.
func importLog() error {
	rules, err := scenarios.LoadRules("")
	if err != nil {
		return err
	}
	r, err := importer.Import(context.Background(), importer.Options{Logs: []string{"-"}, Stdin: os.Stdin, Rules: rules, Sink: nowhere{}})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

type nowhere struct{}

func (nowhere) Add(int64, string, uint8) error { return nil }

func TestAQuickRunSaysWhatItFound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-quick", "-only", "lag,rivals,memory,import", "-meshsim", os.Args[0], "-json", file}, os.Getenv, nil, &stdout, &stderr)
	require.Zero(t, code, stderr.String())
	for _, want := range []string{"A quick run", "dispatch lag", "meshsim, HTTP", "meshsim, gRPC", "results kept", "lines imported", "lag p99 at most 1 ms"} {
		require.Contains(t, stdout.String(), want)
	}
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(raw, &r))
	require.Len(t, r.Lags, 4)
	for _, l := range r.Lags {
		require.InDelta(t, l.Rate, l.Requests, 0.5*l.Rate)
		require.Equal(t, l.Requests, l.OK+l.Failed+l.NotSent)
		require.Positive(t, l.CPU)
		require.Positive(t, l.Resident)
	}
	require.Equal(t, int64(100_000), r.Import.Lines)
	require.Positive(t, r.Import.Requests)
	require.Positive(t, r.Import.Start)
	require.Greater(t, r.Import.Resident, r.Import.File)
	require.GreaterOrEqual(t, r.Memory[1].Results, int64(2000))
	require.Len(t, r.Rivals, 2, "no other program was named")
	for _, one := range r.Rivals {
		require.Positive(t, one.Answered)
		require.Len(t, one.Turns, 1)
	}
}

func TestWhatCannotBeMeasuredIsRefused(t *testing.T) {
	for _, args := range [][]string{{"-only", "luck"}, {"extra"}, {"-no-such-flag"}} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, sheet.CodeUsage, run(t.Context(), args, func(string) string { return "" }, nil, &stdout, &stderr), args)
		require.NotEmpty(t, stderr.String())
	}
	var stdout, stderr bytes.Buffer
	role := func(name string) string { return map[string]string{envRole: "juggler"}[name] }
	require.Equal(t, sheet.CodeFailed, run(t.Context(), nil, role, strings.NewReader(""), &stdout, &stderr))
}

func TestTheReportsOfOtherProgramsAreRead(t *testing.T) {
	n, err := parseVegeta([]byte(`{"requests":12,"status_codes":{"200":10,"0":2}}`))
	require.NoError(t, err)
	require.Equal(t, int64(10), n)
	n, err = parseGHZ([]byte(`{"count":9,"statusCodeDistribution":{"OK":7,"Unavailable":2}}`))
	require.NoError(t, err)
	require.Equal(t, int64(7), n)
	n, err = parseWrk([]byte("Running 5s test\n  1 threads and 32 connections\n  123456 requests in 5.00s, 16.00MB read\nRequests/sec: 1\n"))
	require.NoError(t, err)
	require.Equal(t, int64(123456), n)
	_, err = parseWrk([]byte("  5 requests in 5.00s, 1MB read\n  Non-2xx or 3xx responses: 5\n"))
	require.ErrorContains(t, err, "answered with failures")
	for _, parse := range []func([]byte) (int64, error){parseVegeta, parseGHZ, parseWrk} {
		_, err = parse([]byte("nonsense"))
		require.Error(t, err)
	}
}

func TestGoalsAreHeldAgainstWhatWasMeasured(t *testing.T) {
	r := &report{
		Lags: []lag{
			{Protocol: "HTTP", Rate: 1000, Held: true, sent: sent{LagP99: 1000}},
			{Protocol: "gRPC", Rate: 1000, Held: true, sent: sent{LagP99: 1001}},
			{Protocol: "gRPC", Rate: 100, Held: true, sent: sent{LagP99: 5000}},
			{Protocol: "HTTP", Rate: 1000, Highest: true, sent: sent{LagP99: 9000}},
		},
		Memory: []memory{{Results: 1000}, {Results: 1_000_001, residence: residence{Resident: 150 << 20}}},
		Import: &importFigures{imported: imported{Lines: 10_000_000, Took: 33e9, residence: residence{Resident: 65 << 20}}},
	}
	r.took(ourHTTP, 900, used{CPU: 1})
	r.took(ourHTTP, 900, used{CPU: 1})
	r.took(vegetas, 1000, used{CPU: 1})
	r.took(ourGRPC, 899, used{CPU: 1})
	r.took(ghzs, 1000, used{CPU: 1})
	r.judge()
	met := map[string]bool{}
	for _, g := range r.Goals {
		met[g.Goal] = g.Met
	}
	require.Equal(t, map[string]bool{
		"HTTP at 1000/s: lag p99 at most 1 ms":              true,
		"gRPC at 1000/s: lag p99 at most 1 ms":              false,
		"requests per CPU-second at least 0.9 × vegeta's":   true,
		"requests per CPU-second at least 0.9 × ghz's":      false,
		"1000000 results: at most 150 MiB resident":         true,
		"10000000 lines imported, at least 300000 a second": true,
		"10000000 lines imported: at most 64 MiB resident":  false,
	}, met)
	var b bytes.Buffer
	require.NoError(t, r.writeTables(&b))
	require.Contains(t, b.String(), "met     HTTP at 1000/s: lag p99 at most 1 ms: 1.00 ms\n")
	require.Contains(t, b.String(), "missed  requests per CPU-second at least 0.9 × ghz's: 0.90 × (899 and 1000)\n")
}
