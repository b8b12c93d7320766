package verdict

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

var (
	start = time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)
	day   = 24 * time.Hour
)

// certificate is one as it should be, changed.
func certificate(change func(*results.Issuer)) results.Issuer {
	c := results.Issuer{
		NotBefore: start, NotAfter: start.Add(90 * day), RenewalTime: start.Add(83 * day), RenewBeforeSeconds: 7 * 24 * 3600,
		IsCA: ptr(true), ChainsToAnchor: ptr(true), KeyAlgorithm: "ECDSA", Curve: "P-256",
	}
	change(&c)
	return c
}

func TestBudgetsOnProbes(t *testing.T) {
	allInjected := results.Injection{Pods: 4, Injected: 4}
	type seen map[string]any // probe to data
	for name, c := range map[string]struct {
		budget   string
		seen     seen
		verdict  results.Judgement
		measured string
	}{
		"every pod has the proxy": {"injected pods = 100%", seen{"injection": allInjected}, results.Pass, "4 of 4 pods have the proxy"},
		"one pod has not": {"injected pods = 100%", seen{"injection": results.Injection{Pods: 4, Injected: 3, Missing: []string{"a-1"}}}, results.Fail,
			"3 of 4 pods have the proxy; without it: a-1"},
		"enough pods have": {"injected pods >= 75%", seen{"injection": results.Injection{Pods: 4, Injected: 3, Missing: []string{"a-1"}}}, results.Pass,
			"3 of 4 pods have the proxy"},
		"no pods at all":         {"injected pods = 100%", seen{"injection": results.Injection{}}, results.Inconclusive, "no pod of the shop was seen"},
		"more proxies than pods": {"injected pods = 100%", seen{"injection": results.Injection{Pods: 1, Injected: 2}}, results.Inconclusive, "2 of 1 pods have a proxy, which cannot be"},
		"all injected, yet one is named without": {"injected pods = 100%", seen{"injection": results.Injection{Pods: 4, Injected: 4, Missing: []string{"a"}}}, results.Inconclusive,
			"4 of 4 pods have the proxy, yet 1 are named without it"},
		"nobody looked": {"injected pods = 100%", nil, results.Inconclusive, "probe injection has left no observation"},

		"every call encrypted": {"mtls calls = 100%", seen{"injection": allInjected, "mtls": results.MTLS{TLS: 1500}}, results.Pass,
			"1,500 of 1,500 calls encrypted in soak"},
		"one call not": {"mtls calls = 100%", seen{"injection": allInjected, "mtls": results.MTLS{TLS: 1_000_000, Plain: 1, ByReason: map[string]int64{"port_skipped": 1}}}, results.Fail,
			"1,000,000 of 1,000,001 calls encrypted in soak; not: 1 × port_skipped"},
		"no call counted": {"mtls calls = 100%", seen{"injection": allInjected, "mtls": results.MTLS{}}, results.Inconclusive, "the proxies counted no call"},
		"pods without a proxy count nothing": {"mtls calls = 100%", seen{"injection": results.Injection{Pods: 4, Injected: 2}, "mtls": results.MTLS{TLS: 9}}, results.Inconclusive,
			"9 of 9 calls encrypted in soak, but 2 pods have no proxy, so nobody counted the calls to them"},
		"nobody looked for pods without a proxy": {"mtls calls = 100%", seen{"mtls": results.MTLS{TLS: 9}}, results.Inconclusive,
			"9 of 9 calls encrypted in soak, but nobody looked whether every pod has a proxy to count them"},
		"a negative count": {"mtls calls = 100%", seen{"mtls": results.MTLS{TLS: 9, Plain: -1}}, results.Inconclusive, "a negative number of calls was counted"},
		"nobody counted":   {"mtls calls = 100%", nil, results.Inconclusive, "probe mtls has left no observation"},

		"every plaintext call refused": {"plaintext calls accepted = 0", seen{"plaintext": results.Plaintext{Attempts: 8, Refused: 8}}, results.Pass, "0 of 8 accepted, 8 refused"},
		"one got in":                   {"plaintext calls accepted = 0", seen{"plaintext": results.Plaintext{Attempts: 8, Refused: 7, Accepted: 1}}, results.Fail, "1 of 8 accepted, 7 refused"},
		"one got no answer": {"plaintext calls accepted = 0", seen{"plaintext": results.Plaintext{Attempts: 8, Refused: 7}}, results.Inconclusive,
			"0 of 8 accepted, 7 refused; 1 got no clear answer"},
		"ports that skip the proxy": {"plaintext calls accepted = 0", seen{"plaintext": results.Plaintext{Attempts: 16, Refused: 16, Exempt: []results.ExemptPort{
			{Service: "product-catalog", Port: 8080, Exempt: "the proxy is skipped", Got: results.GotIn}, {Service: "order-processing", Port: 8080, Exempt: "the proxy is skipped", Got: results.GotIn}}}}, results.Pass,
			"0 of 16 accepted, 16 refused; not counted: port 8080: anyone gets in without mTLS, as the proxy is skipped"},
		"ports that may, and let nobody in": {"plaintext calls accepted = 0", seen{"plaintext": results.Plaintext{Attempts: 16, Refused: 16, Exempt: []results.ExemptPort{
			{Service: "product-catalog", Port: 8080, Exempt: "the proxy is skipped", Got: results.GotOut}}}}, results.Pass, "0 of 16 accepted, 16 refused"},
		"none tried":    {"plaintext calls accepted = 0", seen{"plaintext": results.Plaintext{}}, results.Inconclusive, "nothing was attempted"},
		"nobody called": {"plaintext calls accepted = 0", nil, results.Inconclusive, "probe plaintext has left no observation after enforcement"},

		"the certificate as asked": {"issuer certificate lasts 90d, renewed 7d early", seen{"issuer-certificate": certificate(func(*results.Issuer) {})}, results.Pass,
			"lasts 90d, is renewed 7d early, ECDSA P-256, a CA below the trust anchor"},
		"dated back by half a minute": {"issuer certificate lasts 90d, renewed 7d early", seen{"issuer-certificate": certificate(func(c *results.Issuer) { c.NotBefore = start.Add(-30 * time.Second) })}, results.Pass,
			"lasts 90d, is renewed 7d early, ECDSA P-256, a CA below the trust anchor"},
		"a day short": {"issuer certificate lasts 90d, renewed 7d early", seen{"issuer-certificate": certificate(func(c *results.Issuer) { c.NotBefore = start.Add(day) })}, results.Fail,
			"lasts 89d, is renewed 7d early, ECDSA P-256; should last 90d"},
		"renewed late": {"issuer certificate lasts 90d, renewed 7d early", seen{"issuer-certificate": certificate(func(c *results.Issuer) { c.RenewalTime = start.Add(89*day + 20*time.Hour) })}, results.Fail,
			"lasts 90d, is renewed 4h0m0s early, ECDSA P-256; should be renewed 7d early"},
		"asked otherwise": {"issuer certificate lasts 90d, renewed 7d early", seen{"issuer-certificate": certificate(func(c *results.Issuer) { c.RenewBeforeSeconds = 3600 * 24 * 2 })}, results.Fail,
			"lasts 90d, is renewed 7d early, ECDSA P-256; asks to be renewed 2d early"},
		"no CA, RSA, of another root": {"issuer certificate lasts 90d, renewed 7d early", seen{"issuer-certificate": certificate(func(c *results.Issuer) {
			c.IsCA, c.ChainsToAnchor, c.KeyAlgorithm, c.Curve = ptr(false), ptr(false), "RSA", ""
		})}, results.Fail, "lasts 90d, is renewed 7d early, RSA ; is no CA; should be ECDSA P-256; does not chain to the trust anchor"},
		"no word on the chain": {"issuer certificate lasts 90d, renewed 7d early", seen{"issuer-certificate": certificate(func(c *results.Issuer) { c.ChainsToAnchor = nil })}, results.Inconclusive,
			"probe issuer-certificate left its record incomplete"},
		"no certificate": {"issuer certificate lasts 90d, renewed 7d early", nil, results.Inconclusive, "probe issuer-certificate has left no observation"},

		"Vault came back": {"vault unsealed by itself", seen{"vault-unseal": results.VaultUnseal{Restarted: true, Seal: "awskms", UnsealedAfterMs: ptr(int64(6240)), OperatorKeysUsed: ptr(false)}}, results.Pass,
			"unsealed by awskms 6.2 s after its restart, with no operator's key"},
		"Vault came back too late": {"vault unsealed by itself within 5s", seen{"vault-unseal": results.VaultUnseal{Restarted: true, Seal: "awskms", UnsealedAfterMs: ptr(int64(6240)), OperatorKeysUsed: ptr(false)}}, results.Fail,
			"unsealed by awskms 6.2 s after its restart, with no operator's key"},
		"Vault stayed sealed": {"vault unsealed by itself", seen{"vault-unseal": results.VaultUnseal{Restarted: true, Seal: "awskms", UnsealedAfterMs: ptr(int64(-1)), OperatorKeysUsed: ptr(false)}}, results.Fail,
			"Vault stayed sealed after its restart"},
		"somebody typed a key": {"vault unsealed by itself", seen{"vault-unseal": results.VaultUnseal{Restarted: true, Seal: "awskms", OperatorKeysUsed: ptr(true)}}, results.Fail,
			"an operator's key was used"},
		"another seal": {"vault unsealed by itself", seen{"vault-unseal": results.VaultUnseal{Restarted: true, Seal: "shamir", UnsealedAfterMs: ptr(int64(1)), OperatorKeysUsed: ptr(false)}}, results.Fail,
			`its seal is "shamir", not awskms`},
		"Vault was left alone":          {"vault unsealed by itself", seen{"vault-unseal": results.VaultUnseal{}}, results.Inconclusive, "Vault was not restarted"},
		"nobody knows when":             {"vault unsealed by itself", seen{"vault-unseal": results.VaultUnseal{Restarted: true, OperatorKeysUsed: ptr(false)}}, results.Inconclusive, "probe vault-unseal left its record incomplete"},
		"nobody restarted it or looked": {"vault unsealed by itself", nil, results.Inconclusive, "probe vault-unseal has left no observation"},

		"every order in its place": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 1200, Ambiguous: 3, Written: 1201}}, results.Pass,
			"0 lost and 0 doubled of 1,200 orders acknowledged; 3 more were left unanswered"},
		"one lost and one doubled": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Lost: []string{"o-1"}, Doubled: []string{"o-2"}}}, results.Fail,
			"1 lost and 1 doubled of 12 orders acknowledged: o-1, o-2"},
		"no order at all": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{}}, results.Inconclusive, "no acknowledged order was looked up"},
		"not every order": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 1}}, results.Inconclusive, "only 1 of the 2 acknowledged orders were looked up"},
		"told no, and no it is": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Ambiguous: 6, Answers: &results.Answers{
			Refused: 4, AmbiguousWritten: 3, AmbiguousCancelled: 2, AmbiguousAbsent: 1}}}, results.Pass,
			"0 lost and 0 doubled of 12 orders acknowledged; 0 confirmed of 4 refused; 6 more were left unanswered (3 written, 2 cancelled, 1 absent)"},
		"told no, yet it is confirmed": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Answers: &results.Answers{Refused: 4, Contradicted: []string{"o-3"}}}}, results.Fail,
			"0 lost and 0 doubled of 12 orders acknowledged; 1 confirmed of 4 refused: o-3 (refused, yet confirmed)"},
		"confirmed, and nobody asked for it": {"payments unmatched = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Answers: &results.Answers{Refused: 1, Unasked: []string{"o-8", "o-9"}}}}, results.Inconclusive,
			"0 orders without the right payment of 12; 2 more are confirmed that no request in the record asked for: o-8, o-9"},
		"an order still under way": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Unsettled: []string{"o-5"}, Answers: &results.Answers{Refused: 1}}}, results.Inconclusive,
			"0 lost and 0 doubled of 12 orders acknowledged; 0 confirmed of 1 refused; 1 order is still under way: o-5"},
		"one under way, one lost": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Lost: []string{"o-1"}, Unsettled: []string{"o-5"}}}, results.Fail,
			"1 lost and 0 doubled of 12 orders acknowledged: o-1"},
		"stock adds up while orders are under way": {"items oversold = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Unsettled: []string{"o-5"}}}, results.Pass, "0 items oversold in 12 orders"},
		"not every refused order": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Answers: &results.Answers{}}}, results.Inconclusive,
			"only 0 of the 1 refused orders were looked up"},
		"a broken budget is broken also when not all was looked up": {"orders lost or doubled = 0", seen{"ledger": results.Ledger{Lost: []string{"o-1"}, Answers: &results.Answers{}}}, results.Fail,
			"1 lost and 0 doubled of 0 orders acknowledged: o-1"},
		"nobody looked it up": {"orders lost or doubled = 0", nil, results.Inconclusive, "probe ledger has left no observation"},
		"nothing oversold":    {"items oversold = 0", seen{"ledger": results.Ledger{Acknowledged: 12}}, results.Pass, "0 items oversold in 12 orders"},
		"an item oversold":    {"items oversold = 0", seen{"ledger": results.Ledger{Acknowledged: 12, Oversold: []string{"p-0040"}}}, results.Fail, "1 item oversold in 12 orders: p-0040"},
		"every payment right": {"payments unmatched = 0", seen{"ledger": results.Ledger{Acknowledged: 12}}, results.Pass, "0 orders without the right payment of 12"},
		"many payments wrong": {"payments unmatched = 0", seen{"ledger": results.Ledger{Acknowledged: 12, PaymentMismatch: []string{"a", "b", "c", "d", "e"}}}, results.Fail,
			"5 orders without the right payment of 12: a, b, c and 2 more"},
		"data of another shape": {"injected pods = 100%", seen{"injection": "all fine"}, results.Inconclusive,
			"what probe injection left cannot be read: json: cannot unmarshal string into Go value of type results.Injection"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newQuietStory(c.budget)
			s.event(time.Minute, results.StepBegin, "enforce").event(2*time.Minute, results.StepEnd, "enforce")
			for i := range 3 {
				s.requests[i].OrderID = []string{"o-1", "o-1", "o-2"}[i] // o-1 was sent twice
			}
			s.requests[3].OrderID, s.requests[3].Outcome = "o-3", results.Rejected
			for probe, data := range c.seen {
				s.probe(probe, data)
			}
			v := s.judge(t)
			require.Len(t, v.Budgets, 1)
			require.Equal(t, c.measured, v.Budgets[0].Measured)
			require.Equal(t, c.verdict, v.Budgets[0].Verdict)
			require.Equal(t, c.verdict, v.Verdict)
		})
	}
}

