package verdict

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

func TestBudgetsOnWhatWasMeasured(t *testing.T) {
	start := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	presented := func(change func(*results.Presented)) results.Identity {
		good := results.Presented{Pod: "a", Identity: "x.id", Expected: "x.id", From: start, Until: start.Add(24 * time.Hour), Key: "ecdsa-p256", Chains: ptr(true), Renewed: ptr(true)}
		other := good
		other.Pod = "b"
		if change != nil {
			change(&other)
		}
		return results.Identity{Proxies: 2, Presented: []results.Presented{good, other}}
	}
	attempts := func(change func(*results.Attempt)) results.Authorisation {
		may := results.Attempt{Caller: "order-processing", Callee: "payment-gateway", As: "own", Allowed: ptr(true), Got: results.GotIn}
		mayNot := results.Attempt{Caller: "stranger", Callee: "payment-gateway", As: "foreign", Allowed: ptr(false), Got: results.GotOut, Counted: ptr(true), AlertedAfterMs: ptr(int64(90_000))}
		change(&may)
		change(&mayNot)
		return results.Authorisation{Attempts: []results.Attempt{may, mayNot}}
	}
	untouched := func(*results.Attempt) {}
	wire := func(change func(*results.Wire)) results.Wire {
		w := results.Wire{From: 0, To: int64(time.Hour), Nodes: []string{"n1"}, Planted: 100, Flows: []results.Flow{
			{Source: "a", Destination: "b", Port: 4143, Kind: "tls", Count: 40},
			{Source: "b", Destination: "postgres", Port: 5432, Kind: "postgresql", Count: 5, Exempt: "the database is not meshed"},
		}}
		change(&w)
		return w
	}
	plaintext := func(w *results.Wire) {
		w.Flows = append(w.Flows, results.Flow{Source: "a", Destination: "c", Port: 9090, Kind: "http2", Count: 2})
	}
	seal := results.VaultSeal{From: int64(time.Second), To: int64(time.Minute), States: []results.SealChange{
		{At: int64(time.Second), State: "unsealed"}, {At: int64(10 * time.Second), State: "silent"}, {At: int64(12 * time.Second), State: "sealed"}, {At: int64(15 * time.Second), State: "unsealed"}}}
	proxies := results.ProxyResources{Phase: "soak", Proxies: []results.ProxyUsage{
		{Pod: "a", Service: "product-catalog", MemoryBytes: 20 << 20, Cores: ptr(0.05)}, {Pod: "b", Service: "order-processing", MemoryBytes: 30 << 20, Cores: ptr(0.2)}}}
	silent := proxies
	silent.Silent = []string{"c"}
	answer := func(values ...string) results.Answer {
		a := results.Answer{Query: "sum(x)", Asked: "sum(x)", Phase: "soak"}
		for i, v := range values {
			a.Samples = append(a.Samples, results.Sample{Labels: map[string]string{"pod": fmt.Sprint(i)}, Value: v})
		}
		return a
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		budget   string
		probe    string
		data     any
		verdict  results.Judgement
		measured string
	}{
		"certificates that chain":            {"proxy certificates chained = 100%", "identity", presented(nil), results.Pass, "2 of 2 proxies"},
		"one that does not":                  {"proxy certificates chained = 100%", "identity", presented(func(p *results.Presented) { p.Chains, p.Why = ptr(false), "unknown authority" }), results.Fail, "1 of 2 proxies; b: it does not chain to the trust anchor: unknown authority"},
		"half may do without":                {"proxy certificates chained >= 50%", "identity", presented(func(p *results.Presented) { p.Chains = ptr(false) }), results.Pass, "1 of 2 proxies"},
		"one that was not looked at":         {"proxy certificates chained = 100%", "identity", presented(func(p *results.Presented) { p.Chains = nil }), results.Inconclusive, "1 of 2 proxies; of 1 that is not known"},
		"a proxy that presented none":        {"proxy certificates chained = 100%", "identity", results.Identity{Proxies: 3, Presented: presented(nil).Presented, Silent: []string{"c"}}, results.Inconclusive, "2 of 3 proxies; of 1 that is not known"},
		"no proxies":                         {"proxy certificates chained = 100%", "identity", results.Identity{}, results.Inconclusive, "no proxy was seen"},
		"another's identity":                 {"proxy certificates identified = 100%", "identity", presented(func(p *results.Presented) { p.Identity = "y.id" }), results.Fail, `1 of 2 proxies; b: it says "y.id", its pod is "x.id"`},
		"renewed":                            {"proxy certificates renewed = 100%", "identity", presented(func(p *results.Presented) { p.Renewed = ptr(false) }), results.Fail, "1 of 2 proxies; b: it was not seen to be renewed"},
		"another key":                        {"proxy certificates keyed ecdsa-p256 = 100%", "identity", presented(func(p *results.Presented) { p.Key = "rsa-2048" }), results.Fail, "1 of 2 proxies; b: its key is rsa-2048"},
		"lives long":                         {"proxy certificates last at most 24h", "identity", presented(func(p *results.Presented) { p.Until = start.Add(2 * day) }), results.Fail, "1 of 2 proxies; b: it lasts 2d"},
		"lives short":                        {"proxy certificates last at most 24h", "identity", presented(nil), results.Pass, "2 of 2 proxies"},
		"none ended":                         {"proxy certificates expired = 0", "leaf-certificates", results.Leaves{Proxies: 4}, results.Pass, "0 of 4 have ended"},
		"one ended":                          {"proxy certificates expired = 0", "leaf-certificates", results.Leaves{Proxies: 4, Expired: []string{"a"}}, results.Fail, "1 of 4 have ended: a"},
		"one says nothing of its end":        {"proxy certificates expired = 0", "leaf-certificates", results.Leaves{Proxies: 4, Silent: []string{"a"}}, results.Inconclusive, "0 of 4 have ended; 1 proxy gave no figure"},
		"nobody got in":                      {"unauthorised calls admitted = 0", "authorisation", attempts(untouched), results.Pass, "0 of 1 that may not got in"},
		"somebody got in":                    {"unauthorised calls admitted = 0", "authorisation", attempts(func(a *results.Attempt) { a.Got = results.GotIn }), results.Fail, "1 of 1 that may not got in"},
		"an attempt without an answer":       {"unauthorised calls admitted = 0", "authorisation", attempts(func(a *results.Attempt) { a.Got = results.GotNoWord }), results.Inconclusive, "0 of 1 that may not got in; 1 has no clear answer"},
		"who may is let in":                  {"authorised calls refused = 0", "authorisation", attempts(untouched), results.Pass, "0 of 1 that may were refused"},
		"who may is refused":                 {"authorised calls refused = 0", "authorisation", attempts(func(a *results.Attempt) { a.Got = results.GotOut }), results.Fail, "1 of 1 that may were refused"},
		"denials are counted":                {"denials counted = 100%", "authorisation", attempts(untouched), results.Pass, "1 of 1 show in the deny counters, by callee"},
		"denials are counted of each caller": {"denials counted = 100%", "authorisation", attempts(func(a *results.Attempt) { a.Client = "x.id" }), results.Pass, "1 of 1 show in the deny counters, by callee and caller"},
		"one is not":                         {"denials counted = 100%", "authorisation", attempts(func(a *results.Attempt) { a.Counted = ptr(false) }), results.Fail, "0 of 1 show in the deny counters, by callee"},
		"alerts in time":                     {"denials alerted within 5m", "authorisation", attempts(untouched), results.Pass, "1 of 1 raised an alert in time, the slowest after 90.0 s"},
		"alerts too late":                    {"denials alerted within 1m", "authorisation", attempts(untouched), results.Fail, "0 of 1 raised an alert in time, the slowest after 90.0 s"},
		"nobody looked for alerts":           {"denials alerted within 1m", "authorisation", attempts(func(a *results.Attempt) { a.AlertedAfterMs = nil }), results.Inconclusive, "0 of 1 raised an alert in time, the slowest after 0.0 s; 1 has no clear answer"},
		"nothing attempted":                  {"denials alerted within 1m", "authorisation", results.Authorisation{}, results.Inconclusive, "nothing of this was attempted"},
		"no plaintext but the exempt":        {"plaintext flows = 0", "wire", wire(func(*results.Wire) {}), results.Pass, "0 of 40 flows in plaintext"},
		"plaintext":                          {"plaintext flows = 0", "wire", wire(plaintext), results.Fail, "2 of 42 flows in plaintext"},
		"plaintext elsewhere":                {"plaintext flows = 0 of service b", "wire", wire(plaintext), results.Pass, "0 of 40 flows in plaintext"},
		"packets were lost":                  {"plaintext flows = 0", "wire", wire(func(w *results.Wire) { w.Dropped = 1 }), results.Inconclusive, "0 of 40 flows in plaintext; 1 packet was lost"},
		"a node without a capture":           {"plaintext flows = 0", "wire", wire(func(w *results.Wire) { w.Missing = []string{"n2"} }), results.Inconclusive, "0 of 40 flows in plaintext; nothing was captured on n2"},
		"a capture that died": {"plaintext flows = 0", "wire", wire(func(w *results.Wire) {
			w.Missing, w.Why = []string{"n2"}, map[string]string{"n2": "its capture was silent for some of the time: it ended with code 137 (OOMKilled)"}
		}), results.Inconclusive, "0 of 40 flows in plaintext; nothing was captured on n2 (its capture was silent for some of the time: it ended with code 137 (OOMKilled))"},
		"a flow that tells nothing":             {"plaintext flows = 0", "wire", wire(func(w *results.Wire) { w.Flows[0].Kind = "unknown" }), results.Inconclusive, "0 of 40 flows in plaintext; 40 flows did not tell what they were"},
		"a share of flows":                      {"encrypted flows >= 90%", "wire", wire(plaintext), results.Pass, "40 of 42 flows encrypted"},
		"too small a share":                     {"encrypted flows >= 99%", "wire", wire(plaintext), results.Fail, "40 of 42 flows encrypted"},
		"no flow at all":                        {"encrypted flows >= 99%", "wire", results.Wire{To: 1}, results.Inconclusive, "0 of 0 flows encrypted; there was nothing to be seen"},
		"no canary read":                        {"canaries in plaintext = 0", "wire", wire(func(*results.Wire) {}), results.Pass, "0 of 100 planted strings were read"},
		"a canary read":                         {"canaries in plaintext = 0", "wire", wire(func(w *results.Wire) { w.Found = 1 }), results.Fail, "1 of 100 planted strings were read"},
		"canaries, and no flow to see them in":  {"canaries in plaintext = 0", "wire", wire(func(w *results.Wire) { w.Flows = w.Flows[1:] }), results.Inconclusive, "0 of 100 planted strings were read; there was nothing to be seen"},
		"a node without a capture and canaries": {"canaries in plaintext = 0", "wire", wire(func(w *results.Wire) { w.Missing = []string{"n2"} }), results.Inconclusive, "0 of 100 planted strings were read; nothing was captured on n2"},
		"no canary planted":                     {"canaries in plaintext = 0", "wire", wire(func(w *results.Wire) { w.Planted = 0 }), results.Inconclusive, "0 of 0 planted strings were read; there was nothing to be seen"},
		"vault sealed for a while":              {"vault sealed < 6s", "vault-seal", seal, results.Pass, "5.0 s sealed or silent of 59.0 s"},
		"vault sealed for too long":             {"vault sealed < 5s", "vault-seal", seal, results.Fail, "5.0 s sealed or silent of 59.0 s"},
		"vault never answered":                  {"vault sealed < 5s", "vault-seal", results.VaultSeal{}, results.Inconclusive, "Vault was not asked for its seal"},
		"secrets are replaced":                  {"vault secrets rotated every 30d", "vault-rotation", results.VaultRotation{Secrets: []results.SecretAge{{Path: "a", Age: day, Every: 30 * day}}}, results.Pass, "the oldest of 1 secret is 1d old"},
		"a secret that nothing renews":          {"vault secrets rotated every 30d", "vault-rotation", results.VaultRotation{Secrets: []results.SecretAge{{Path: "a", Age: day}}}, results.Fail, "the oldest of 1 secret is 1d old; a is replaced by nothing"},
		"a secret that is too old":              {"vault secrets rotated every 30d", "vault-rotation", results.VaultRotation{Secrets: []results.SecretAge{{Path: "a", Age: 31 * day, Every: day}}}, results.Fail, "the oldest of 1 secret is 31d old; a is 31d old"},
		"secrets that are young":                {"vault secrets at most 30d old", "vault-rotation", results.VaultRotation{Secrets: []results.SecretAge{{Path: "a", Age: day}, {Path: "b", Age: 2 * day}}}, results.Pass, "the oldest of 2 secrets is 2d old"},
		"a secret that is old":                  {"vault secrets at most 30d old", "vault-rotation", results.VaultRotation{Secrets: []results.SecretAge{{Path: "a", Age: 31 * day, Every: day}}}, results.Fail, "the oldest of 1 secret is 31d old; a is 31d old"},
		"a certificate below its root":          {"vault certificates at most 83d old", "vault-rotation", results.VaultRotation{Certificates: []results.SecretAge{{Path: "root", Age: 900 * day, Anchor: true}, {Path: "issuer", Age: 3 * day}}}, results.Pass, "the oldest of 1 certificate is 3d old"},
		"a root alone":                          {"vault certificates at most 83d old", "vault-rotation", results.VaultRotation{Certificates: []results.SecretAge{{Path: "root", Age: 900 * day, Anchor: true}}}, results.Inconclusive, "no certificate was looked at"},
		"a proxy's memory":                      {"proxy memory < 50MiB", "proxy-resources", proxies, results.Pass, "at most 30.0 MiB, by b, of 2 proxies"},
		"too much of it":                        {"proxy memory < 25MiB", "proxy-resources", proxies, results.Fail, "at most 30.0 MiB, by b, of 2 proxies"},
		"of one service":                        {"proxy memory < 25MiB of service product-catalog in soak", "proxy-resources", proxies, results.Pass, "at most 20.0 MiB, by a, of 1 proxy"},
		"a proxy without a figure":              {"proxy memory < 50MiB", "proxy-resources", silent, results.Inconclusive, "at most 30.0 MiB, by b, of 2 proxies; 1 has no figure"},
		"a proxy's CPU":                         {"proxy cpu <= 100m", "proxy-resources", proxies, results.Fail, "at most 200 m, by b, of 2 proxies"},
		"an answer that holds":                  {"promql 'sum(x)' < 5", "promql", answer("1", "4.5"), results.Pass, "4.5 of 2 samples"},
		"an answer that does not":               {"promql 'sum(x)' < 5", "promql", answer("1", "5"), results.Fail, "5 of 2 samples"},
		"an answer that is no number":           {"promql 'sum(x)' < 5", "promql", answer("1", "NaN"), results.Inconclusive, "1 of 2 samples; some are no numbers"},
		"an answer that is infinite":            {"promql 'sum(x)' < 5", "promql", answer("+Inf"), results.Fail, "+Inf of 1 sample"},
		"an answer without samples":             {"promql 'sum(x)' < 5", "promql", answer(), results.Inconclusive, "Prometheus had no sample"},
		"another query's answer":                {"promql 'sum(y)' < 5", "promql", answer("1"), results.Inconclusive, "the query has no answer in the record"},
	} {
		t.Run(name, func(t *testing.T) {
			oneBudget(t, newQuietStory(c.budget).probe(c.probe, c.data), c.verdict, c.measured)
		})
	}
	for _, budget := range []string{
		"proxy certificates chained = 100%", "proxy certificates expired = 0", "unauthorised calls admitted = 0", "plaintext flows = 0", "vault sealed < 1s",
		"vault secrets rotated every 30d", "proxy memory < 50MiB", "promql 'x' = 0", "restarts = 0",
	} {
		v := newQuietStory(budget).judge(t)
		require.Equal(t, results.Inconclusive, v.Verdict, "%s without evidence", budget)
	}
}

