package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTrafficIsDrawnInEveryForm(t *testing.T) {
	svg := filepath.Join(t.TempDir(), "x.svg")
	for _, c := range []struct {
		name string
		args []string
		want []string // all of them in the output
	}{
		{"a launch day", nil, []string{"launch-day of 5000 requests", "5,000 requests in 1m30s"}},
		{"a scenario", []string{"mtls-rollout"}, []string{"baseline", "soak", "34,500 requests in 19m32s"}},
		{"a scenario on a shorter day", []string{"mtls-rollout", "--day", "100s"}, []string{"soak", "34,500 requests in 9m46s"}},
		{"a shape", []string{"--shape", "{ramp: {from: 0, to: 60/min, over: 1m}}", "--day", "10s"}, []string{"ramp from 0/s to 1/s over 1m0s", "45 requests in 1m15s"}},
		{"twice a shape, for a while", []string{"--shape", "{constant: 5}", "--scale", "2", "--for", "30s"}, []string{"300 requests in 30s"}},
		{"a picture", []string{"mtls-rollout-ci", "--svg", "-"}, []string{"<svg ", "mtls-rollout-ci"}},
		{"a picture in a file", []string{"mtls-rollout-ci", "--svg", svg}, []string{"drawn: " + svg}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := run(t, append([]string{"traffic", "show"}, c.args...)...)
			require.Equal(t, 0, code, stderr)
			for _, want := range c.want {
				require.Contains(t, stdout, want)
			}
		})
	}
	raw, err := os.ReadFile(svg)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(raw), "<svg "))

	code, stdout, stderr := run(t, "traffic", "show", "--json", "--launch-requests", "7000")
	require.Equal(t, 0, code, stderr)
	var figure struct {
		Requests, Faster float64
		Samples          []any
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &figure))
	require.InDelta(t, 7000, figure.Requests, 0.01)
	require.InDelta(t, 960, figure.Faster, 0.01)
	require.NotEmpty(t, figure.Samples)
}

func TestLogsAreImportedDrawnAndReplayed(t *testing.T) {
	dir := t.TempDir()
	log, out := filepath.Join(dir, "a.log"), filepath.Join(dir, "out.jsonl.gz")
	var text strings.Builder
	for i := range 600 {
		fmt.Fprintf(&text, `192.0.2.1 - - [11/Jun/2024:07:%02d:%02d +0000] "GET /api/catalog/products/p-%d HTTP/1.1" 200 1`+"\n", i/60, i%60, i)
	}
	text.WriteString("garbage\n")
	require.NoError(t, os.WriteFile(log, []byte(text.String()), 0o600))

	code, stdout, stderr := run(t, "traffic", "import", log)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "601 lines of 1 logs, 600 requests recorded: 9m59s from 2024-06-11 07:00:00 UTC")
	require.NoFileExists(t, out)
	code, stdout, stderr = run(t, "traffic", "import", filepath.Join(dir, "*.log"), "-o", out, "--json", "--to", "2024-06-11T07:05:00Z")
	require.Equal(t, 0, code, stderr)
	var report struct {
		Requests int64
		SpanNs   time.Duration
		Unused   []struct{ Lines int64 }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Equal(t, int64(300), report.Requests)
	require.Equal(t, 299*time.Second, report.SpanNs)
	require.Equal(t, int64(300), report.Unused[0].Lines)

	code, stdout, stderr = run(t, "traffic", "show", out, "--day", "1440s")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "300 requests in 5s: 60.0 a second")

	scenario := filepath.Join(dir, "s.yaml")
	shipped, err := os.ReadFile("../../scenarios/mtls-rollout-ci.yaml")
	require.NoError(t, err)
	replayed := strings.Replace(string(shipped), "    mix: {browse: 40, search: 15, configure: 15, order: 8, customer: 7, recommend: 10, grpc-get-product: 3, grpc-stock: 2}",
		"    replay: {file: out.jsonl.gz, scale: 0.5, compressTo: 30s}", 1)
	replayed = strings.Replace(replayed, "  - orders lost or doubled = 0\n  - items oversold = 0\n  - payments unmatched = 0", "", 1)
	require.NoError(t, os.WriteFile(scenario, []byte(replayed), 0o600))
	code, stdout, stderr = run(t, "scenarios", "explain", scenario)
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, "Traffic: replay of 300 recorded requests in 30s, scaled by 0.5:\n5.0 requests a second")
}

func TestTrafficThatCannotBeShownOrImportedIsWrongUse(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "a.log")
	require.NoError(t, os.WriteFile(log, []byte(`{"ts":1718089200,"method":"GET","path":"/elsewhere"}`+"\n"), 0o600))
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"an unknown scenario", []string{"show", "nope"}, `"nope"`},
		{"a scenario with a shape", []string{"show", "mtls-rollout", "--shape", "diurnal"}, "--shape is for shapes"},
		{"a shape that is none", []string{"show", "--shape", "{wiggle: 1}"}, `--shape:1:2: unknown shape "wiggle"`},
		{"two forms", []string{"show", "--json", "--svg", "x"}, "svg"},
		{"a day of nothing", []string{"show", "--requests", "0"}, "--requests"},
		{"a scale below nothing", []string{"show", "--scale", "-1"}, "--scale"},
		{"a day of no time", []string{"show", "--day", "1ms"}, "--day"},
		{"a day without a scenario", []string{"calibrate", "--day", "90s"}, "--day"},
		{"a recording that is not there", []string{"show", filepath.Join(dir, "x.jsonl")}, "is not there"},
		{"a recording with a shape", []string{"show", "x.jsonl", "--shape", "diurnal"}, "the recording has its own"},
		{"a picture nowhere", []string{"show", "--svg", filepath.Join(dir, "no", "x.svg")}, "create"},
		{"no log", []string{"import"}, "requires at least 1 arg"},
		{"a log that is not there", []string{"import", filepath.Join(dir, "b.log")}, "is not there"},
		{"rules that are not there", []string{"import", log, "--rules", "nope.yaml"}, "nope.yaml are not there"},
		{"a format of another kind", []string{"import", log, "--format", "w3c"}, "auto alb combined ndjson"},
		{"a window of nothing", []string{"import", log, "--window", "1ms"}, "--window"},
		{"a time that is none", []string{"import", log, "--from", "noon"}, "--from"},
		{"nothing to replay", []string{"import", log, "-o", filepath.Join(dir, "out.jsonl")}, "none of the lines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := run(t, append([]string{"traffic"}, c.args...)...)
			require.Equal(t, 2, code, stderr)
			require.Contains(t, stderr, c.want)
		})
	}
	require.NoFileExists(t, filepath.Join(dir, "out.jsonl"))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}