func TestTheLastObservationCounts(t *testing.T) {
	v := newQuietStory("injected pods = 100%").
		probe("injection", results.Injection{Pods: 4, Injected: 1}).probe("injection", results.Injection{Pods: 4, Injected: 4}).judge(t)
	require.Equal(t, results.Pass, v.Verdict)
}

func TestPodsWhoseTurnHadNotComeBreakNothing(t *testing.T) {
	const budget = "injected pods = 100%"
	half := results.Injection{Pods: 4, Injected: 1, Missing: []string{"a", "b", "c"}}
	early := newQuietStory(budget).probe("injection", half)
	early.run.Error = "step inject: timed out"
	v := early.judge(t).Budgets[0]
	require.Equal(t, results.Inconclusive, v.Verdict)
	require.Equal(t, "1 of 4 pods have the proxy; without it: a, b, c; the run ended early", v.Measured)
	require.Equal(t, results.Fail, newQuietStory(budget).probe("injection", half).judge(t).Verdict)
}

func TestWhatBrokeInARunThatEndedEarlyStaysBroken(t *testing.T) {
	s := newQuietStory("orders lost or doubled = 0").probe("ledger", results.Ledger{Acknowledged: 12, Lost: []string{"o-1"}})
	s.run.Error = "step restart-database: timed out"
	require.Equal(t, results.Fail, s.judge(t).Verdict)
	s = newQuietStory("orders lost or doubled = 0").probe("ledger", results.Ledger{Acknowledged: 12})
	s.run.Error = "step restart-database: timed out"
	require.Equal(t, results.Inconclusive, s.judge(t).Verdict, "and what held so far is no pass")
}

