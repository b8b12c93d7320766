package verdict

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// decode reads a probe's data; why says what is wrong with it, "" when nothing.
func decode[T any](p results.Probe) (data T, why string) {
	if len(p.Data) == 0 || bytes.Equal(p.Data, []byte("null")) {
		return data, "probe " + p.Probe + " has left no data"
	}
	if err := json.Unmarshal(p.Data, &data); err != nil {
		return data, fmt.Sprintf("what probe %s left cannot be read: %v", p.Probe, err)
	}
	return data, ""
}

// maxNamed is how many pods or orders a measured text names.
const maxNamed = 3

func (e *evaluation) injectedPods(b budget.Budget) finding {
	seen, _, why := lastProbe[results.Injection](e, results.ProbeInjection, nil)
	switch {
	case why != "":
		return missing("", "%s", why)
	case seen.Pods <= 0:
		return missing("", "no pod of the shop was seen")
	case seen.Injected < 0 || seen.Injected > seen.Pods:
		return missing("", "%d of %d pods have a proxy, which cannot be", seen.Injected, seen.Pods)
	}
	f := finding{verdict: results.Pass, measured: fmt.Sprintf("%d of %d pods have the proxy", seen.Injected, seen.Pods)}
	f.figure = reached(int64(seen.Injected), int64(seen.Pods), b.Ratio)
	if !reaches(int64(seen.Injected), int64(seen.Pods), b.Ratio) {
		f.verdict, f.evidence = results.Fail, seen.Missing
		f.measured += "; without it: " + listed(seen.Missing, maxNamed)
		if e.run.Error != "" || e.run.Interrupted || !e.run.Ended() {
			f.verdict = results.Inconclusive // their turn may not have come
			f.measured += "; the run ended early"
		}
	} else if len(seen.Missing) > seen.Pods-seen.Injected {
		return missing("", "%s, yet %d are named without it", f.measured, len(seen.Missing))
	}
	return f
}

// reaches tells whether part of whole is at least ratio, without rounding.
func reaches(part, whole int64, ratio float64) bool {
	if ratio >= 1 {
		return part >= whole
	}
	return float64(part) >= ratio*float64(whole)
}

// mtlsCalls judges the last count of each phase that the budget names. One that
// names none is about every phase that began with policies enforced; where there
// is none such, about the last count of all.
func (e *evaluation) mtlsCalls(b budget.Budget) []finding {
	names := b.PhaseNames()
	if len(names) == 0 {
		names = e.enforcedPhases()
	}
	if len(names) == 0 {
		return []finding{e.mtlsIn(b, "")}
	}
	var all []finding
	for _, name := range names {
		all = append(all, e.mtlsIn(b, name))
	}
	return all
}

// enforcedPhases are those that began after enforcement, whether or not anybody
// counted their calls, up to the one in which the mesh is taken away.
func (e *evaluation) enforcedPhases() (names []string) {
	enforcedAt := e.enforcedAt()
	if enforcedAt < 0 {
		return nil
	}
	for _, ev := range e.events {
		switch {
		case ev.At < enforcedAt:
		case ev.Kind == results.PhaseBegin && !slices.Contains(names, ev.Name):
			names = append(names, ev.Name)
		case ev.Kind == results.StepBegin && ev.Name == "uninstall-mesh":
			return names[:max(0, len(names)-1)]
		}
	}
	return names
}

// enforcedAt is when a policy was enforced last, below zero for never.
func (e *evaluation) enforcedAt() int64 {
	at := int64(-1)
	for _, ev := range e.events {
		if ev.Kind == results.StepEnd && ev.Name == "enforce" && ev.Fields[results.FieldError] == "" {
			at = ev.At
		}
	}
	return at
}

