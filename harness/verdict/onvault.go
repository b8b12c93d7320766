package verdict

import (
	"fmt"
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