func TestEncryptedCallsAreJudgedInEveryPhaseAfterEnforcement(t *testing.T) {
	s := newQuietStory("mtls calls = 100%").probe("injection", results.Injection{Pods: 4, Injected: 4})
	for i, name := range []string{"inject", "enforce", "verify", "soak"} {
		s.event(time.Duration(i)*10*time.Minute, results.PhaseBegin, name)
		calls := results.MTLS{Phase: name, TLS: 10}
		if name != "soak" {
			calls.Plain = 5
		}
		s.probe("mtls", calls)
		s.probes[len(s.probes)-1].Phase = name
	}
	s.event(15*time.Minute, results.StepEnd, "enforce")
	v := s.judge(t)
	require.Len(t, v.Budgets, 2)
	require.Equal(t, []string{"verify", "soak"}, []string{v.Budgets[0].Phase, v.Budgets[1].Phase})
	require.Equal(t, []results.Judgement{results.Fail, results.Pass}, []results.Judgement{v.Budgets[0].Verdict, v.Budgets[1].Verdict})
}

// countedIn is a run in which the calls of each phase, ten minutes long, were
// counted when it ended, but for those of "verify".
func countedIn(phases ...string) *story {
	s := newQuietStory("mtls calls = 100%").probe("injection", results.Injection{Pods: 4, Injected: 4})
	for i, name := range phases {
		s.event(time.Duration(i)*10*time.Minute, results.PhaseBegin, name)
		if name == "verify" {
			continue
		}
		s.probe("mtls", results.MTLS{Phase: name, TLS: 10})
		s.probes[len(s.probes)-1].Phase = name
	}
	return s
}

