package report

import (
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"meshsim.dev/meshsim/results"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// samples are judged synthetic runs, kept by the tests of harness/verdict.
var samples = []string{"pass", "fail", "inconclusive"}

func sample(t testing.TB, name string) Data {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	require.NoError(t, err)
	var d Data
	require.NoError(t, json.Unmarshal(raw, &d))
	return d
}

func render(t testing.TB, to func(io.Writer, Data) error, d Data) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, to(&b, d))
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func terminal80(w io.Writer, d Data) error { return Terminal(w, d, Screen{}) }

func TestReportsAreAsTheirGoldenFiles(t *testing.T) {
	for _, name := range samples {
		d := sample(t, name)
		golden(t, name+".md", render(t, Markdown, d))
		golden(t, name+".txt", render(t, terminal80, d))
		golden(t, name+".xml", render(t, JUnit, d))
	}
}

func TestTheHeadlineSaysWhy(t *testing.T) {
	require.Equal(t, "All 26 budgets hold. 36,000 requests were sent, none failed.", sample(t, "pass").headline())
	require.Equal(t, "5 of 11 budgets are broken: failed requests = 0; availability >= 99.95%; injected pods = 100%; mtls calls = 100%; "+
		"plaintext calls accepted = 0. Most failures: inventory-management refused configuration-engine once policy all-authenticated was enforced: "+
		"configuration-engine has no proxy: 2,644 × http-403.", sample(t, "fail").headline())
	require.Contains(t, sample(t, "inconclusive").headline(), "Nothing is broken, but not everything is shown. 3 of 26 budgets are open: "+
		"failed requests = 0; availability >= 99.95%; end-to-end p99 < 100ms. Too few requests were seen: in baseline 1,500 of 6,000, stack 1,500 of 6,000")
}

func TestThePageNeedsNothingElse(t *testing.T) {
	for _, name := range samples {
		page := render(t, HTML, sample(t, name))
		require.NotRegexp(t, regexp.MustCompile(`(?i)<link|<img|<iframe|@import|url\([^#]|https?://|\son[a-z]+=|\ssrc=`), page)
		require.Contains(t, html.UnescapeString(page), `content="default-src 'none'; style-src 'unsafe-inline'; script-src '`+hashOf(pageScript)+`'"`)
		require.Equal(t, 1, strings.Count(page, "<script"), "its own, which the policy names by its hash")
		require.Contains(t, page, "<script>"+pageScript+"</script>", "what the hash is of")
		require.Contains(t, page, "prefers-color-scheme: dark")
		require.NotContains(t, page, "ZgotmplZ", "nothing was refused by the template")
		require.NotContains(t, page, "NaN")
		require.Less(t, len(page), 600<<10)
	}
}

func TestThePageShowsWhatWasJudged(t *testing.T) {
	text := textOf(t, render(t, HTML, sample(t, "fail")))
	for _, want := range []string{
		"fail mtls-rollout-careless", "5 of 11 budgets are broken", "Synthetic run: made up to show and test the report.",
		"stand-in for Linkerd", "1,258 of 6,000 failed: 1,241 × http-403, 16 × http-502, 1 × grpc-UNAVAILABLE",
		"product-catalog pods were stopped without drain during inject: 12 × http-502", "pods: product-catalog-6d5f7c9b4-x7k2p",
		"budget 100 ms", "enforce all-authenticated", "meshsim.local/vault:1.19.0", "meshsim run mtls-rollout-careless (seed 5000)", "kind drain, failure mode R1", "to spare", "Between services", "Who got in",
		"pod requests × 0.08 for CPU and × 0.5 for memory", "p50 0.21 ms, p99 0.90 ms", "Clopper-Pearson",
	} {
		require.Contains(t, text, want)
	}
}

func TestThePageShowsWhatTheMeshAdded(t *testing.T) {
	text := textOf(t, render(t, HTML, sample(t, "pass")))
	for _, want := range []string{"What the mesh added", "512 bytes, per hop", "3,000 interleaved triples in verify", "plain − plain", "Certificates", "mesh issuer", "renewed from 2026-07-26"} {
		require.Contains(t, text, want)
	}
}

