package verdict

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// vaultAges judges how old the shop's secrets are, or the certificates that
// Vault signed for the mesh. Anchors are long-lived by intent.
func (e *evaluation) vaultAges(b budget.Budget) finding {
	seen, _, why := lastProbe[results.VaultRotation](e, results.ProbeVaultRotation, nil)
	if why != "" {
		return missing("", "%s", why)
	}
	of, one, many := seen.Secrets, "secret", "secrets"
	if b.Subject == budget.VaultCertsAge {
		of, one, many = seen.Certificates, "certificate", "certificates"
	}
	f := finding{verdict: results.Pass}
	var oldest time.Duration
	var looked int64
	for _, s := range of {
		if s.Anchor {
			continue
		}
		looked++
		oldest = max(oldest, s.Age)
		if s.Age > b.Duration {
			f.evidence = append(f.evidence, fmt.Sprintf("%s is %s old", s.Path, days(s.Age)))
		}
	}
	if looked == 0 {
		return missing("", "no %s was looked at", one)
	}
	f.measured = fmt.Sprintf("the oldest of %s is %s old", plural(looked, one, many), days(oldest))
	f.figure = aged(oldest, b.Duration)
	if len(f.evidence) > 0 {
		f.verdict = results.Fail
		f.measured += "; " + listed(f.evidence, maxNamed)
		f.evidence = firstOf(f.evidence, 10)
	}
	return f
}

// vaultDenied counts the requests that Vault refused for want of permission: of
// the whole run by its audit log's sum, of a part by its entries.
func (e *evaluation) vaultDenied(b budget.Budget, s stretch) finding {
	seen, _, why := lastProbe[results.VaultAudit](e, results.ProbeVaultAudit, nil)
	switch {
	case why != "":
		return missing("", "%s", why)
	case seen.Requests <= 0:
		return missing("", "Vault's audit log told of no request")
	}
	var denied int64
	f := finding{verdict: results.Pass}
	for _, ev := range e.events {
		if ev.Kind == results.Vault && ev.Fields[results.FieldState] == results.StateDenied && s.holds(ev.At) {
			denied++
			f.evidence = append(f.evidence, vaultWords(ev))
		}
	}
	whole := s.to == math.MaxInt64
	if whole {
		denied = max(denied, seen.Denied)
	}
	f.evidence = firstOf(f.evidence, 10)
	f.measured = fmt.Sprintf("%s of %s denied", count(denied), plural(seen.Requests, "request", "requests"))
	if !whole {
		f.measured = plural(denied, "request was denied", "requests were denied")
	}
	f.figure = countOf("requests", denied, b.Count)
	switch {
	case denied > b.Count:
		f.verdict, f.firm = results.Fail, true
	case len(seen.Missed) > 0:
		f.verdict = results.Inconclusive
		f.measured += "; not all of the log was read: " + listed(seen.Missed, maxNamed)
	case !whole && seen.Untold > 0:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; of %s more it is not known when", count(seen.Untold))
	}
	return f
}

// vaultWords says who was denied what.
func vaultWords(ev results.Event) string {
	who := cmp.Or(ev.Fields[results.FieldRole], ev.Fields[results.FieldClient], "somebody")
	return strings.TrimSuffix(fmt.Sprintf("%s denied to %s at %s: %s", ev.Name, who, at(ev.At), ev.Detail), ": ")
}

// webhookCalls adds up how admission webhooks were called.
func (e *evaluation) webhookCalls(b budget.Budget, s stretch) finding {
	var calls, bad, covered int64
	parts := false
	f := finding{verdict: results.Pass}
	var lost []string
	for _, p := range e.probes {
		if p.Probe != results.ProbeWebhooks {
			continue
		}
		seen, why := decode[results.Webhooks](p)
		switch {
		case why != "":
			return missing("", "%s", why)
		case s.phase != "" && seen.Phase != s.phase || seen.To <= s.from || seen.From >= s.to:
			continue
		case s.phase == "" && s.to != math.MaxInt64 && (seen.From < s.from-int64(hookSlack) || seen.To > s.to+int64(hookSlack)):
			return missing("", "a count from %s to %s does not end with this window", at(seen.From), at(seen.To))
		}
		parts = true
		covered += seen.To - seen.From
		if seen.Whole == nil || !*seen.Whole {
			lost = append(lost, seen.Phase)
		}
		for _, c := range seen.Calls {
			n := map[budget.Subject]int64{
				budget.HooksFailed: c.FailedOpen + c.FailedClosed, budget.HooksFailedOpen: c.FailedOpen, budget.HooksRejected: c.Rejected,
			}[b.Subject]
			calls, bad = calls+c.Calls, bad+n
			if n > 0 {
				f.evidence = append(f.evidence, fmt.Sprintf("%s in %s: %s of %s", c.Name, cmp.Or(seen.Phase, "the run"), count(n), count(c.Calls)))
			}
		}
	}
	if !parts {
		return missing("", "probe %s has left no observation of it", results.ProbeWebhooks)
	}
	words := map[budget.Subject]string{budget.HooksFailed: "got no answer", budget.HooksFailedOpen: "failed open", budget.HooksRejected: "refused their object"}
	f.measured = fmt.Sprintf("%s of %s %s", count(bad), plural(calls, "call", "calls"), words[b.Subject])
	f.figure = countOf("calls", bad, b.Count)
	switch {
	case bad > b.Count:
		f.verdict, f.firm = results.Fail, true
	case calls == 0:
		return missing("", "no webhook was called")
	case len(lost) > 0:
		f.verdict = results.Inconclusive
		f.measured += "; another API server answered in " + listed(lost, maxNamed)
	case s.phase == "" && s.to != math.MaxInt64 && covered < s.to-s.from-2*int64(hookSlack):
		f.verdict = results.Inconclusive
		f.measured += "; a part of the window was not counted"
	}
	f.evidence = firstOf(f.evidence, 10)
	return f
}

// hookSlack is how far a count's ends may be from a window's: it is taken once
// everything else that ends a phase has been looked at.
const hookSlack = 15 * time.Second
