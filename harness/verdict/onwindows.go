package verdict

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// stretch is the part of the run that something is counted over.
type stretch struct {
	phase    string
	from, to int64
	cutOff   bool // the run ended before it did
}

func (s stretch) holds(at int64) bool { return at >= s.from && at < s.to }

// inWindows judges what is counted over the whole run, over phases or a window.
func (e *evaluation) inWindows(b budget.Budget, judge func(budget.Budget, stretch) finding) []finding {
	var all []finding
	add := func(s stretch) {
		f := judge(b, s)
		if f.verdict == results.Pass && s.cutOff {
			f.verdict = results.Inconclusive
			f.measured += "; the run ended before this window did"
		}
		f.phase = s.phase
		all = append(all, f)
	}
	switch {
	case b.Window != nil:
		from, to, why := e.marks.window(*b.Window)
		if why != "" {
			return []finding{missing("", "%s", why)}
		}
		add(stretch{"", from, to, from < 0 || to > e.marks.end})
	case len(b.Phases) == 0:
		add(stretch{"", 0, math.MaxInt64, false})
	}
	for _, p := range b.Phases {
		spans := e.marks.periods(budget.Mark{Kind: budget.PhaseMark, Name: p.Name})
		if len(spans) == 0 || !spans[0].ended {
			all = append(all, missing(p.Name, "the phase has no end in the record"))
			continue
		}
		add(stretch{p.Name, spans[0].from, spans[0].to, false})
	}
	return all
}

// watchedFrom is when the cluster began to be watched.
func (e *evaluation) watchedFrom() (at int64, watched bool) {
	i := slices.IndexFunc(e.events, func(ev results.Event) bool { return ev.Kind == results.Watching })
	if i < 0 {
		return 0, false
	}
	return e.events[i].At, true
}

// restarts counts containers that died and came again, or of those the ones
// that were killed for want of memory.
func (e *evaluation) restarts(b budget.Budget, s stretch) finding {
	what := counting{"restart", "restarts", "the pods"}
	if b.Subject == budget.OOMKills {
		what = counting{"kill for want of memory", "kills for want of memory", "the pods"}
	}
	return e.countEvents(b, s, what, func(ev results.Event) string {
		state := ev.Fields[results.FieldState]
		dead := state == results.StateOOMKilled || state == results.StateRestarted && b.Subject != budget.OOMKills
		if ev.Kind != results.Pod || !dead || !chosenService(b, ev.Fields[results.FieldService]) {
			return ""
		}
		return fmt.Sprintf("%s %s at %s", ev.Name, state, at(ev.At))
	})
}

// counting names what is counted, and what must be watched for it.
type counting struct{ one, many, watched string }

// countEvents counts the events that tell has words for. A few of them in a
// window that was watched in part only claim nothing.
func (e *evaluation) countEvents(b budget.Budget, s stretch, what counting, tell func(results.Event) string) finding {
	from, watched := e.watchedFrom()
	if !watched {
		return missing("", "nobody watched %s", what.watched)
	}
	f := finding{verdict: results.Pass}
	for _, ev := range e.events {
		if !s.holds(ev.At) {
			continue
		}
		if line := tell(ev); line != "" {
			f.evidence = append(f.evidence, line)
		}
	}
	n := int64(len(f.evidence))
	f.evidence = firstOf(f.evidence, 10)
	f.figure = countOf(what.many, n, b.Count)
	f.measured = plural(n, what.one, what.many)
	switch {
	case n > b.Count:
		f.verdict, f.firm = results.Fail, true
	case s.phase == "" && s.to != math.MaxInt64 && from > s.from:
		f.verdict = results.Inconclusive
		f.measured += "; " + what.watched + " were not watched from its begin"
	}
	return f
}