func TestCausesBeyondTheFirstFewAreFoldedAway(t *testing.T) {
	d := sample(t, "fail")
	one := d.Verdict.Causes[4]
	for range 3 {
		d.Verdict.Causes = append(d.Verdict.Causes, one)
	}
	page := render(t, HTML, d)
	require.Contains(t, textOf(t, page), "2 more causes")
	require.Equal(t, 8, strings.Count(page, `<article class="cause">`))
}

// textOf returns the page's text, and fails when a tag is left open.
func textOf(t testing.TB, page string) string {
	t.Helper()
	var words []string
	var open []string
	void := map[string]bool{"meta": true, "br": true, "rect": true, "line": true, "path": true, "input": true, "circle": true}
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			require.ErrorIs(t, z.Err(), io.EOF)
			require.Empty(t, open, "tags left open")
			return strings.Join(strings.Fields(strings.ReplaceAll(strings.Join(words, " "), "\u00a0", " ")), " ")
		case html.TextToken:
			if len(open) == 0 || open[len(open)-1] != "style" && open[len(open)-1] != "script" {
				words = append(words, string(z.Text()))
			}
		case html.StartTagToken:
			name, _ := z.TagName()
			if tag := string(name); !void[tag] || tag == "rect" {
				open = append(open, tag)
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			require.NotEmpty(t, open, "closed %s", name)
			require.Equal(t, open[len(open)-1], string(name))
			open = open[:len(open)-1]
		}
	}
}

const nasty = "</title><script>alert(1)</script>\"' onload=x | `code` *b* _i_ [l](x) @you #1 \x00\x1b[31m\r\nnext ]]> & \u202e"

// poisoned is a run whose every text is nasty.
func poisoned(t testing.TB) Data {
	d := sample(t, "fail")
	d.Run.ID, d.Run.Scenario, d.Run.Topology, d.Run.Tool, d.Run.Host.Kernel = nasty, nasty, nasty, nasty, nasty
	d.Run.Notes, d.Run.StandIns = []string{nasty}, []string{nasty}
	d.Run.Images = []results.Image{{Name: nasty, Ref: nasty, Digest: nasty, Version: nasty, Origin: nasty}}
	d.Run.ClockOffsets = map[string]int64{nasty: 5}
	v := &d.Verdict
	v.Scenario, v.Run, v.Mesh, v.Reasons = nasty, nasty, nasty, []string{nasty}
	for i := range v.Phases {
		v.Phases[i].Name = nasty
	}
	for i := range v.Budgets {
		b := &v.Budgets[i]
		b.Text, b.Phase, b.Measured, b.Evidence = nasty, nasty, nasty, []string{nasty}
	}
	for i := range v.Causes {
		c := &v.Causes[i]
		c.Cause, c.Evidence, c.Mend, c.Pods, c.FailureMode = nasty, []string{nasty}, nasty, []string{nasty}, nasty
		for j := range c.Requests {
			r := &c.Requests[j]
			r.Phase, r.Route, r.Class, r.Hop, r.Pod, r.Error, r.Way, r.Near = nasty, nasty, nasty, nasty, nasty, nasty, nasty, []string{nasty}
		}
	}
	for i := range v.Routes {
		v.Routes[i].Name = nasty
	}
	d.Matrices = []Matrix{{Kind: nasty, Probe: nasty, Phase: nasty, Callers: []string{nasty}, Callees: []string{nasty}, Cells: []MatrixCell{
		{Caller: nasty, Callee: nasty, State: nasty, Bad: true, Details: []string{nasty}},
	}}}
	d.Certificates = []Certificate{{Name: nasty, NotAfter: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), Detail: nasty}}
	for i := range d.Added {
		d.Added[i].Phase = nasty
	}
	for i := range d.Events {
		d.Events[i].Name, d.Events[i].Detail, d.Events[i].Fields = nasty, nasty, map[string]string{results.FieldError: nasty}
	}
	return d
}

