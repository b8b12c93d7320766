package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/scenarios/recording"
	"meshsim.dev/meshsim/scenarios/shape"
)

// record writes a recording of so many seconds, a request of each route a second.
func record(t *testing.T, seconds int, routes ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recorded.jsonl.gz")
	f, err := recording.Create(path)
	require.NoError(t, err)
	for i := range seconds {
		for _, route := range routes {
			require.NoError(t, f.Add(1_700_000_000_000_000+int64(i)*1_000_000, route, 2))
		}
	}
	require.NoError(t, f.Commit())
	return path
}

// spec is a scenario with other traffic.
func spec(traffic string) string {
	return strings.Replace(smallest, "spec:\n", "spec:\n  traffic:\n"+traffic, 1)
}

func TestEveryShapeCanBeWritten(t *testing.T) {
	const s = time.Second
	file := record(t, 101, "browse", "order")
	for _, c := range []struct {
		name, yaml string
		want       shape.Shape // nil where words tells enough
		words      string
	}{
		{"the day as it is", "launch-day", shape.LaunchDay(1000, 5000, 90*s), "launch-day of 5000 requests, 1000 on any day, in 1m30s"},
		{"a day of its own", "{launch-day: {requests: 10, launchRequests: 20, lasts: 1m}}", shape.LaunchDay(10, 20, 60*s), "launch-day of 20"},
		{"twice the day", "doubled", shape.Scale(shape.LaunchDay(1000, 5000, 90*s), 2), "doubled launch-day of 5000"},
		{"an ordinary day", "diurnal", shape.Diurnal(1000, 0.35, 0.6, 90*s), "diurnal, 1000 requests"},
		{"an evening peak", `{diurnal: {requests: 90, swing: 50%, peak: "18:00", lasts: 9s}}`, shape.Diurnal(90, 0.5, 0.75, 9*s), "±50 %"},
		{"a rate", "{constant: 25}", shape.Constant(25), "constant 25/s"},
		{"a rate a day", "{constant: {rate: 86400/d}}", shape.Constant(1), ""},
		{"a ramp", "{ramp: {from: 60/min, to: 5, over: 10s}}", shape.Ramp(1, 5, 10*s), ""},
		{"a step", "{step: {from: 3600/h, to: 5.5, at: 10s}}", shape.Step(1, 5.5, 10*s), ""},
		{"a spike", "{spike: {base: 1/s, peak: 50, at: 5s, rise: 1s, hold: 2s, fall: 3s, every: 30s}}", shape.Spike(1, 50, shape.Peak{At: 5 * s, Rise: s, Hold: 2 * s, Fall: 3 * s, Every: 30 * s}), ""},
		{"a sum", "{sum: [{constant: 1}, {constant: 2}]}", shape.Constant(3), ""},
		{"the highest", "{max: [{constant: 1}, {constant: 2}]}", shape.Constant(2), ""},
		{"a sequence", "{sequence: [{shape: {constant: 1}, for: 5s}, {shape: {constant: 4}}]}", shape.Step(1, 4, 5*s), "(constant 1/s) for 5s, then (constant 4/s)"},
		{"a scaled one", "{scale: {by: 3, shape: {constant: 2}}}", shape.Constant(6), ""},
		{"a compressed one", "{compress: {by: 432, shape: {step: {from: 432/d, to: 864/d, at: 12h}}}}", shape.Step(2.16, 4.32, 100*s), ""},
		{"a recording", "{recorded: {file: " + file + ", compressTo: 50s}}", shape.Constant(4.04), "recorded, 202 requests"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("demo.yaml", []byte(spec("    shape: "+c.yaml+"\n")))
			require.NoError(t, err)
			rates := got.Spec.Traffic.Rates()
			require.Contains(t, rates.String(), c.words)
			for at := time.Duration(0); at < 90*s; at += 777 * time.Millisecond {
				require.InDelta(t, c.want.Rate(at), rates.Rate(at), 0.05*c.want.Bound(), "at %s", at)
			}
			require.InDelta(t, c.want.Count(0, 90*s), rates.Count(0, 90*s), 0.01*c.want.Count(0, 90*s))
			require.Equal(t, rates.String(), got.RecordedTraffic().Shape)
			require.Equal(t, rates.Mean(), got.RecordedTraffic().MeanRate)
			var b strings.Builder
			require.NoError(t, got.Explain(&b))
			require.Contains(t, b.String(), "Traffic: ")
		})
	}
}