func (e *evaluation) mtlsIn(b budget.Budget, phase string) finding {
	seen, at, why := lastProbe[results.MTLS](e, results.ProbeMTLS, func(p results.Probe) bool {
		if phase == "" {
			return true
		}
		of, why := decode[results.MTLS](p)
		return p.Phase == phase || (why == "" && of.Phase == phase)
	})
	total := seen.TLS + seen.Plain
	switch {
	case why != "":
		return missing(phase, "%s", why)
	case seen.TLS < 0 || seen.Plain < 0:
		return missing(phase, "a negative number of calls was counted")
	case total <= 0:
		return missing(phase, "the proxies counted no call")
	}
	f := finding{phase: phase, verdict: results.Pass, measured: fmt.Sprintf("%s of %s calls encrypted", count(seen.TLS), count(total))}
	f.figure = reached(seen.TLS, total, b.Ratio)
	if phase == "" && at.Phase != "" {
		f.measured += " in " + at.Phase
	}
	if !reaches(seen.TLS, total, b.Ratio) {
		f.verdict = results.Fail
		if len(seen.ByReason) > 0 {
			f.measured += "; not: " + tallied(seen.ByReason)
		}
		f.evidence = plainServices(seen.ByService)
		return f
	}
	return e.coveredBy(f)
}

func plainServices(services map[string]results.Calls) []string {
	counts := map[string]int64{}
	for name, c := range services {
		if c.Plain > 0 {
			counts[name] = c.Plain
		}
	}
	if len(counts) == 0 {
		return nil
	}
	return []string{"unencrypted calls received: " + tallied(counts)}
}

// coveredBy keeps a count by proxies from passing where pods have no proxy: the
// calls that such pods receive are in nobody's count.
func (e *evaluation) coveredBy(f finding) finding {
	pods, _, why := lastProbe[results.Injection](e, results.ProbeInjection, nil)
	switch {
	case why != "":
		return missing(f.phase, "%s, but nobody looked whether every pod has a proxy to count them", f.measured)
	case pods.Injected < pods.Pods:
		return missing(f.phase, "%s, but %s no proxy, so nobody counted the calls to them",
			f.measured, plural(int64(pods.Pods-pods.Injected), "pod has", "pods have"))
	}
	return f
}

// plaintextAccepted looks only at attempts after enforcement: before it,
// plaintext gets in by design.
func (e *evaluation) plaintextAccepted(b budget.Budget) finding {
	enforcedAt := e.enforcedAt()
	if enforcedAt < 0 {
		return missing("", "no enforcement was recorded, so no attempt came after it")
	}
	seen, _, why := lastProbe[results.Plaintext](e, results.ProbePlaintext, func(p results.Probe) bool { return p.At >= enforcedAt })
	if why != "" {
		return missing("", "%s after enforcement", why)
	}
	f := finding{verdict: results.Pass, measured: fmt.Sprintf("%d of %d accepted, %d refused", seen.Accepted, seen.Attempts, seen.Refused)}
	f.figure = countOf("calls", int64(seen.Accepted), b.Count)
	switch {
	case int64(seen.Accepted) > b.Count:
		f.verdict, f.evidence = results.Fail, seen.Evidence
	case seen.Attempts <= 0 || seen.Refused < 0:
		return missing("", "nothing was attempted")
	case seen.Accepted+seen.Refused < seen.Attempts:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; %d got no clear answer", seen.Attempts-seen.Accepted-seen.Refused)
		f.evidence = seen.Evidence
	}
	if open := seen.OpenText(); open != "" {
		f.measured += "; not counted: " + open
	}
	for _, e := range seen.Exempt {
		f.evidence = append(f.evidence, fmt.Sprintf("%s:%d %s: %s", e.Service, e.Port, e.Got, e.Detail))
	}
	return f
}

// certificateTolerance allows for what an issuer cuts off or dates back.
const certificateTolerance = time.Hour

