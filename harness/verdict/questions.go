package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
)

// question is what cannot be answered for one failure alone, but once all
// requests are known: who else failed, and who did not. The zero question asks
// nothing.
type question struct {
	about   string // causeVersion, causeNoProxy, causeDatabase or causeSaturation
	service string // that was called; of a refusal and of the database, that called
	callee  string // of a refusal, "" for any
	version string // that was called
	pod     string // the same, where it has not told its version
	since   int64  // of the step that a refusal came of; else which spell, which slice
}

// answer gives a blame the cause that all failures together show.
func (a *attribution) answer(b blame) blame {
	switch b.asks.about {
	case causeVersion:
		b = a.versions.answer(b)
	case causeDatabase:
		b = a.versions.answerDatabase(b)
	case causeSaturation:
		b = a.versions.answerSaturation(b)
	case causeNoProxy:
		b = a.refusals.answer(b, a.around)
	}
	b.asks = question{}
	return b
}

// settle answers all questions and joins the groups that turn out to be one.
func (a *attribution) settle(all groups) groups {
	open := make([]*group, 0, len(all))
	for _, g := range all {
		open = append(open, g)
	}
	slices.SortFunc(open, func(x, y *group) int {
		return cmp.Or(cmp.Compare(x.first, y.first), strings.Compare(x.cause, y.cause),
			strings.Compare(x.asks.version+x.asks.pod, y.asks.version+y.asks.pod), cmp.Compare(x.asks.since, y.asks.since))
	})
	settled := groups{}
	for _, g := range open {
		if g.asks != (question{}) {
			g.become(a.answer(g.blame()))
		}
		key := groupKey{kind: g.kind, cause: g.cause}
		if same := settled[key]; same != nil {
			same.join(g)
		} else {
			settled[key] = g
		}
	}
	return settled
}

func (g *group) blame() blame {
	return blame{kind: g.kind, cause: g.cause, mend: g.mend, mode: g.mode, asks: g.asks, at: g.first}
}

// become gives a group its answered cause. What shows it is told first.
func (g *group) become(b blame) {
	g.kind, g.cause, g.mend, g.mode, g.asks = b.kind, b.cause, b.mend, b.mode, b.asks
	seen := g.near
	g.near = nil
	g.note(b.near)
	g.note(seen)
	for _, pod := range b.pods {
		if _, known := g.pods[pod]; !known && len(g.pods) < maxNames {
			g.pods[pod] = 0 // it may have been any of them
		}
	}
}

// join takes what another group of the same cause has, which began later.
func (g *group) join(other *group) {
	g.count += other.count
	g.last = max(g.last, other.last)
	for _, both := range []struct{ into, from map[string]int64 }{
		{g.classes, other.classes}, {g.phases, other.phases}, {g.steps, other.steps}, {g.services, other.services}, {g.pods, other.pods},
	} {
		for name, n := range both.from {
			if _, known := both.into[name]; known || len(both.into) < maxNames {
				both.into[name] += n
			}
		}
	}
	g.note(other.near)
	g.samples = firstOf(append(g.samples, other.samples...), min(3, len(g.samples)+len(other.samples)))
	g.requests = append(g.requests, other.requests...)
	slices.SortStableFunc(g.requests, func(x, y results.CauseRequest) int { return cmp.Compare(x.ScheduledMs, y.ScheduledMs) })
	g.requests = g.requests[:min(len(g.requests), maxCauseRequests)]
}

// refusals counts the calls of services that have pods without a proxy, as far as
// a record tells which of their pods called: those that were refused, and those
// that were served in spite of the policy.
type refusals struct {
	by     map[question]*admissions
	looked int // at ways since a policy was enforced
}

type admissions struct{ bare, others fates }

type fates struct{ refused, served int64 }

func (s *admissions) of(bare bool) *fates {
	if bare {
		return &s.bare
	}
	return &s.others
}

// note counts a call by its callee, and by all callees together.
func (all *refusals) note(q question, count func(*admissions)) {
	for _, q := range []question{q, q.anyCallee()} {
		seen := all.by[q]
		if seen == nil {
			if len(all.by) >= maxGroups {
				return
			}
			seen = &admissions{}
			all.by[q] = seen
		}
		count(seen)
	}
}

func (q question) anyCallee() question {
	q.callee = ""
	return q
}

// learn takes the calls of a request's way that a policy let through. A long run
// has more than enough of them.
func (all *refusals) learn(r *results.Request, told []hops.Hop, around *surroundings) {
	if len(around.noProxy) == 0 || len(told) == 0 {
		return
	}
	since := around.enforcedAt(r)
	if since < 0 {
		return
	}
	if all.looked++; all.looked > lookAtServed && all.looked%lookEvery != 0 {
		return
	}
	for i := range told {
		h := &told[i]
		if h.Depth == 0 || h.Service == shopchart.Database || h.Service == connectionHop || failedCall(h) || len(around.noProxy[h.Caller]) == 0 {
			continue
		}
		if pod := callerOf(told, i).Pod; pod != "" {
			bare := around.bare(pod)
			all.note(question{about: causeNoProxy, service: h.Caller, callee: h.Service, since: since}, func(seen *admissions) { seen.of(bare).served++ })
		}
	}
}

// lookAtServed is how many ways are looked at one by one, then one in lookEvery.
const lookAtServed = 50_000

// enoughServed is how many calls that were served show that a policy is not what
// refuses the pods they came from.
const enoughServed = 10

// answer tells whose refusals those are that do not tell their pod: of the pods
// without a proxy when only these are refused, of the others when only those
// are. Else nobody is blamed.
func (all *refusals) answer(b blame, around *surroundings) blame {
	bare, others := around.unmeshed(b.asks.service, b.at)
	switch {
	case len(bare) == 0:
		return b
	case others == 0:
		return b.withoutProxy(b.asks.service, bare)
	}
	share := float64(len(bare)) / float64(len(bare)+others)
	for _, q := range []question{b.asks, b.asks.anyCallee()} {
		seen := all.by[q]
		switch {
		case seen == nil:
		case seen.bare.alone(seen.others, share, q.callee != ""): // others are served by the very callee that refused
			return b.withoutProxy(b.asks.service, bare)
		case seen.others.alone(seen.bare, 1-share, false):
			return b
		}
	}
	b.near = append(b.near, fmt.Sprintf("pods of %s without a proxy: %s", b.asks.service, listed(bare, 5)))
	b.kind, b.cause = causeUnknown, "unknown: "+b.cause+", and of its pods some have a proxy and some do not"
	b.mend, b.mode = "", ""
	return b
}

// alone tells whether surely these pods, which are so many of all, are refused
// and the others are not: of the others none is known to be refused, and either
// so many of these are that it is no chance, or enough calls of the others were
// served. That one of these was refused may be left untold where none was served.
func (f fates) alone(others fates, share float64, untold bool) bool {
	switch {
	case others.refused > 0:
		return false
	case f.refused > 0 && math.Pow(share, float64(f.refused)) < surely:
		return true
	}
	return others.served >= enoughServed && (f.refused > 0 || f.served == 0 && untold)
}