func TestWithoutAShapeTheRecordIsOfALaunchDay(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(smallest))
	require.NoError(t, err)
	r := s.RecordedTraffic()
	require.Empty(t, r.Shape)
	require.Zero(t, r.MeanRate)
	require.Equal(t, shape.LaunchDay(1000, 5000, 90*time.Second), s.Spec.Traffic.Rates())
}

func TestAShapesDefaultsAreTheDaysWhereverItIsWritten(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(spec("    shape: {sum: [launch-day]}\n    day: {requests: 7, launchRequests: 70}\n    compressTo: 7s\n")))
	require.NoError(t, err)
	require.InEpsilon(t, 70, s.Spec.Traffic.Rates().Count(0, 7*time.Second), 1e-9)
}

func TestWhatIsWrongWithAShapeIsToldWithItsPlace(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		line       int
		want       string
	}{
		{"an unknown shape", "    shape: {wiggle: 3}\n", 6, `unknown shape "wiggle"; known are: compress, constant, diurnal, doubled, launch-day, max, ramp, recorded, scale, sequence, spike, step, sum`},
		{"an unknown option", "    shape: {ramp: {from: 1, to: 2, over: 3s, unto: 4}}\n", 6, `unknown key "unto" in shape ramp`},
		{"a missing option", "    shape: {ramp: {from: 1, to: 2}}\n", 6, `shape ramp needs the key "over"`},
		{"no rate", "    shape: {constant: quick}\n", 6, `constant: "quick" is no rate`},
		{"a rate below nothing", "    shape: {constant: -1}\n", 6, "is no rate"},
		{"a rate of all the world", "    shape: {constant: 1e9}\n", 6, "is no rate"},
		{"two at once", "    shape: {constant: 1, ramp: {}}\n", 6, "a shape should be one name with its options"},
		{"an empty sum", "    shape: {sum: []}\n", 6, "sum should have at least one shape"},
		{"an empty sequence", "    shape: {sequence: []}\n", 6, "sequence should have at least one part"},
		{"a sequence that never goes on", "    shape:\n      sequence:\n      - {shape: {constant: 1}}\n      - {shape: {constant: 2}}\n", 8, "only the last part"},
		{"a spike without length", "    shape: {spike: {base: 1, peak: 2, at: 3s}}\n", 6, "a spike should last"},
		{"a spike that overlaps itself", "    shape: {spike: {base: 1, peak: 2, at: 3s, hold: 5s, every: 4s}}\n", 6, "cannot come again every 4s"},
		{"no time of day", "    shape: {diurnal: {peak: noon}}\n", 6, `peak should be a time of day such as 14:30, not "noon"`},
		{"a launch smaller than a day", "    shape: {launch-day: {requests: 20, launchRequests: 10}}\n", 6, "no less than requests"},
		{"a recording that is not there", "    shape: {recorded: {file: nope.jsonl}}\n", 6, "recording nope.jsonl is not there"},
		{"shapes without end", "    shape: &a {sum: [*a, *a]}\n", 6, "at most 32 shapes"},
		{"silence that is waited for", "    shape: {constant: 0}\n", 8, `phase "baseline" waits for 6000 requests, which this traffic does not bring in any time`},
		{"two kinds of traffic", "    shape: {constant: 1}\n    replay: {file: nope.jsonl}\n", 7, "a shape or a replay, not both"},
		{"a replay with a mix", "    mix: {browse: 1}\n    replay: {file: nope.jsonl}\n", 6, "a mix or a replay"},
		{"a replay of nothing", "    replay: {scale: 2}\n", 6, `replay needs the key "file"`},
		{"a replay of no recording", "    replay: {file: demo.yaml}\n", 6, "demo.yaml"},
		{"bodies of another kind", "    replay: {file: x, bodies: all}\n", 6, "bodies should be one of synthesised, none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			problems := problemsOf(t, spec(c.yaml))
			require.NotEmpty(t, problems)
			for _, p := range problems {
				if p.Line == c.line && strings.Contains(p.Message, c.want) {
					return
				}
			}
			require.Fail(t, "not told", "%q at line %d: %+v", c.want, c.line, problems)
		})
	}
}

