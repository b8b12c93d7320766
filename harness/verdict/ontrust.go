package verdict

import (
	"fmt"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// authorisation holds who got in against who may.
func (e *evaluation) authorisation(b budget.Budget) finding {
	var of, bad, open int64
	var evidence []string
	slowest, never := int64(0), false
	probed, by := false, "callee"
	for _, p := range e.probes {
		if p.Probe != results.ProbeAuthorisation {
			continue
		}
		seen, why := decode[results.Authorisation](p)
		if why != "" {
			return missing("", "%s", why)
		}
		probed = true
		for _, a := range seen.Attempts {
			belongs, known, wrong, says := attempt(b, a)
			if !belongs {
				continue
			}
			of++
			if a.Client != "" {
				by = "callee and caller"
			}
			if a.AlertedAfterMs != nil {
				slowest = max(slowest, *a.AlertedAfterMs)
				never = never || *a.AlertedAfterMs < 0
			}
			switch {
			case !known:
				open++
			case wrong:
				bad++
				evidence = append(evidence, fmt.Sprintf("%s as %s to %s: %s", a.Caller, a.As, a.Callee, says))
			}
		}
	}
	switch {
	case !probed:
		return missing("", "probe %s has left no observation", results.ProbeAuthorisation)
	case of == 0:
		return missing("", "nothing of this was attempted")
	}
	f := finding{verdict: results.Pass, evidence: firstOf(evidence, 10)}
	f.figure = countOf("attempts", bad, b.Count)
	broken := bad > b.Count
	switch b.Subject {
	case budget.Admitted:
		f.measured = fmt.Sprintf("%s of %s that may not got in", count(bad), count(of))
	case budget.Refused:
		f.measured = fmt.Sprintf("%s of %s that may were refused", count(bad), count(of))
	case budget.DenialsCounted:
		f.measured = fmt.Sprintf("%s of %s show in the deny counters, by %s", count(of-bad-open), count(of), by)
		f.figure = reached(of-bad-open, of, b.Ratio)
		broken = !reaches(of-bad, of, b.Ratio)
	default:
		f.measured = fmt.Sprintf("%s of %s raised an alert in time, the slowest after %s", count(of-bad-open), count(of), seconds(time.Duration(slowest)*time.Millisecond))
		if f.figure = lasted(time.Duration(slowest)*time.Millisecond, b.Duration); never || open > 0 {
			f.figure = nil // the slowest has no end
		}
		broken = bad > 0
	}
	switch {
	case broken:
		f.verdict, f.firm = results.Fail, b.Subject != budget.DenialsCounted
	case open > 0:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; %s no clear answer", plural(open, "has", "have"))
	}
	return f
}

// attempt holds one attempt against a budget: is it about it, is its end known,
// and is it wrong.
func attempt(b budget.Budget, a results.Attempt) (belongs, known, wrong bool, says string) {
	clear := a.Allowed != nil && (a.Got == results.GotIn || a.Got == results.GotOut)
	may := a.Allowed != nil && *a.Allowed
	switch b.Subject {
	case budget.Admitted:
		return !may, clear, a.Got == results.GotIn, "it got in; " + a.Detail
	case budget.Refused:
		return may || a.Allowed == nil, clear, a.Got == results.GotOut, "it was refused; " + a.Detail
	case budget.DenialsCounted:
		return !may && !a.Unasked && a.Got == results.GotOut, a.Counted != nil, a.Counted != nil && !*a.Counted, "no deny counter shows it"
	default:
		late := a.AlertedAfterMs != nil && (*a.AlertedAfterMs < 0 || time.Duration(*a.AlertedAfterMs)*time.Millisecond > b.Duration)
		return !may && !a.Unasked, a.AlertedAfterMs != nil, late, "no alert in time"
	}
}

// vaultRotated judges how old the shop's secrets are and how often they are
// replaced.
func (e *evaluation) vaultRotated(b budget.Budget) finding {
	seen, _, why := lastProbe[results.VaultRotation](e, results.ProbeVaultRotation, nil)
	switch {
	case why != "":
		return missing("", "%s", why)
	case len(seen.Secrets) == 0:
		return missing("", "no secret was looked at")
	}
	f := finding{verdict: results.Pass}
	var oldest, becomes time.Duration // that one is, and that one may become
	endless := false
	for _, s := range seen.Secrets {
		oldest, becomes = max(oldest, s.Age), max(becomes, s.Age, s.Every)
		endless = endless || s.Every <= 0
		switch {
		case s.Age > b.Duration:
			f.evidence = append(f.evidence, fmt.Sprintf("%s is %s old", s.Path, days(s.Age)))
		case s.Every <= 0:
			f.evidence = append(f.evidence, s.Path+" is replaced by nothing")
		case s.Every > b.Duration:
			f.evidence = append(f.evidence, fmt.Sprintf("%s is replaced every %s", s.Path, days(s.Every)))
		}
	}
	f.measured = fmt.Sprintf("the oldest of %s is %s old", plural(int64(len(seen.Secrets)), "secret", "secrets"), days(oldest))
	if !endless {
		f.figure = aged(becomes, b.Duration)
	}
	if len(f.evidence) > 0 {
		f.verdict = results.Fail
		f.measured += "; " + listed(f.evidence, maxNamed)
		f.evidence = firstOf(f.evidence, 10)
	}
	return f
}
