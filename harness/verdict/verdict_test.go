package verdict

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/harness/verdict/synthetic"
	"meshsim.dev/meshsim/results"
)

func TestACarefulRolloutPasses(t *testing.T) {
	f, err := synthetic.Write(t.TempDir(), synthetic.Options{Seed: 1})
	require.NoError(t, err)
	v, err := Evaluate(f)
	require.NoError(t, err)
	require.Equal(t, results.Pass, v.Verdict, "%+v", v.Reasons)
	require.Empty(t, v.Reasons)
	require.Empty(t, v.Causes)
	require.Len(t, v.Budgets, 4+5+2+17+8)
	require.Equal(t, int64(36000), v.Requests.Total)
	require.Equal(t, "fakemesh", v.Mesh)
	again, err := Evaluate(f)
	require.NoError(t, err)
	require.Equal(t, v, again, "the same folder gives the same verdict")
}

func TestACarelessRolloutFailsAndSaysWhy(t *testing.T) {
	f, err := synthetic.Write(t.TempDir(), synthetic.Options{Careless: true, Seed: 1})
	require.NoError(t, err)
	v, err := Evaluate(f)
	require.NoError(t, err)
	require.Equal(t, results.Fail, v.Verdict)
	kinds := map[string]int64{}
	for _, c := range v.Causes {
		kinds[c.Kind] += c.Count
	}
	require.Zero(t, kinds[causeUnknown])
	require.Equal(t, v.Requests.Failed, kinds[causeNoProxy]+kinds[causeDrain])
	require.Positive(t, kinds[causeDrain])
	require.Contains(t, v.Causes[0].Cause, "inventory-management refused configuration-engine once policy all-authenticated was enforced: configuration-engine has no proxy")
	verdicts := map[string]results.Judgement{}
	for _, b := range v.Budgets {
		verdicts[strings.TrimSpace(b.Phase+" "+b.Text)] = b.Verdict
	}
	require.Equal(t, results.Pass, verdicts["baseline availability >= 99.95%"])
	require.Equal(t, results.Fail, verdicts["soak availability >= 99.95%"])
	require.Equal(t, results.Fail, verdicts["injected pods = 100%"])
	require.Equal(t, results.Fail, verdicts["plaintext calls accepted = 0"])
	require.Equal(t, results.Pass, verdicts["orders lost or doubled = 0"])
}

func TestVerdictJSONBeginsWithTheFieldsThatStay(t *testing.T) {
	v := newStory("failed requests = 0").served("soak", 10).first(1, failWith("eof")).judge(t)
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	at := -1
	for _, key := range []string{"verdict", "scenario", "run", "mesh", "standIns", "requests", "phases", "budgets", "causes"} {
		next := strings.Index(string(raw), `"`+key+`":`)
		require.Greater(t, next, at, key)
		at = next
	}
	for _, part := range []string{
		`{"verdict":"fail","scenario":"demo","run":"20260504T093000Z-demo","mesh":"fakemesh","standIns":[],"requests":{"total":10,"failed":1,"late":0,`,
		`"phases":[{"name":"soak","requests":10,"failed":1,"p50Ms":5.003,"p99Ms":5.003,`,
		`"budgets":[{"text":"failed requests = 0","phase":"soak","verdict":"fail","measured":"1 of 10 failed: 1 × eof"`,
		`"causes":[{"cause":"unknown: eof at product-catalog: 1 × eof","count":1,"evidence":[`,
	} {
		require.Contains(t, string(raw), part)
	}
}

func TestARunThatIsNotWholeNeverPasses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*story)
		damage func(t *testing.T, f *results.Folder)
		reason string
	}{
		"interrupted":      {change: func(s *story) { s.run.Interrupted = true }, reason: "the run was interrupted"},
		"ended by a fault": {change: func(s *story) { s.run.Interrupted, s.run.Error = true, "vault did not come" }, reason: "the run ended early: vault did not come"},
		"killed":           {change: func(s *story) { s.cutOff = true }, reason: "the run was cut off: its record has no end"},
		"requests cut in a line": {damage: func(t *testing.T, f *results.Folder) {
			raw := read(t, f, results.RequestsFile)
			write(t, f, results.RequestsFile, raw[:len(raw)-5])
		}, reason: "requests.jsonl has lost 1 of its lines"},
		"requests cut between lines": {damage: func(t *testing.T, f *results.Folder) {
			raw := read(t, f, results.RequestsFile)
			write(t, f, results.RequestsFile, raw[:strings.LastIndex(strings.TrimSpace(raw), "\n")+1])
		}, reason: "requests.jsonl has lost 1 of its lines"},
		"requests cut at the last line's end": {damage: func(t *testing.T, f *results.Folder) {
			raw := read(t, f, results.RequestsFile)
			write(t, f, results.RequestsFile, raw[:len(raw)-1])
		}, reason: "requests.jsonl stops in the middle of a line"},
		"requests gone": {damage: func(t *testing.T, f *results.Folder) {
			require.NoError(t, os.Remove(filepath.Join(f.Path, results.RequestsFile)))
		}, reason: "requests.jsonl has lost 6,000 of its lines"},
		"events gone": {damage: func(t *testing.T, f *results.Folder) {
			require.NoError(t, os.Remove(filepath.Join(f.Path, results.EventsFile)))
		}, reason: "events.jsonl has lost 1 of its lines"},
		"probes gone": {damage: func(t *testing.T, f *results.Folder) { write(t, f, results.ProbesFile, "") },
			reason: "probes.jsonl has lost 1 of its lines"},
		"no budget": {change: func(s *story) { s.run.Budgets = nil }, reason: "no budget was set"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory("failed requests = 0").served("soak", 6000).event(0, results.PhaseBegin, "soak").probe("injection", results.Injection{})
			if c.change != nil {
				c.change(s)
			}
			f := s.write(t)
			if c.damage != nil {
				c.damage(t, f)
			}
			v, err := Evaluate(f)
			require.NoError(t, err)
			require.Equal(t, results.Inconclusive, v.Verdict)
			require.Contains(t, v.Reasons, c.reason)
			for _, b := range v.Budgets {
				require.Equal(t, results.Inconclusive, b.Verdict)
			}
		})
	}
}