func (e *evaluation) issuerCertificate(b budget.Budget) finding {
	seen, _, why := lastProbe[results.Issuer](e, results.ProbeIssuer, nil)
	switch {
	case why != "":
		return missing("", "%s", why)
	case seen.NotBefore.IsZero() || seen.NotAfter.IsZero() || seen.RenewalTime.IsZero() ||
		seen.IsCA == nil || seen.ChainsToAnchor == nil || seen.KeyAlgorithm == "":
		return missing("", "probe %s left its record incomplete", results.ProbeIssuer)
	}
	life, lead := seen.NotAfter.Sub(seen.NotBefore), seen.NotAfter.Sub(seen.RenewalTime)
	key := cmp.Or(b.Key, budget.Keys()[0])
	f := finding{verdict: results.Pass, measured: fmt.Sprintf("lasts %s, is renewed %s early, %s %s", days(life), days(lead), seen.KeyAlgorithm, seen.Curve)}
	for _, check := range []struct {
		holds bool
		wrong string
	}{
		{near(life, b.Duration), "should last " + budget.Days(b.Duration)},
		{near(lead, b.Lead), "should be renewed " + budget.Days(b.Lead) + " early"},
		{near(time.Duration(seen.RenewBeforeSeconds)*time.Second, b.Lead), fmt.Sprintf("asks to be renewed %s early", days(time.Duration(seen.RenewBeforeSeconds)*time.Second))},
		{*seen.IsCA, "is no CA"},
		{keyOf(seen) == key, "should be " + keyWords[key]},
		{*seen.ChainsToAnchor, "does not chain to the trust anchor"},
	} {
		if !check.holds {
			f.verdict = results.Fail
			f.measured += "; " + check.wrong
		}
	}
	if f.verdict == results.Pass {
		f.measured += ", a CA below the trust anchor"
	}
	return f
}

// keyWords names the keys of package budget as certificates do.
var keyWords = map[string]string{
	"ecdsa-p256": "ECDSA P-256", "ecdsa-p384": "ECDSA P-384", "rsa-2048": "RSA 2048", "rsa-4096": "RSA 4096", "ed25519": "Ed25519",
}

// keyOf names an issuer's key as budgets do. Of an RSA key the record holds the
// size where a curve would be.
func keyOf(i results.Issuer) string {
	for key, words := range keyWords {
		if strings.TrimSpace(i.KeyAlgorithm+" "+i.Curve) == words {
			return key
		}
	}
	return ""
}

func near(got, want time.Duration) bool { return (got - want).Abs() <= certificateTolerance }

// days writes a duration in days when it is a day or more.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d.Abs() < day {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%.4gd", d.Hours()/24)
}

func (e *evaluation) vaultUnsealed(b budget.Budget) finding {
	seen, _, why := lastProbe[results.VaultUnseal](e, results.ProbeVaultUnseal, nil)
	switch {
	case why != "":
		return missing("", "%s", why)
	case !seen.Restarted:
		return missing("", "Vault was not restarted")
	case seen.OperatorKeysUsed != nil && *seen.OperatorKeysUsed:
		return finding{verdict: results.Fail, measured: "an operator's key was used"}
	case seen.UnsealedAfterMs == nil || seen.OperatorKeysUsed == nil:
		return missing("", "probe %s left its record incomplete", results.ProbeVaultUnseal)
	case *seen.UnsealedAfterMs < 0:
		return finding{verdict: results.Fail, measured: "Vault stayed sealed after its restart"}
	case seen.Seal != "awskms":
		return finding{verdict: results.Fail, measured: fmt.Sprintf("its seal is %q, not awskms", seen.Seal)}
	}
	took := time.Duration(*seen.UnsealedAfterMs) * time.Millisecond
	f := finding{verdict: results.Pass, measured: fmt.Sprintf("unsealed by awskms %.1f s after its restart, with no operator's key", took.Seconds())}
	if b.Duration > 0 {
		f.figure = lasted(took, b.Duration)
		if took > b.Duration {
			f.verdict = results.Fail
		}
	}
	return f
}

func firstOf(all []string, n int) []string { return all[:min(n, len(all))] }