// lookedAt adds a look at the proxies' certificates when a phase ended.
func (s *story) lookedAt(phase string, proxies int, shown ...results.Presented) *story {
	s.probe(results.ProbeIdentity, results.Identity{Proxies: proxies, Presented: shown})
	s.probes[len(s.probes)-1].Phase = phase
	return s
}

func TestEveryLookAtCertificatesCounts(t *testing.T) {
	shows := func(pod string, chains bool) results.Presented {
		return results.Presented{Pod: pod, UID: "u-" + pod, Chains: &chains, Why: "unknown authority", Key: "ecdsa-p256"}
	}
	for name, c := range map[string]struct {
		looks    func(*story)
		verdict  results.Judgement
		measured string
		evidence []string
	}{
		"a wrong chain that is gone in the end": {func(s *story) {
			s.lookedAt("inject", 2, shows("a", true), shows("b", false)).lookedAt("enforce", 2, shows("a", true), shows("c", true)).lookedAt("soak", 2, shows("a", true), shows("c", true))
		}, results.Fail, "1 of 2 proxies in inject, the worst of 3 looks; b: it does not chain to the trust anchor: unknown authority",
			[]string{"inject: b: it does not chain to the trust anchor: unknown authority"}},
		"right at every look": {func(s *story) {
			s.lookedAt("inject", 1, shows("a", true)).lookedAt("soak", 2, shows("a", true), shows("b", true))
		}, results.Pass, "2 of 2 proxies in soak, the worst of 2 looks", nil},
		"none before the mesh": {func(s *story) {
			s.lookedAt("stack", 0).lookedAt("soak", 1, shows("a", true))
		}, results.Pass, "1 of 1 proxy", nil},
		"a pod on its way at an earlier look": {func(s *story) {
			s.lookedAt("inject", 2, shows("a", true)).lookedAt("soak", 2, shows("a", true), shows("b", true))
		}, results.Pass, "2 of 2 proxies in soak, the worst of 2 looks", nil},
		"a look at which no proxy told anything": {func(s *story) {
			s.lookedAt("inject", 2).lookedAt("soak", 1, shows("a", true))
		}, results.Inconclusive, "0 of 2 proxies in inject, the worst of 2 looks; of 2 that is not known", nil},
		"a proxy that told nothing in the end": {func(s *story) {
			s.lookedAt("inject", 1, shows("a", true)).lookedAt("soak", 2, shows("a", true))
		}, results.Inconclusive, "1 of 2 proxies in soak, the worst of 2 looks; of 1 that is not known", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newQuietStory("proxy certificates chained = 100%")
			c.looks(s)
			b := s.judge(t).Budgets[0]
			require.Equal(t, c.measured, b.Measured)
			require.Equal(t, c.verdict, b.Verdict)
			require.Equal(t, c.evidence, b.Evidence)
		})
	}
	oneBudget(t, newQuietStory("proxy certificates expired = 0").probe(results.ProbeLeaves, results.Leaves{Proxies: 4, Expired: []string{"a"}}).
		probe(results.ProbeLeaves, results.Leaves{Proxies: 4}), results.Fail, "1 of 4 have ended in soak, the worst of 2 looks: a")
}