func TestAReplaySendsWhatWasRecorded(t *testing.T) {
	file := record(t, 3600, "browse", "order")
	dir := t.TempDir()
	require.NoError(t, os.Rename(file, filepath.Join(dir, "r.jsonl.gz")))
	parse := func(options string) *Scenario {
		text := spec("    compressTo: 240s\n    replay: {file: r.jsonl.gz" + options + "}\n")
		require.NoError(t, os.WriteFile(filepath.Join(dir, "demo.yaml"), []byte(text), 0o600))
		s, err := Load(filepath.Join(dir, "demo.yaml")) // the recording is beside it
		require.NoError(t, err)
		return s
	}
	s := parse("")
	r := s.Spec.Traffic.Replay
	require.Equal(t, 10*time.Second, r.CompressTo.Round(10*time.Millisecond), "an hour of a day in 240 s")
	require.Equal(t, []string{"browse", "order"}, r.Routes())
	require.InEpsilon(t, 720, s.Spec.Traffic.MeanRate(1), 0.001)
	require.InEpsilon(t, 360, s.Spec.Traffic.Faster(), 0.001)
	require.InDelta(t, 2*86400, s.Plan().Phases[0].RealPerDay, 100)
	require.True(t, s.Spec.Traffic.Sends("order"))
	require.False(t, s.Spec.Traffic.Sends("search"))
	require.Nil(t, s.RecordedTraffic().Mix)
	require.Contains(t, s.RecordedTraffic().Shape, "replay of 7200 recorded requests in 9.999s")

	s = parse(", scale: 0.5, compressTo: 100s, bodies: none")
	require.Equal(t, []string{"browse"}, s.Spec.Traffic.Replay.Routes())
	require.InEpsilon(t, 18, s.Spec.Traffic.MeanRate(1), 0.001)
	require.False(t, s.Spec.Traffic.Sends("order"))
}

func TestAReplayWithoutOrdersCannotBeJudgedOnThem(t *testing.T) {
	file := record(t, 10, "browse")
	text := strings.Replace(spec("    replay: {file: "+file+"}\n"), "failed requests = 0", "orders lost or doubled = 0", 1)
	problems := problemsOf(t, text)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, "the replay has no order traffic")

	problems = problemsOf(t, spec("    replay: {file: "+record(t, 10, "order")+", bodies: none}\n"))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, "nothing to send")

	problems = problemsOf(t, spec("    replay: {file: "+record(t, 10, "shoplift")+"}\n"))
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].Message, "the shop has no route shoplift")
}

func TestRatesAreWrittenWithTheirUnit(t *testing.T) {
	for text, want := range map[string]float64{"25": 25, "0": 0, "2.5/s": 2.5, "90/min": 1.5, "7200/h": 2, "86400/d": 1, "86400/day": 1, " 4 / s": 4} {
		got, err := ParseRate(text)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, 1e-12, text)
	}
	for _, text := range []string{"", "/s", "x", "1/week", "-1", "NaN", "Inf", "2e6", "1/s/s"} {
		_, err := ParseRate(text)
		require.Error(t, err, text)
	}
}

func FuzzParseShape(f *testing.F) {
	for _, text := range []string{
		"launch-day", "{constant: 25}", "{ramp: {from: 1, to: 2, over: 3s}}", "{sequence: [{shape: doubled, for: 5s}, {shape: diurnal}]}",
		"{spike: {base: 1, peak: 50, at: 5s, hold: 2s, every: 30s}}", "{compress: {by: 9, shape: {max: [{constant: 1}, {step: {from: 1, to: 2, at: 3h}}]}}}",
		"&a {sum: [*a]}", "{recorded: {file: /dev/null}}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") {
			return // a fuzzer should not open what it thinks of
		}
		s, err := ParseShape("x", text, DefaultTraffic())
		if err != nil {
			if p, ok := errors.AsType[*Problems](err); !ok || fault.KindOf(err) != fault.Invalid || len(p.All) == 0 {
				t.Fatalf("not a list of problems: %v", err)
			}
			return
		}
		if n := s.Count(0, time.Hour); !(n >= 0) {
			t.Fatalf("%s: %v requests", s, n)
		}
		if r := s.Rate(time.Minute); !(r >= 0 && r <= s.Bound()*(1+1e-9)) {
			t.Fatalf("%s: a rate of %v above %v", s, r, s.Bound())
		}
	})
}