func TestAPhaseAfterEnforcementWhoseCallsNobodyCountedIsOpen(t *testing.T) {
	s := countedIn("enforce", "verify", "soak").event(5*time.Minute, results.StepEnd, "enforce").
		event(15*time.Minute, results.Warning, "probe mtls")
	s.events[len(s.events)-1].Phase, s.events[len(s.events)-1].Detail = "verify", "could not be taken: query Prometheus: EOF"
	v := s.judge(t)
	require.Equal(t, results.Inconclusive, v.Verdict)
	require.Len(t, v.Budgets, 2)
	require.Equal(t, results.BudgetVerdict{
		Text: "mtls calls = 100%", Phase: "verify", Verdict: results.Inconclusive,
		Measured: "probe mtls has left no observation, as it could not be taken: query Prometheus: EOF",
	}, v.Budgets[0])
	require.Equal(t, results.Pass, v.Budgets[1].Verdict)

	alone := countedIn("enforce", "verify").event(5*time.Minute, results.StepEnd, "enforce").judge(t)
	require.Equal(t, "probe mtls has left no observation", alone.Budgets[0].Measured, "an earlier phase's count does not stand for it")
	require.Equal(t, results.Inconclusive, alone.Verdict)
}

func TestNoCallIsToBeEncryptedWhereTheMeshIsTakenAway(t *testing.T) {
	s := countedIn("enforce", "soak").event(5*time.Minute, results.StepEnd, "enforce").
		event(20*time.Minute, results.PhaseBegin, "remove").event(21*time.Minute, results.StepBegin, "uninstall-mesh").event(30*time.Minute, results.PhaseBegin, "after")
	v := s.judge(t)
	require.Len(t, v.Budgets, 1)
	require.Equal(t, []any{"soak", results.Pass}, []any{v.Budgets[0].Phase, v.Budgets[0].Verdict})
}

