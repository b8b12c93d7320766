package verdict

import (
	"fmt"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// part is what of the requests one finding is about.
type part struct {
	*cell
	phase  string // "" where there is a window
	needed int64
	calls  bool
	cutOff bool // the run ended before the window did
}

// onRequests judges a budget on requests or calls, phase by phase or in its
// window.
func (e *evaluation) onRequests(b budget.Budget, i int) []finding {
	parts, why := e.parts(b, i)
	if why != "" {
		return []finding{missing("", "%s", why)}
	}
	var all []finding
	for _, p := range parts {
		f := e.judgePart(b, p)
		if f.verdict == results.Pass && p.cutOff {
			f.verdict = results.Inconclusive
			f.measured += "; the run ended before this window did"
		}
		f.phase = p.phase
		all = append(all, e.withMissing(f))
	}
	if len(all) == 0 {
		all = append(all, missing("", "no phase was judged"))
	}
	return all
}

// parts returns what the budget is about.
func (e *evaluation) parts(b budget.Budget, i int) (parts []part, why string) {
	needed := func(phase string) int64 { return int64(b.NeededHere(e.budgets, phase)) }
	if b.Window != nil {
		from, to, why := e.marks.window(*b.Window)
		if why != "" {
			return nil, why
		}
		return []part{{e.tally.of(i)[0].cell, "", needed(""), b.OfCalls(), from < 0 || to > e.marks.end}}, ""
	}
	for _, s := range e.tally.of(i) {
		parts = append(parts, part{cell: s.cell, phase: s.phase, needed: needed(s.phase), calls: b.OfCalls()})
	}
	if !b.Plain() {
		return parts, ""
	}
	for _, name := range phasesOf(e.run, b) {
		p := part{cell: newCell(), phase: name, needed: needed(name)}
		if seen := e.tally.phase(name); seen != nil {
			p.cell = seen.cell
		}
		parts = append(parts, p)
	}
	return parts, ""
}

func (e *evaluation) judgePart(b budget.Budget, p part) finding {
	if p.n == 0 && (b.Subject != budget.LateRequests || p.undispatched == 0) {
		return nothingSeen(b, p)
	}
	switch b.Subject {
	case budget.Requests, budget.Calls:
		return seenEnough(b, p)
	case budget.FailedRequests, budget.FailedCalls:
		return counted(b, p, p.failed, "failed")
	case budget.RejectedRequests:
		return counted(b, p, p.rejected, "rejected")
	case budget.LateRequests:
		return e.late(b, p)
	case budget.Availability:
		return availability(b, p)
	default:
		return e.percentile(b, p)
	}
}

func nothingSeen(b budget.Budget, p part) finding {
	switch {
	case p.unsure > 0:
		return missing("", "%s not tell their way through the shop, and no other belongs here", plural(p.unsure, "request does", "requests do"))
	case p.phase != "" && b.Plain():
		return missing("", "no request was recorded in this phase")
	case p.calls:
		return missing("", "no such call was recorded")
	}
	return missing("", "no such request was recorded")
}

// unit is what the part counts.
func (p part) unit() string {
	if p.calls {
		return "calls"
	}
	return "requests"
}

// tooFew says how many requests are still lacking, "" when none is.
func (p part) tooFew() string {
	lacks := p.needed - p.n
	switch {
	case lacks <= 0:
		return ""
	case p.calls:
		return plural(lacks, "more call is needed", "more calls are needed")
	}
	return plural(lacks, "more request is needed", "more requests are needed")
}

// doubt says that requests which may belong here could change a verdict.
func (p part) doubt() string {
	return plural(p.unsureFailed, "more that failed does not tell its way and may belong here", "more that failed do not tell their way and may belong here")
}

func seenEnough(b budget.Budget, p part) finding {
	f := finding{verdict: results.Pass, measured: count(p.n) + " seen", figure: enough(p.unit(), p.n, b.Count)}
	if p.n < b.Count {
		f.verdict = results.Inconclusive
		f.measured += "; " + p.tooFew()
	}
	return f
}

// counted judges a count or a share. A budget of none is about requests, not
// percentages; a count that is too high is a fail, however few there were.
func counted(b budget.Budget, p part, bad int64, what string) finding {
	f := finding{verdict: results.Pass, measured: fmt.Sprintf("%s of %s %s", count(bad), count(p.n), what)}
	if what == "failed" {
		if bad > 0 {
			f.measured += ": " + tallied(p.classes)
		}
		f.evidence = p.samples
	}
	if b.Share {
		return shareOf(b, p, bad, f, what == "failed")
	}
	f.figure = countedOf(p.unit(), bad, p.n, b.Count)
	lacks := p.tooFew()
	switch {
	case bad > b.Count:
		f.verdict, f.firm = results.Fail, true
	case lacks != "":
		f.verdict = results.Inconclusive
		f.measured += "; " + lacks
	case bad+p.unsureFailed > b.Count:
		f.verdict = results.Inconclusive
		f.measured += "; " + p.doubt()
	}
	return f
}

// shareOf judges a share by its exact bounds: it passes when all of what is
// compatible with the count lies within the budget.
func shareOf(b budget.Budget, p part, bad int64, f finding, failures bool) finding {
	alike := 1.0
	if failures {
		alike, _ = p.batches.dispersion((*batch).failures)
	}
	floor, ceiling := p.bounds(bad, alike)
	f.measured += fmt.Sprintf(" (95 %% sure: at least %s, at most %s)", share(floor, 4), share(ceiling, 4))
	f.figure = within(bad, p.n, floor, ceiling, b.Ratio)
	switch lacks := p.tooFew(); {
	case floor > b.Ratio:
		f.verdict = results.Fail
	case lacks != "":
		f.verdict = results.Inconclusive
		f.measured += "; " + lacks
	case ceiling > b.Ratio:
		f.verdict = results.Inconclusive
		f.measured += "; the bounds reach over the budget"
	}
	return f
}

// bounds returns the one-sided bounds at 95 % of a share. What was seen counts
// in full against a budget; for it, requests that are alike count for fewer, and
// those that may belong here count as well.
func (p part) bounds(seen int64, alike float64) (floor, ceiling float64) {
	n := float64(p.n)
	return failureFloor(float64(seen), n), failureBound(float64(seen+p.unsureFailed)/alike, n/alike)
}

// late counts what left late or never. The sender is judged by it, not the shop.
func (e *evaluation) late(b budget.Budget, p part) finding {
	if e.run.Traffic.MaxLate <= 0 {
		return missing("", "the record does not say when a request is late")
	}
	of := p
	all := *p.cell
	all.n += p.undispatched
	of.cell = &all
	return counted(b, of, p.late+p.undispatched, "late or never sent")
}

// availability fails when even the fewest failures that are compatible with
// what was seen are too many, and passes when the most are not.
func availability(b budget.Budget, p part) finding {
	failed, n := p.failed, p.n
	alike, _ := p.batches.dispersion((*batch).failures)
	floor, ceiling := p.bounds(failed, alike)
	atLeast := 1 - ceiling
	f := finding{verdict: results.Pass, evidence: p.samples, measured: fmt.Sprintf("%s of %s served (95 %% sure: at least %s)",
		share(1-float64(failed)/float64(n), 4), count(n), share(atLeast, 4))}
	f.figure = served(failed, n, atLeast, b.Ratio)
	lacks := p.tooFew()
	switch {
	case 1-floor < b.Ratio:
		f.verdict = results.Fail
	case lacks != "":
		f.verdict = results.Inconclusive
		f.measured += "; " + lacks
	case atLeast < b.Ratio && p.unsureFailed > 0:
		f.verdict = results.Inconclusive
		f.measured += "; " + p.doubt()
	case atLeast < b.Ratio:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; %s requests would show it with this many failures", count(enoughFor(failed, b.Ratio)))
	}
	return f
}

// enoughFor returns how many requests with this many failures show availability.
func enoughFor(failed int64, availability float64) int64 {
	shown := func(n int64) bool { return boundAtMost(float64(failed), float64(n), 1-availability) }
	lo, hi := failed, int64(budget.NeededFor(availability))
	for !shown(hi) {
		lo, hi = hi, hi*2
	}
	for lo+1 < hi {
		if mid := lo + (hi-lo)/2; shown(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}

// percentile judges a percentile of all requests, failed ones included, timed
// from the scheduled instant, or of all calls.
func (e *evaluation) percentile(b budget.Budget, p part) finding {
	alike := p.alike(b.Quantile)
	lo, hi, bounded := p.waited.interval(b.Quantile, alike)
	limit := b.Duration
	f := finding{verdict: results.Inconclusive, measured: fmt.Sprintf("%s %s ms (95 %%: %s to %s ms)",
		quantileName(b.Quantile), millis(ms(p.waited.quantile(b.Quantile))), millis(ms(lo)), millis(ms(hi)))}
	f.figure = waitedFor(p.waited.quantile(b.Quantile), lo, hi, bounded, limit)
	if !p.calls {
		f.measured += fmt.Sprintf(", %s ms from sending", millis(ms(p.sent.quantile(b.Quantile))))
	}
	fewer := ""
	if alike > 1.05 {
		fewer = fmt.Sprintf(": neighbours are alike, so %s count as %s", count(p.n), count(int64(float64(p.n)/alike)))
	}
	traffic, late := e.run.Traffic, p.lateShare()
	switch lacks := p.tooFew(); {
	case !p.calls && traffic.MaxLate <= 0:
		f.measured += "; the record does not say when a request is late"
	case late > traffic.MaxLateShare:
		f.measured += fmt.Sprintf("; %s of the requests left late or never, %s may", share(late, 2), share(traffic.MaxLateShare, 2))
	case float64(p.unsure) > maxUnsure*float64(p.n):
		f.measured += fmt.Sprintf("; %s do not tell their way and may belong here", plural(p.unsure, "more", "more"))
	case lo > limit || (lo == limit && b.Op == budget.Less):
		f.verdict = results.Fail
	case lacks != "":
		f.measured += "; " + lacks
	case !bounded:
		f.measured += "; too few requests for an upper end" + fewer
	case hi < limit || (hi == limit && b.Op == budget.AtMost):
		f.verdict = results.Pass
	default:
		f.measured += "; the interval reaches over the budget" + fewer
	}
	if f.verdict != results.Pass {
		f.measured += e.crowded(p.phase)
	}
	return f
}

// crowdedFrom is the share of the host's CPUs in use from which a slow answer may
// be the host's doing.
const crowdedFrom = 0.9

// crowded says that the host had no CPU to spare in a phase: that changes no
// verdict, but where to look.
func (e *evaluation) crowded(phase string) string {
	if phase == "" {
		return ""
	}
	load, _, why := lastProbe[results.HostLoad](e, results.ProbeHostLoad, inPhase(phase))
	if why != "" || load.Busy < crowdedFrom {
		return ""
	}
	return fmt.Sprintf("; the host's CPUs were %s busy", share(load.Busy, 0))
}

// maxUnsure is the share of requests that may belong to a percentile's and do
// not say so, above which nothing is said of it.
const maxUnsure = 0.001

func quantileName(q float64) string { return fmt.Sprintf("p%.6g", q*100) }

// seconds writes a duration with one digit.
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