func TestWhatComesFromARunIsOnlyEverText(t *testing.T) {
	d := poisoned(t)
	page := render(t, HTML, d)
	textOf(t, page)
	require.Equal(t, 1, strings.Count(page, "<script"))
	require.NotContains(t, page, "alert(1)</script")
	require.NotContains(t, page, `" onload`)

	md := render(t, Markdown, d)
	require.NotContains(t, md, "<script")
	require.NotContains(t, md, "@you")
	require.NotContains(t, md, "[l](x)")
	for line := range strings.Lines(md) {
		require.NotContains(t, line, "\x1b")
		require.False(t, strings.HasPrefix(line, "next"), "a line was broken: %q", line)
	}
	screen := render(t, terminal80, d)
	require.NotContains(t, screen, "\x1b", "no escape sequence reaches the terminal")
	require.NotContains(t, screen, "\x00")
	require.NotContains(t, screen, "\u202e")

	junit := render(t, JUnit, d)
	var suite junitSuite
	require.NoError(t, xml.Unmarshal([]byte(junit), &suite))
}

func TestTheSummaryFitsTheScreen(t *testing.T) {
	for width, limit := range map[int]int{0: 80, 60: 60, 80: 80, 100: 100, 300: 100} {
		for _, d := range []Data{sample(t, "pass"), sample(t, "fail"), sample(t, "inconclusive"), poisoned(t)} {
			var b strings.Builder
			require.NoError(t, Terminal(&b, d, Screen{Width: width}))
			for line := range strings.Lines(b.String()) {
				require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), limit, line)
			}
		}
	}
}

func TestColoursAddNothingButColour(t *testing.T) {
	for _, name := range samples {
		d := sample(t, name)
		var colored strings.Builder
		require.NoError(t, Terminal(&colored, d, Screen{Color: true}))
		require.Contains(t, colored.String(), "\x1b[1;3")
		bare := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored.String(), "")
		require.Equal(t, render(t, terminal80, d), bare)
	}
}

func TestJUnitNeverShowsAnOpenBudgetAsPassed(t *testing.T) {
	var suite junitSuite
	require.NoError(t, xml.Unmarshal([]byte(render(t, JUnit, sample(t, "inconclusive"))), &suite))
	require.Equal(t, 37, suite.Tests)
	require.Zero(t, suite.Failures)
	require.Equal(t, 12, suite.Errors)
	require.Equal(t, "failed requests = 0 in stack, inject, enforce, soak [stack]", suite.Cases[0].Name)
	require.Equal(t, "0 of 1,500 failed; 4,500 more requests are needed", suite.Cases[0].Error.Message)
}

func TestARunWithNothingInItIsShown(t *testing.T) {
	empty := Data{Verdict: results.Verdict{Verdict: results.Inconclusive, Reasons: []string{"no budget was set"}}}
	require.Contains(t, textOf(t, render(t, HTML, empty)), "No budget was set.")
	require.Contains(t, render(t, Markdown, empty), "? inconclusive")
	require.Contains(t, render(t, terminal80, empty), "INCONCLUSIVE")
	require.Contains(t, render(t, JUnit, empty), `tests="1"`)
}

func TestWriteLeavesEveryReportInTheFolder(t *testing.T) {
	d := sample(t, "fail")
	f, err := results.Create(t.TempDir(), "x")
	require.NoError(t, err)
	require.NoError(t, f.WriteRun(d.Run))
	for _, e := range d.Events {
		require.NoError(t, f.AddEvent(e))
	}
	require.NoError(t, f.Close())
	require.NoError(t, Write(f, d.Verdict))
	for name, want := range map[string]string{
		results.VerdictFile: `"verdict": "fail"`, results.HTMLFile: "enforce all-authenticated", results.MarkdownFile: "# ✗ fail", results.JUnitFile: "<testsuite",
	} {
		raw, err := os.ReadFile(filepath.Join(f.Path, name))
		require.NoError(t, err)
		require.Contains(t, string(raw), want)
	}
}