func TestARenewalIsRememberedOverAllLooks(t *testing.T) {
	shows := func(pod string, renewed *bool) results.Presented {
		return results.Presented{Pod: pod, UID: "u-" + pod, Renewed: renewed}
	}
	yes, no := ptr(true), ptr(false)
	for name, c := range map[string]struct {
		looks    func(*story)
		verdict  results.Judgement
		measured string
	}{
		"renewed between the looks before the last": {func(s *story) {
			s.lookedAt("inject", 1, shows("a", nil)).lookedAt("enforce", 1, shows("a", yes)).lookedAt("soak", 1, shows("a", no))
		}, results.Pass, "1 of 1 proxy"},
		"a pod that is younger than the look before": {func(s *story) {
			s.lookedAt("inject", 1, shows("a", nil)).lookedAt("soak", 2, shows("a", yes), shows("b", nil))
		}, results.Pass, "1 of 1 proxy; 1 more is too young to tell"},
		"nothing but young pods": {func(s *story) {
			s.lookedAt("inject", 1, shows("a", nil)).lookedAt("soak", 1, shows("b", nil))
		}, results.Inconclusive, "no proxy was looked at twice"},
		"never": {func(s *story) {
			s.lookedAt("inject", 1, shows("a", nil)).lookedAt("enforce", 1, shows("a", no)).lookedAt("soak", 1, shows("a", no))
		}, results.Fail, "0 of 1 proxy; a: it was not seen to be renewed"},
		"never, of a pod that is gone": {func(s *story) {
			s.lookedAt("inject", 2, shows("a", nil), shows("b", nil)).lookedAt("enforce", 2, shows("a", no), shows("b", yes)).lookedAt("soak", 1, shows("b", no))
		}, results.Pass, "1 of 1 proxy"},
		"another pod of the same name": {func(s *story) {
			one, other := shows("postgres-0", yes), shows("postgres-0", no)
			other.UID = "u-other"
			s.lookedAt("inject", 1, one).lookedAt("enforce", 1, other).lookedAt("soak", 1, other)
		}, results.Fail, "0 of 1 proxy; postgres-0: it was not seen to be renewed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newQuietStory("proxy certificates renewed = 100%")
			c.looks(s)
			oneBudget(t, s, c.verdict, c.measured)
		})
	}
}