func TestWhatWasSeenBeforeACutStays(t *testing.T) {
	s := newStory("failed requests = 0", "availability >= 99.95%").served("soak", 6000).first(1, failWith("reset"))
	s.run.Interrupted = true
	v := s.judge(t)
	require.Equal(t, results.Fail, v.Verdict, "a failure that was seen is one, whatever came after")
	require.Equal(t, results.Fail, v.Budgets[0].Verdict)
	s = newStory("failed requests = 0").served("soak", 6000)
	s.run.Interrupted = true
	require.Equal(t, "so far 0 of 6,000 failed; the record is not whole", s.judge(t).Budgets[0].Measured)
}

func TestADamagedRecordIsAnErrorThatNamesItsPlace(t *testing.T) {
	for _, name := range []string{results.RequestsFile, results.EventsFile, results.ProbesFile} {
		f := newStory("failed requests = 0").served("soak", 10).event(0, results.Note, "x").probe("x", 1).write(t)
		write(t, f, name, "rubbish\n"+read(t, f, name))
		_, err := Evaluate(f)
		require.ErrorContains(t, err, name+":1: ")
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
	f := newStory("all fine").write(t)
	_, err := Evaluate(f)
	require.ErrorContains(t, err, `run.json: budget "all fine": column 1: no budget begins with`)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func read(t testing.TB, f *results.Folder, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(f.Path, name))
	require.NoError(t, err)
	return string(raw)
}

func write(t testing.TB, f *results.Folder, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(f.Path, name), []byte(content), 0o644))
}

func FuzzEvaluate(f *testing.F) {
	f.Add(`{"id":"x","budgets":["failed requests = 0"],"phases":[{"name":"soak","judged":true}]}`,
		`{"seq":1,"scheduled":9000000000000000000,"sent":9000000000000000001,"done":9223372036854775807,"outcome":"failed","class":"reset","phase":"soak"}`,
		`{"at":-9223372036854775808,"kind":"pod","name":"p","fields":{"state":"terminating"}}`)
	f.Add(`{"budgets":["availability >= 99%","end-to-end p99 < 1ms"],"traffic":{"maxLateNs":1}}`, "{\"outcome\":\"undispatched\"}\n{", "")
	f.Fuzz(func(t *testing.T, run, requests, events string) {
		folder := &results.Folder{Path: t.TempDir()}
		write(t, folder, results.RunFile, run)
		write(t, folder, results.RequestsFile, requests)
		write(t, folder, results.EventsFile, events)
		v, err := Evaluate(folder)
		if err != nil {
			return
		}
		if v.Verdict == results.Pass && (v.Requests.Failed > 0 || len(v.Budgets) == 0) {
			t.Errorf("passed with %d failures and %d budgets", v.Requests.Failed, len(v.Budgets))
		}
		if len(v.Timeline.Buckets) > maxBuckets {
			t.Errorf("%d buckets", len(v.Timeline.Buckets))
		}
	})
}

func BenchmarkEvaluate(b *testing.B) {
	for name, with := range map[string]synthetic.Options{
		"careful":  {},
		"careless": {Careless: true},
		"hops": {Ways: true, Budgets: []string{
			"failed calls = 0 of service payment-gateway", "call latency p99 < 500ms of caller product-catalog in soak",
			"failed requests = 0 shown to 99% of service customer-profile and version v1", "end-to-end p95 < 500ms of route order",
			"recovery within 60s after begin of step restart-vault",
		}},
	} {
		b.Run(name, func(b *testing.B) {
			with.PerPhase, with.Seed = 12000, 1
			f, err := synthetic.Write(b.TempDir(), with)
			if err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Evaluate(f); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(time.Since(began).Milliseconds())/float64(b.N), "ms/run-of-60000")
		})
	}
}
