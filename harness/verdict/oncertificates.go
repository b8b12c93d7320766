package verdict

import (
	"cmp"
	"fmt"
	"slices"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// look is one observation, and when it was taken.
type look[T any] struct {
	seen T
	at   results.Probe
}

// looks are all observations of a name, the first one first.
func looks[T any](e *evaluation, name string) (all []look[T], why string) {
	for _, p := range e.probes {
		if p.Probe != name {
			continue
		}
		seen, why := decode[T](p)
		if why != "" {
			return nil, why
		}
		all = append(all, look[T]{seen, p})
	}
	if len(all) == 0 {
		return nil, "probe " + name + " has left no observation" + e.whyUntaken(name, nil)
	}
	return all, ""
}

// worstLook judges every look at certificates, and tells the worst: what was
// wrong in one phase was wrong, whatever became of it. A look at no proxy, as
// before the first is injected, shows nothing. A proxy that told nothing is held
// against the last look alone: at earlier ones it may have been on its way.
func worstLook[T any](all []look[T], proxies func(T) int, judge func(seen T, where string, last bool) finding) finding {
	all = slices.DeleteFunc(all, func(l look[T]) bool { return proxies(l.seen) <= 0 })
	if len(all) == 0 {
		return missing("", "no proxy was seen")
	}
	var worst finding
	var evidence []string
	for i, l := range all {
		where := ""
		if len(all) > 1 {
			where = fmt.Sprintf("%s, the worst of %d looks", in(l.at.Phase), len(all))
		}
		f := judge(l.seen, where, i == len(all)-1)
		for _, says := range f.evidence {
			if len(all) > 1 && l.at.Phase != "" {
				says = l.at.Phase + ": " + says
			}
			evidence = append(evidence, says)
		}
		if i == 0 || !worst.worseThan(f) {
			worst = f
		}
	}
	worst.evidence = firstOf(evidence, 10)
	return worst
}

// everyLook keeps what all looks show from passing where one could not be taken:
// a certificate may have been wrong just then.
func (e *evaluation) everyLook(f finding, name string) finding {
	ev, untaken := e.untaken(name, nil)
	if untaken && f.verdict == results.Pass {
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; a look%s %s", in(ev.Phase), short(ev.Detail, maxReason))
	}
	return f
}

// worseThan compares two looks at the same.
func (f finding) worseThan(other finding) bool {
	if f.verdict != other.verdict {
		return f.verdict.Worse(other.verdict) == f.verdict
	}
	return f.figure != nil && other.figure != nil && f.figure.Margin() < other.figure.Margin()
}

// certificatesExpired judges what the proxies themselves say of their
// certificates' end.
func (e *evaluation) certificatesExpired(b budget.Budget) finding {
	all, why := looks[results.Leaves](e, results.ProbeLeaves)
	if why != "" {
		return missing("", "%s", why)
	}
	worst := worstLook(all, func(l results.Leaves) int { return l.Proxies }, func(seen results.Leaves, where string, last bool) finding {
		f := finding{verdict: results.Pass, measured: fmt.Sprintf("%d of %d have ended%s", len(seen.Expired), seen.Proxies, where)}
		f.figure = countOf("certificates", int64(len(seen.Expired)), b.Count)
		switch {
		case int64(len(seen.Expired)) > b.Count:
			f.verdict, f.evidence = results.Fail, seen.Expired
			f.measured += ": " + listed(seen.Expired, maxNamed)
		case len(seen.Silent) > 0 && (last || len(seen.Silent) >= seen.Proxies):
			f.verdict, f.evidence = results.Inconclusive, seen.Silent
			f.measured += fmt.Sprintf("; %s no figure", plural(int64(len(seen.Silent)), "proxy gave", "proxies gave"))
		}
		return f
	})
	return e.everyLook(worst, results.ProbeLeaves)
}

// certificates judges every proxy's certificate as it presents it.
func (e *evaluation) certificates(b budget.Budget) finding {
	all, why := looks[results.Identity](e, results.ProbeIdentity)
	if why != "" {
		return missing("", "%s", why)
	}
	if b.Subject == budget.CertificatesRenewed {
		return renewed(b, all)
	}
	return e.everyLook(worstLook(all, proxiesSeen, func(seen results.Identity, where string, last bool) finding {
		return presented(b, seen, where, last)
	}), results.ProbeIdentity)
}

func proxiesSeen(i results.Identity) int { return max(i.Proxies, len(i.Presented)) }

// renewed judges which proxies of the last look presented another certificate at
// an earlier one. What was born since the look before had no time to.
func renewed(b budget.Budget, all []look[results.Identity]) finding {
	uid := func(p results.Presented) string { return cmp.Or(p.UID, p.Pod) }
	again, times := map[string]bool{}, map[string]int{}
	for _, l := range all {
		for _, p := range l.seen.Presented {
			times[uid(p)]++
			again[uid(p)] = again[uid(p)] || p.Renewed != nil && *p.Renewed
		}
	}
	last := all[len(all)-1].seen
	if proxiesSeen(last) == 0 {
		return missing("", "no proxy was seen")
	}
	of := last
	of.Presented = nil
	for _, p := range last.Presented {
		if p.Renewed == nil && times[uid(p)] == 1 {
			of.Proxies--
			continue
		}
		once := again[uid(p)]
		p.Renewed = &once
		of.Presented = append(of.Presented, p)
	}
	young := int64(proxiesSeen(last) - proxiesSeen(of))
	if proxiesSeen(of) == 0 {
		return missing("", "no proxy was looked at twice")
	}
	f := presented(b, of, "", true)
	if young > 0 {
		f.measured += fmt.Sprintf("; %s too young to tell", plural(young, "more is", "more are"))
	}
	f.evidence = firstOf(f.evidence, 10)
	return f
}

// presented holds what the proxies presented at one look against a budget.
func presented(b budget.Budget, seen results.Identity, where string, last bool) finding {
	total := int64(proxiesSeen(seen))
	if !last && len(seen.Presented) > 0 {
		total = int64(len(seen.Presented))
	}
	var good, unread int64
	f := finding{verdict: results.Pass}
	for _, p := range seen.Presented {
		known, holds, says := heldAgainst(b, p)
		switch {
		case !known:
			unread++
		case holds:
			good++
		default:
			f.evidence = append(f.evidence, p.Pod+": "+says)
		}
	}
	unread += total - int64(len(seen.Presented))
	bad := total - good - unread
	f.measured = fmt.Sprintf("%s of %s%s", count(good), plural(total, "proxy", "proxies"), where)
	ratio := b.Ratio
	if b.Subject == budget.CertificatesLast {
		ratio = 1
	}
	f.figure = reached(good, total, ratio)
	switch {
	case !reaches(total-bad, total, ratio):
		f.verdict = results.Fail
		f.measured += "; " + f.evidence[0]
	case !reaches(good, total, ratio):
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; of %s that is not known", count(unread))
		f.evidence = append(f.evidence, seen.Silent...)
	}
	return f
}

// heldAgainst holds one certificate against a budget.
func heldAgainst(b budget.Budget, p results.Presented) (known, holds bool, says string) {
	switch b.Subject {
	case budget.CertificatesChained:
		return p.Chains != nil, p.Chains != nil && *p.Chains, "it does not chain to the trust anchor: " + p.Why
	case budget.CertificatesNamed:
		return p.Expected != "", p.Identity == p.Expected, fmt.Sprintf("it says %q, its pod is %q", p.Identity, p.Expected)
	case budget.CertificatesRenewed:
		return p.Renewed != nil, p.Renewed != nil && *p.Renewed, "it was not seen to be renewed"
	case budget.CertificatesKeyed:
		return p.Key != "", p.Key == b.Key, "its key is " + p.Key
	default:
		life := p.Until.Sub(p.From)
		return !p.From.IsZero() && !p.Until.IsZero(), life <= b.Duration, "it lasts " + days(life)
	}
}