func TestFiguresAreWrittenForReaders(t *testing.T) {
	require.Equal(t, "1,235", millis(1234.5))
	require.Equal(t, "12.3", millis(12.34))
	require.Equal(t, "–", millis(0))
	require.Equal(t, "10:05", clock(605_000))
	require.Equal(t, "59 s", lasting(59*time.Second))
	require.Equal(t, "8 min 05 s", lasting(485*time.Second))
	require.Equal(t, "24.0 GiB", bytesText(24<<30))
	require.Equal(t, "512 MiB", bytesText(512<<20))
	require.Equal(t, []string{"aaaaaaaaaa", "aaaaa b c", "dddddd"}, wrap("aaaaaaaaaaaaaaa b\nc dddddd", 8), "no less than 10 wide")
	require.Equal(t, []string{""}, wrap(" ", 20))
}

func BenchmarkReport(b *testing.B) {
	d := sample(b, "fail")
	b.ReportAllocs()
	for b.Loop() {
		for _, to := range []func(io.Writer, Data) error{HTML, Markdown, terminal80, JUnit} {
			if err := to(io.Discard, d); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func TestTheFactsSayWhatWasSentInALaunchDaysPlace(t *testing.T) {
	traffic := results.Traffic{RealPerDay: 1000, LaunchPerDay: 5000, CompressTo: 200 * time.Second}
	said := func() string {
		for _, f := range (Data{Run: results.Run{Traffic: traffic}}).facts() {
			if f.Name == "traffic" {
				return f.Text
			}
		}
		return ""
	}
	require.Equal(t, "a launch day of 5,000 requests (an ordinary one has 1,000) in 3m20s: 25.0 a second on average at scale 1, 432 times the real rate", said())
	traffic.Shape, traffic.MeanRate, traffic.Faster = "ramp from 5/s to 50/s over 10m0s", 50, 432
	require.Equal(t, "ramp from 5/s to 50/s over 10m0s: 50.0 a second on average at scale 1, 432 times the real rate", said())
}

func TestTheCommandThatRunsItAgainHasItsDay(t *testing.T) {
	d := sample(t, "pass")
	require.Contains(t, render(t, HTML, d), "meshsim run mtls-rollout --mesh fakemesh\n")
	d.Run.Traffic.Day = 90 * time.Second
	require.Contains(t, render(t, HTML, d), "meshsim run mtls-rollout --day 1m30s --mesh fakemesh\n")
	require.Contains(t, render(t, Markdown, d), "- again: meshsim run mtls-rollout --day 1m30s (seed 5000)\n")
}

func TestTheFactsSayHowPodsAreReplaced(t *testing.T) {
	said := func(s results.Shop) (stop, start string) {
		for _, f := range (Data{Run: results.Run{Shop: s}}).facts() {
			switch f.Name {
			case "pods stop":
				stop = f.Text
			case "pods start":
				start = f.Text
			}
		}
		return stop, start
	}
	stop, start := said(results.Shop{Drain: true, DrainSeconds: 5, ProxyWaitSeconds: 8, TerminationGracePeriodSeconds: 30, MinReadySeconds: 3})
	require.Equal(t, "after 5 s of drain, the proxy waits 8 s, the grace period is 30 s", stop)
	require.Equal(t, "an old one goes when a new one has been ready for 3 s", start)
	stop, start = said(results.Shop{TerminationGracePeriodSeconds: 30})
	require.Equal(t, "without drain, the proxy waits 0 s, the grace period is 30 s", stop)
	require.Empty(t, start)
}

func TestTheFactsSayHowBusyTheHostWas(t *testing.T) {
	waited := 0.344
	texts := map[string]string{}
	for _, f := range (Data{Host: []PhaseLoad{{"baseline", results.HostLoad{Busy: 0.55}}, {"soak", results.HostLoad{Busy: 0.931, Waiting: &waited}}}}).facts() {
		texts[f.Name] = f.Text
	}
	require.Equal(t, "baseline 55 %, soak 93 %", texts["CPUs busy"])
	require.Equal(t, "soak 34 % of the time", texts["waited for a CPU"])

	for _, f := range (Data{}).facts() {
		require.NotContains(t, f.Name, "CPU", "nothing is said where nobody looked")
	}
}

func TestFactsNameWhatWasGivenAndWhatLinkerdCheckFound(t *testing.T) {
	d := Data{
		Run: results.Run{ID: "r", Mesh: "linkerd", Images: []results.Image{
			{Name: "linkerd-controller", Digest: "sha256:aa"},
			{Name: "linkerd-proxy", Digest: "sha256:bb", Source: "registry.example/proxy:patched"},
		}, Charts: []results.Chart{{Name: "linkerd-control-plane", Version: "1.16.11", Digest: "sha256:cc", Source: "./plane.tgz"}}},
		Checks: []results.LinkerdCheck{{When: "in the end", DataPlane: true, Passed: 60, Findings: []results.Finding{
			{Check: "issuer cert is valid for at least 60 days", Result: "warning"}, {Check: "b", Result: "error"},
			{Check: "c", Result: "error"}, {Check: "d", Result: "error"}, {Check: "e", Result: "error"}, {Check: "f", Result: "error"},
		}}},
		Rotation: &results.VaultRotation{
			Secrets: []results.SecretAge{
				{Path: "secret/prod-app/a", Age: time.Hour, Since: time.Date(2024, 6, 11, 8, 0, 0, 0, time.UTC), Version: 2},
				{Path: "secret/prod-app/b", Age: time.Minute, Since: time.Date(2024, 6, 11, 9, 0, 0, 0, time.UTC), Version: 1},
			},
			Certificates: []results.SecretAge{
				{Path: "pki: root", Age: time.Hour, Since: time.Date(2024, 6, 1, 8, 0, 0, 0, time.UTC), Anchor: true},
				{Path: "linkerd/issuer", Since: time.Date(2024, 6, 2, 8, 0, 0, 0, time.UTC), Every: 83 * 24 * time.Hour},
			},
		},
		Rotated: &results.SecretsRotated{Job: "rotate-1", JobMs: 151999, Secrets: make([]results.RotatedSecret, 9),
			Logins: []results.UsedLogin{{Service: "a", Login: "shop_a_b"}, {Service: "c", Login: "shop_c_a"}}},
		Audit: &results.VaultAudit{Requests: 1312, Denied: 2, Uses: []results.VaultUse{{Operation: "update", Path: "auth/kubernetes/login", Role: "a", Count: 400}}},
		Webhooks: []results.Webhooks{
			{Phase: "inject", Calls: []results.WebhookCalls{{Name: "injector", Calls: 30, FailedOpen: 1}, {Name: "cert-manager", Calls: 4, Rejected: 2, FailedClosed: 1}}},
			{Phase: "soak", Calls: []results.WebhookCalls{{Name: "injector", Calls: 12}}},
		},
		Leaves: &results.Leaves{Proxies: 32, Earliest: time.Date(2024, 6, 12, 9, 0, 0, 0, time.UTC), Expired: []string{"a-1"}, Silent: []string{"b-1"}},
		Ledger: &results.Ledger{Acknowledged: 1200, Ambiguous: 6, Written: 1204, Lost: []string{"o-1"}, Unsettled: []string{"o-4"}, Answers: &results.Answers{
			Refused: 14, Contradicted: []string{"o-2"}, Unasked: []string{"o-3"}, AmbiguousWritten: 3, AmbiguousCancelled: 2, AmbiguousAbsent: 1,
		}},
	}
	texts := map[string][]string{}
	for _, f := range d.facts() {
		texts[f.Name] = append(texts[f.Name], f.Text)
	}
	require.Equal(t, []string{"image linkerd-proxy from registry.example/proxy:patched, sha256:bb", "chart linkerd-control-plane 1.16.11 from ./plane.tgz, sha256:cc"}, texts["given"])
	require.Equal(t, []string{"in the end, the shop's proxies too: 60 passed, 6 did not (warning: issuer cert is valid for at least 60 days; error: b; error: c; error: d; error: e; 1 more)"}, texts["linkerd check"])
	require.Equal(t, []string{"of 2 secrets in Vault the oldest is secret/prod-app/a, since 2024-06-11 08:00:00 UTC (version 2); trust anchor pki: root, since 2024-06-01 08:00:00 UTC; " +
		"certificate linkerd/issuer, since 2024-06-02 08:00:00 UTC (replaced every 83 days)"}, texts["rotation"])
	require.Equal(t, []string{"9 secrets in Vault in 151 s by job rotate-1; connected to the database then: a as shop_a_b, c as shop_c_a"}, texts["rotated"])
	require.Equal(t, []string{"its audit log tells of 1,312 requests: 2 denied, 0 failed; most often 400 × update auth/kubernetes/login; all tokens and secrets in it were hashed"}, texts["Vault"])
	require.Equal(t, []string{"4 × cert-manager, 2 refused, 1 failed and were refused; 42 × injector, 1 failed and were let in"}, texts["webhooks"])
	require.Equal(t, []string{"1,204 confirmed in the database; 1,200 acknowledged, 1 of them lost; 14 refused, 1 of them confirmed all the same; " +
		"6 left unanswered: 3 written, 2 cancelled, 1 absent; 1 confirmed that no request in the record asked for; 1 still under way"}, texts["orders"])
	require.Equal(t, []string{"of 32 proxies the first ends 2024-06-12 09:00:00 UTC; ended already: a-1; no figure from b-1"}, texts["proxy certificates"])
}

func TestOlderRecordsTellLessOfTheirOrders(t *testing.T) {
	require.Equal(t, "1,201 confirmed in the database; 1,200 acknowledged, 0 of them lost; 3 left unanswered",
		ledgerText(results.Ledger{Acknowledged: 1200, Ambiguous: 3, Written: 1201}))
}

func TestAReportShowsTheProbesThatNoBudgetIsAbout(t *testing.T) {
	f, err := results.Create(t.TempDir(), "r")
	require.NoError(t, err)
	require.NoError(t, f.WriteRun(results.Run{ID: "r"}))
	for name, data := range map[string]any{
		results.ProbeLinkerdCheck: results.LinkerdCheck{When: "after install mesh", Passed: 3, Reports: []json.RawMessage{[]byte(`{"success":true}`)}},
		results.ProbeLeaves:       results.Leaves{Proxies: 2},
		results.ProbeLedger:       results.Ledger{Acknowledged: 5},
		results.ProbeHostLoad:     results.HostLoad{Lasted: time.Minute, Busy: 0.5},
	} {
		p, err := results.NewProbe(1, name, "stack", data)
		require.NoError(t, err)
		require.NoError(t, f.AddProbe(p))
	}
	d, err := From(f, results.Verdict{})
	require.NoError(t, err)
	require.Equal(t, []results.LinkerdCheck{{When: "after install mesh", Passed: 3}}, d.Checks)
	require.Equal(t, 2, d.Leaves.Proxies)
	require.Equal(t, 5, d.Ledger.Acknowledged)
	tried, err := results.NewProbe(1, results.ProbePlaintext, "verify", results.Plaintext{Attempts: 16, Refused: 16, Exempt: []results.ExemptPort{
		{Service: "a", Port: 9091, Exempt: "the proxy is skipped", Got: results.GotIn}, {Service: "b", Port: 8080, Exempt: "the proxy is skipped", Got: results.GotIn},
		{Service: "b", Port: 9091, Exempt: "the proxy is skipped", Got: results.GotIn}, {Service: "b", Port: 9999, Exempt: "the proxy is skipped", Got: results.GotOut},
	}})
	require.NoError(t, err)
	require.NoError(t, d.addProbe(tried))
	require.Contains(t, d.facts(), fact{"open by design", "port 8080, port 9091: anyone gets in without mTLS, as the proxy is skipped"})
	require.Equal(t, []PhaseLoad{{Phase: "stack", HostLoad: results.HostLoad{Lasted: time.Minute, Busy: 0.5}}}, d.Host)
	require.NoError(t, f.Close())
}

func TestABudgetIsNamedWithoutItsPhases(t *testing.T) {
	for line, want := range map[string]string{
		"failed requests = 0 in stack, inject":     "failed requests = 0",
		"canaries in plaintext = 0":                "canaries in plaintext = 0",
		"canaries in plaintext = 0 in soak":        "canaries in plaintext = 0",
		"promql 'a in b' = 0":                      "promql 'a in b' = 0",
		"what an older meshsim understood in soak": "what an older meshsim understood in soak",
	} {
		require.Equal(t, want, withoutPhases(line))
	}
}
