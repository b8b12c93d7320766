package verdict

import (
	"fmt"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// tooFew says how many requests a phase still lacks, "" when it lacks none.
func (p *phaseTally) tooFew() string {
	lacks := int64(p.figures.Needed) - p.figures.Requests
	if lacks <= 0 {
		return ""
	}
	return plural(lacks, "more request is needed", "more requests are needed")
}

// failedRequests counts: a zero budget is about requests, not percentages.
func failedRequests(b budget.Budget, p *phaseTally) finding {
	failed, n := p.figures.Failed, p.figures.Requests
	f := finding{phase: p.figures.Name, verdict: results.Pass, measured: fmt.Sprintf("%s of %s failed", count(failed), count(n))}
	if failed > 0 {
		f.measured += ": " + tallied(p.classes)
	}
	f.evidence = p.samples
	f.figure = counted("requests", failed, b.Count)
	lacks := p.tooFew()
	switch {
	case failed > b.Count:
		f.verdict = results.Fail
	case lacks != "":
		f.verdict = results.Inconclusive
		f.measured += "; " + lacks
	}
	return f
}

// availability fails on what was seen and passes on what was shown: with too
// few requests it fails only when the missing ones could not mend it.
func availability(b budget.Budget, p *phaseTally) finding {
	failed, n := p.figures.Failed, p.figures.Requests
	allowed := (1 - b.Ratio) * float64(max(n, int64(budget.NeededFor(b.Ratio))))
	atLeast := 1 - failureBound(failed, n)
	f := finding{phase: p.figures.Name, verdict: results.Pass, measured: fmt.Sprintf("%s of %s served (95 %% sure: at least %s)",
		share(1-float64(failed)/float64(n), 4), count(n), share(atLeast, 4))}
	f.figure = served(failed, n, atLeast, b.Ratio)
	lacks := p.tooFew()
	switch {
	case float64(failed) > allowed+1e-6:
		f.verdict = results.Fail
	case lacks != "":
		f.verdict = results.Inconclusive
		f.measured += "; " + lacks
	case atLeast < b.Ratio:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; %s requests would show it with this many failures", count(enoughFor(failed, b.Ratio)))
	}
	return f
}

// enoughFor returns how many requests with this many failures show availability.
func enoughFor(failed int64, availability float64) int64 {
	lo, hi := failed, int64(budget.NeededFor(availability))
	for 1-failureBound(failed, hi) < availability {
		lo, hi = hi, hi*2
	}
	for lo+1 < hi {
		if mid := lo + (hi-lo)/2; 1-failureBound(failed, mid) < availability {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// endToEnd judges a percentile of all requests, failed ones included, timed
// from the scheduled instant.
func (e *evaluation) endToEnd(b budget.Budget, p *phaseTally) finding {
	lo, hi, bounded := p.waited.interval(b.Quantile)
	limit := b.Duration
	f := finding{phase: p.figures.Name, verdict: results.Inconclusive, measured: fmt.Sprintf("%s %s ms (95 %%: %s to %s ms), %s ms from sending",
		quantileName(b.Quantile), millis(ms(p.waited.quantile(b.Quantile))), millis(ms(lo)), millis(ms(hi)), millis(ms(p.sent.quantile(b.Quantile))))}
	f.figure = waitedFor(p.waited.quantile(b.Quantile), lo, hi, bounded, limit)
	traffic, late := e.run.Traffic, p.lateShare()
	lacks := p.tooFew()
	switch {
	case traffic.MaxLate <= 0:
		f.measured += "; the record does not say when a request is late"
	case late > traffic.MaxLateShare:
		f.measured += fmt.Sprintf("; %s of the requests left late or never, %s may", share(late, 2), share(traffic.MaxLateShare, 2))
	case lo > limit || (lo == limit && b.Op == budget.Less):
		f.verdict = results.Fail
	case lacks != "":
		f.measured += "; " + lacks
	case !bounded:
		f.measured += "; too few requests for an upper end"
	case hi < limit || (hi == limit && b.Op == budget.AtMost):
		f.verdict = results.Pass
	default:
		f.measured += "; the interval reaches over the budget"
	}
	return f
}

func quantileName(q float64) string { return fmt.Sprintf("p%.6g", q*100) }
