package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// asked is a story in which Vault denied something at 5 s and at 15 s; steps
// enforce and restart-vault ran from 10 s to 20 s and from 30 s to 40 s.
func asked(change func(*results.VaultAudit), budget string) *story {
	a := results.VaultAudit{To: int64(time.Minute), Requests: 300, Denied: 2}
	if change != nil {
		change(&a)
	}
	denied := func(s *story, at time.Duration) *story {
		s.event(at, results.Vault, "update pki/sign/x", results.FieldState, results.StateDenied, results.FieldRole, "cert-manager")
		return s
	}
	s := newQuietStory(budget).phaseOver(time.Minute).step("enforce", "", 10*time.Second, 20*time.Second).step("restart-vault", "", 30*time.Second, 40*time.Second)
	s = denied(denied(s, 5*time.Second), 15*time.Second).event(16*time.Second, results.Vault, "read x", results.FieldState, results.StateFailed)
	return s.probe(results.ProbeVaultAudit, a)
}

func TestRequestsThatVaultDenied(t *testing.T) {
	for name, c := range map[string]struct {
		budget   string
		change   func(*results.VaultAudit)
		want     results.Judgement
		measured string
	}{
		"in the run":                {"vault requests denied = 0", nil, results.Fail, "2 of 300 requests denied"},
		"no more than allowed":      {"vault requests denied <= 2", nil, results.Pass, "2 of 300 requests denied"},
		"during a step":             {"vault requests denied = 0 during step enforce", nil, results.Fail, "1 request was denied"},
		"not during another":        {"vault requests denied = 0 during step restart-vault", nil, results.Pass, "0 requests were denied"},
		"a log that was not read":   {"vault requests denied <= 2", func(a *results.VaultAudit) { a.Missed = []string{"a line"} }, results.Inconclusive, "not all of the log was read: a line"},
		"some that are in no event": {"vault requests denied = 0 during step restart-vault", func(a *results.VaultAudit) { a.Denied, a.Untold = 9, 7 }, results.Inconclusive, "of 7 more it is not known when"},
		"these count for the run":   {"vault requests denied <= 5", func(a *results.VaultAudit) { a.Denied, a.Untold = 9, 7 }, results.Fail, "9 of 300 requests denied"},
		"a log of nothing":          {"vault requests denied = 0", func(a *results.VaultAudit) { a.Requests = 0 }, results.Inconclusive, "told of no request"},
	} {
		t.Run(name, func(t *testing.T) {
			got := asked(c.change, c.budget).judge(t).Budgets[0]
			require.Equal(t, c.want, got.Verdict, got.Measured)
			require.Contains(t, got.Measured, c.measured)
		})
	}
	got := asked(nil, "vault requests denied = 0").judge(t).Budgets[0]
	require.Len(t, got.Evidence, 2)
	require.Contains(t, got.Evidence[0], "update pki/sign/x denied to cert-manager at ")
	require.Equal(t, "probe vault-audit has left no observation", newQuietStory("vault requests denied = 0").judge(t).Budgets[0].Measured)
}

func TestHowWebhooksWereCalled(t *testing.T) {
	calls := func(phase string, from, to time.Duration, c results.WebhookCalls) results.Webhooks {
		w := results.Webhooks{Phase: phase, From: int64(from), To: int64(to), Whole: ptr(true), Calls: []results.WebhookCalls{}}
		if c.Name != "" {
			w.Calls = append(w.Calls, c)
		}
		return w
	}
	bad := calls("inject", 0, 30*time.Second, results.WebhookCalls{Name: "injector", Calls: 40, FailedOpen: 2, FailedClosed: 1, Rejected: 3})
	good := calls("soak", 30*time.Second, time.Minute, results.WebhookCalls{Name: "injector", Calls: 10})
	other := good
	other.Whole = ptr(false)
	for name, c := range map[string]struct {
		budget   string
		last     results.Webhooks
		want     results.Judgement
		measured string
	}{
		"past the webhook":               {"webhook calls failed open = 0", good, results.Fail, "2 of 50 calls failed open"},
		"without an answer":              {"webhook calls failed <= 3", good, results.Pass, "3 of 50 calls got no answer"},
		"refused":                        {"webhook calls rejected <= 2", good, results.Fail, "3 of 50 calls refused their object"},
		"in a phase that had none":       {"webhook calls failed open = 0 in soak", good, results.Pass, "0 of 10 calls failed open"},
		"of another API server":          {"webhook calls failed open = 0 in soak", other, results.Inconclusive, "another API server answered in soak"},
		"where nothing was called":       {"webhook calls failed open = 0 in soak", calls("soak", 30*time.Second, time.Minute, results.WebhookCalls{}), results.Inconclusive, "no webhook was called"},
		"in a window that is a phase's":  {"webhook calls failed open = 0 from begin of step enforce to phase soak", good, results.Pass, "0 of 10 calls failed open"},
		"in a window that is no phase's": {"webhook calls failed open = 0 during step drain", good, results.Inconclusive, "does not end with this window"},
		"in a phase that nobody saw":     {"webhook calls failed open = 0 in soak", calls("verify", 30*time.Second, time.Minute, results.WebhookCalls{}), results.Inconclusive, "has left no observation of it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newQuietStory(c.budget).phaseOver(time.Minute).step("enforce", "", 30*time.Second, 40*time.Second).step("drain", "", 50*time.Second, 52*time.Second)
			got := s.probe(results.ProbeWebhooks, bad).probe(results.ProbeWebhooks, c.last).judge(t).Budgets[0]
			require.Equal(t, c.want, got.Verdict, got.Measured)
			require.Contains(t, got.Measured, c.measured)
		})
	}
}