func TestRestartsAreCountedWhereSomebodyWatched(t *testing.T) {
	told := func(budget string) *story {
		return newQuietStory(budget).event(0, results.Watching, "prod-app").phaseOver(time.Minute).step("enforce", "", 10*time.Second, 20*time.Second).
			pod(5*time.Second, "a-1", "product-catalog", results.StateRestarted).pod(15*time.Second, "b-1", "order-processing", results.StateOOMKilled)
	}
	for budget, want := range map[string]struct {
		verdict  results.Judgement
		measured string
	}{
		"restarts = 0":  {results.Fail, "2 restarts"},
		"restarts <= 2": {results.Pass, "2 restarts"},
		"oom kills = 0": {results.Fail, "1 kill for want of memory"},
		"oom kills = 0 of service product-catalog":             {results.Pass, "0 kills for want of memory"},
		"restarts = 0 during step enforce":                     {results.Fail, "1 restart"},
		"restarts = 0 for 10s after step enforce":              {results.Pass, "0 restarts"},
		"restarts = 0 for 2m after step enforce":               {results.Inconclusive, "0 restarts; the run ended before this window did"},
		"restarts <= 2 in soak":                                {results.Pass, "2 restarts"},
		"restarts = 0 of service x for 9s before step enforce": {results.Pass, "0 restarts"},
	} {
		t.Run(budget, func(t *testing.T) { oneBudget(t, told(budget), want.verdict, want.measured) })
	}
}