func TestEncryptedCallsAreJudgedInThePhasesThatAreNamed(t *testing.T) {
	s := newQuietStory("mtls calls = 100% in inject, soak").
		probe("injection", results.Injection{Pods: 4, Injected: 4}).
		probe("mtls", results.MTLS{Phase: "inject", TLS: 5, Plain: 5, ByService: map[string]results.Calls{"payment-gateway": {Plain: 5}}}).
		probe("mtls", results.MTLS{Phase: "soak", TLS: 10})
	s.probes[1].Phase = "inject"
	v := s.judge(t)
	require.Len(t, v.Budgets, 2)
	require.Equal(t, results.BudgetVerdict{
		Text: "mtls calls = 100% in inject, soak", Phase: "inject", Verdict: results.Fail, Measured: "5 of 10 calls encrypted",
		Evidence: []string{"unencrypted calls received: 5 × payment-gateway"},
		Figure:   &results.Figure{Unit: "ratio", Value: 0.5, Limit: 1, AtLeast: true},
	}, v.Budgets[0])
	require.Equal(t, results.Pass, v.Budgets[1].Verdict)
}

func TestPlaintextBeforeEnforcementSaysNothing(t *testing.T) {
	const budget = "plaintext calls accepted = 0"
	before := newQuietStory(budget).probe("plaintext", results.Plaintext{Attempts: 8, Accepted: 8})
	before.probes[0].At = int64(time.Second)
	before.event(time.Minute, results.StepEnd, "enforce")
	require.Equal(t, "probe plaintext has left no observation after enforcement", before.judge(t).Budgets[0].Measured)

	never := newQuietStory(budget).probe("plaintext", results.Plaintext{Attempts: 8, Refused: 8})
	require.Equal(t, "no enforcement was recorded, so no attempt came after it", never.judge(t).Budgets[0].Measured)

	broken := newQuietStory(budget).probe("plaintext", results.Plaintext{Attempts: 8, Refused: 8})
	broken.event(time.Minute, results.StepEnd, "enforce", results.FieldError, "timed out")
	require.Equal(t, results.Inconclusive, broken.judge(t).Verdict, "an enforcement that failed is none")
}