// wire judges the flows that the captures saw. One that lost packets, or that
// not every node had, claims nothing that it did not see.
func (e *evaluation) wire(b budget.Budget, s stretch) finding {
	var total, plain, untold, planted, found, dropped int64
	var evidence []string
	absent := map[string]string{} // nodes, with what became of their captures
	captures, covered := 0, int64(0)
	for _, p := range e.probes {
		if p.Probe != results.ProbeWire {
			continue
		}
		seen, why := decode[results.Wire](p)
		switch {
		case why != "":
			return missing("", "%s", why)
		case seen.To <= s.from || seen.From >= s.to:
			continue
		case s.to != math.MaxInt64 && (seen.From < s.from-int64(captureSlack) || seen.To > s.to+int64(captureSlack)):
			return missing("", "a capture from %s to %s does not end with this window", at(seen.From), at(seen.To))
		}
		captures++
		covered += seen.To - seen.From
		dropped += seen.Dropped
		planted, found = planted+seen.Planted, found+seen.Found
		for _, node := range seen.Missing {
			if absent[node] == "" {
				absent[node] = seen.Why[node]
			}
		}
		evidence = append(evidence, seen.Where...)
		for _, flow := range seen.Flows {
			if flow.Exempt != "" || !chosenService(b, flow.Source) && !chosenService(b, flow.Destination) {
				continue
			}
			total += flow.Count
			switch flow.Kind {
			case results.FlowTLS:
			case results.FlowUnknown:
				untold += flow.Count
			default:
				plain += flow.Count
				evidence = append(evidence, fmt.Sprintf("%s > %s:%d, %s × %s", flow.Source, flow.Destination, flow.Port, count(flow.Count), flow.Kind))
			}
		}
	}
	if captures == 0 {
		return missing("", "probe %s has left no observation of it%s", results.ProbeWire, e.whyUntaken(results.ProbeWire, nil))
	}
	f := finding{verdict: results.Pass, evidence: firstOf(evidence, 10)}
	lacking := total == 0
	switch b.Subject {
	case budget.Canaries:
		f.measured = fmt.Sprintf("%s of %s planted strings were read", count(found), count(planted))
		f.figure = countOf("strings", found, b.Count)
		f.firm, lacking = found > b.Count, planted == 0 || total == 0
	case budget.PlaintextFlows:
		f.measured = fmt.Sprintf("%s of %s flows in plaintext", count(plain), count(total))
		f.figure = countOf("flows", plain, b.Count)
		f.firm = plain > b.Count
	default:
		f.measured = fmt.Sprintf("%s of %s flows encrypted", count(total-plain-untold), count(total))
		f.figure = reached(total-plain-untold, total, b.Ratio)
		if total > 0 && !reaches(total-plain, total, b.Ratio) {
			f.verdict = results.Fail
		}
	}
	if f.firm {
		f.verdict = results.Fail
	}
	if lacking {
		f.figure = nil // of nothing
	}
	if f.verdict == results.Fail {
		return f
	}
	for _, open := range []struct {
		is   bool
		says string
	}{
		{lacking, "there was nothing to be seen"},
		{untold > 0 && b.Subject != budget.Canaries, plural(untold, "flow did not tell what it was", "flows did not tell what they were")},
		{dropped > 0, plural(dropped, "packet was lost", "packets were lost")},
		{len(absent) > 0, "nothing was captured on " + listed(reasoned(absent), maxNamed)},
		{s.to != math.MaxInt64 && covered < s.to-s.from-2*int64(captureSlack), "a part of the window was not captured"},
		{s.to == math.MaxInt64 && covered < e.marks.end-e.marks.begin-2*int64(captureSlack), "a part of the run was not captured"},
	} {
		if open.is {
			f.verdict = results.Inconclusive
			f.measured += "; " + open.says
		}
	}
	return f
}

// reasoned are names, each with its reason where there is one.
func reasoned(why map[string]string) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(why)) {
		if why[name] != "" {
			name += " (" + short(why[name], 200) + ")"
		}
		all = append(all, name)
	}
	return all
}

// captureSlack is how far a capture's ends may be from a window's.
const captureSlack = 2 * time.Second

// vaultSealed adds up the time in which Vault was sealed or did not answer.
func (e *evaluation) vaultSealed(b budget.Budget, s stretch) finding {
	seen, _, why := lastProbe[results.VaultSeal](e, results.ProbeVaultSeal, nil)
	switch {
	case why != "":
		return missing("", "%s", why)
	case len(seen.States) == 0 || seen.To <= seen.From:
		return missing("", "Vault was not asked for its seal")
	}
	from, to := max(s.from, seen.From), min(s.to, seen.To)
	var shut int64
	f := finding{verdict: results.Pass}
	for i, change := range seen.States {
		end := seen.To
		if i+1 < len(seen.States) {
			end = seen.States[i+1].At
		}
		lasted := min(end, to) - max(change.At, from)
		if lasted <= 0 || change.State == results.SealUnsealed {
			continue
		}
		shut += lasted
		f.evidence = append(f.evidence, fmt.Sprintf("%s from %s for %s", change.State, at(max(change.At, from)), seconds(time.Duration(lasted))))
	}
	f.evidence = firstOf(f.evidence, 10)
	f.measured = fmt.Sprintf("%s sealed or silent of %s", seconds(time.Duration(shut)), seconds(time.Duration(max(to-from, 0))))
	f.figure = lasted(time.Duration(shut), b.Duration)
	switch {
	case !b.Op.Holds(float64(shut), float64(b.Duration)):
		f.verdict, f.firm = results.Fail, true
	case to <= from:
		return missing("", "Vault was not asked for its seal in this window")
	case s.to != math.MaxInt64 && (seen.From > s.from || seen.To < s.to):
		f.verdict = results.Inconclusive
		f.measured += "; it was not asked through all of the window"
	}
	return f
}