func TestAnAgentThatMeasuredLessThanItShouldLeavesItOpen(t *testing.T) {
	data := twins(1000, 1, 0, 1)
	data.Planned, data.Agent = 1200, "twin-client"
	v := newQuietStory("added latency p50 < 10ms per hop").probe(results.ProbeAddedLatency, data).judge(t)
	require.Equal(t, results.Inconclusive, v.Budgets[0].Verdict)
	require.Contains(t, v.Budgets[0].Measured, "; 200 of the 1,200 triples planned are missing")
	require.Contains(t, v.Budgets[0].Measured, "twin-client: p50 +")
}

func TestWhyTheWireWasNotCapturedIsSaid(t *testing.T) {
	for _, budget := range []string{"plaintext flows = 0", "canaries in plaintext = 0", "encrypted flows = 100%", "plaintext flows = 0 in soak"} {
		s := newQuietStory(budget).event(0, results.Warning, "probe wire").phaseOver(time.Minute)
		s.events[0].Detail = "could not be taken: the capture did not start: on none of 1 nodes: they took longer than 2m0s: n1: Running, container capture ErrImageNeverPull"
		oneBudget(t, s, results.Inconclusive, "probe wire has left no observation of it, as it "+s.events[0].Detail)
	}
}

func TestANodeIsNamedOnceHoweverManyRecordsLackIt(t *testing.T) {
	s := newQuietStory("plaintext flows = 0")
	for i, missing := range [][]string{{"n3", "n2"}, {"n2"}, {"n2"}} {
		s.probe("wire", results.Wire{From: int64(i), To: int64(i + 1), Missing: missing, Flows: []results.Flow{{Source: "a", Destination: "b", Kind: "tls", Count: 1}}})
	}
	oneBudget(t, s, results.Inconclusive, "0 of 3 flows in plaintext; nothing was captured on n2, n3")
}