func FuzzProbeData(f *testing.F) {
	for _, seed := range []string{`null`, `{}`, `{"pods":1,"injected":1}`, `{"tls":9223372036854775807,"plain":9223372036854775807}`,
		`{"restarted":true,"unsealedAfterMs":1}`, `{"acknowledged":-1}`, `{"samples":{"plain":[1],"meshed":[1],"plainAgain":[1]},"perHop":true}`, `[1]`} {
		f.Add([]byte(seed))
	}
	budgets := []string{"injected pods = 100%", "mtls calls = 100%", "plaintext calls accepted = 0", "issuer certificate lasts 90d, renewed 7d early",
		"vault unsealed by itself", "orders lost or doubled = 0", "items oversold = 0", "payments unmatched = 0", "added latency p50 < 1ms per hop"}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			return
		}
		s := newStory(budgets...)
		s.event(0, results.StepEnd, "enforce")
		for _, name := range []string{"injection", "mtls", "plaintext", "issuer-certificate", "vault-unseal", "ledger", "added-latency"} {
			s.probe(name, json.RawMessage(data))
		}
		v := s.judge(t)
		for _, b := range v.Budgets {
			if b.Measured == "" {
				t.Errorf("%s was judged %s without a word", b.Text, b.Verdict)
			}
		}
		if v.Verdict == results.Pass {
			t.Error("a run without requests passed")
		}
	})
}