func TestARunThatWasCapturedInPartShowsNothingOfTheRest(t *testing.T) {
	captured := func(until time.Duration) *story {
		return newQuietStory("plaintext flows = 0").phaseOver(time.Minute).
			probe("wire", results.Wire{To: int64(until), Flows: []results.Flow{{Source: "a", Destination: "b", Kind: "tls", Count: 1}}})
	}
	oneBudget(t, captured(time.Minute), results.Pass, "0 of 1 flows in plaintext")
	oneBudget(t, captured(30*time.Second), results.Inconclusive, "0 of 1 flows in plaintext; a part of the run was not captured")
}

// untaken adds that a probe could not be taken when a phase ended.
func (s *story) untaken(at time.Duration, probe, phase string) *story {
	s.event(at, results.Warning, results.ProbeWarning(probe))
	ev := &s.events[len(s.events)-1]
	ev.Phase, ev.Detail = phase, "could not be taken: EOF"
	return s
}

func TestALookAtCertificatesThatCouldNotBeTakenLeavesThemOpen(t *testing.T) {
	good := results.Presented{Pod: "a", UID: "u-a", Chains: ptr(true), Renewed: ptr(true)}
	bad := good
	bad.Chains = ptr(false)
	looked := func(budget string, shown results.Presented) *story {
		return newQuietStory(budget).untaken(time.Minute, results.ProbeIdentity, "verify").lookedAt("soak", 1, shown)
	}
	oneBudget(t, looked("proxy certificates chained = 100%", good), results.Inconclusive, "1 of 1 proxy; a look in verify could not be taken: EOF")
	require.Equal(t, results.Fail, looked("proxy certificates chained = 100%", bad).judge(t).Verdict, "what was seen is so")
	oneBudget(t, looked("proxy certificates renewed = 100%", good), results.Pass, "1 of 1 proxy")
	oneBudget(t, newQuietStory("proxy certificates expired = 0").untaken(time.Minute, results.ProbeLeaves, "verify").probe(results.ProbeLeaves, results.Leaves{Proxies: 4}),
		results.Inconclusive, "0 of 4 have ended; a look in verify could not be taken: EOF")
	oneBudget(t, newQuietStory("proxy certificates expired = 0").untaken(time.Minute, results.ProbeLeaves, "soak"),
		results.Inconclusive, "probe leaf-certificates has left no observation, as it could not be taken: EOF")
}

func TestWhatWasSeenBeforeDoesNotStandForALookThatCouldNotBeTaken(t *testing.T) {
	used := results.ProxyResources{Phase: "inject", Proxies: []results.ProxyUsage{{Pod: "a", Service: "product-catalog", MemoryBytes: 20 << 20}}}
	s := func(failed time.Duration) *story {
		return newQuietStory("proxy memory < 50MiB").probe(results.ProbeResources, used).untaken(failed, results.ProbeResources, "soak")
	}
	oneBudget(t, s(2*time.Hour), results.Inconclusive, "the last look of probe proxy-resources could not be taken: EOF")
	oneBudget(t, s(time.Minute), results.Pass, "at most 20.0 MiB, by a, of 1 proxy")
}
