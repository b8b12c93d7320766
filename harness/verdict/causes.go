package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// attribution finds out why requests failed, or took longer than their budget,
// one at a time and in any order, and groups them. It keeps counts and a few
// examples, not the requests.
type attribution struct {
	run    results.Run
	limits map[string]time.Duration // end-to-end budgets by phase
	around *surroundings
	failed groups
	slowed groups

	refusals refusals
	versions versions
	load     load
}

// groups are causes by what they are told apart by.
type groups map[groupKey]*group

type groupKey struct {
	kind, cause string
	asks        question
}

// group is the failures of one cause.
type group struct {
	cause       string // in words
	kind, mend  string
	mode        string // id of what breaks like this
	asks        question
	count       int64
	first, last int64
	classes     map[string]int64
	phases      map[string]int64
	steps       map[string]int64
	services    map[string]int64
	pods        map[string]int64
	near        []string // what happened around, as evidence
	samples     []string
	requests    []results.CauseRequest
}

// maxGroups bounds what a damaged record can make up.
const maxGroups = 200

func newAttribution(run results.Run, budgets []budget.Budget, events []results.Event, probes []results.Probe) *attribution {
	return &attribution{
		run: run, limits: slowLimits(run, budgets), around: newSurroundings(events, probes), failed: groups{}, slowed: groups{},
		refusals: refusals{by: map[question]*admissions{}}, versions: newVersions(), load: load{host: newHostLoad(probes)},
	}
}

// add takes any request of the run, with its way if it told one, and asks for a
// reason where it failed or was too slow.
func (a *attribution) add(r *results.Request, told []hops.Hop) {
	if r.Outcome == results.Undispatched {
		return
	}
	a.learn(r, told)
	limit := a.limits[r.Phase]
	tooSlow := limit > 0 && r.Latency() > int64(limit) && r.Outcome != results.Failed
	a.load.add(r, tooSlow)
	switch {
	case r.Outcome == results.Failed:
		a.failed.add(r, a.blame(r, told))
	case tooSlow:
		if b := a.slow(r, told); b.kind != causeUnknown || !a.load.postpone(r, b) {
			a.slowed.add(r, b)
		}
	}
}

// learn takes from a request's way what explains others.
func (a *attribution) learn(r *results.Request, told []hops.Hop) {
	a.around.where.learn(told)
	a.versions.learn(r, told)
	a.refusals.learn(r, told, a.around)
}

func (all groups) add(r *results.Request, b blame) {
	key := groupKey{b.kind, b.cause, b.asks}
	g := all[key]
	if g == nil && len(all) >= maxGroups {
		b = blame{kind: causeUnknown, cause: "unknown: of too many kinds to list"}
		key = groupKey{kind: b.kind, cause: b.cause}
		g = all[key]
	}
	if g == nil {
		g = &group{
			cause: b.cause, kind: b.kind, mend: b.mend, mode: b.mode, asks: b.asks,
			first: r.Scheduled, last: r.Scheduled, classes: map[string]int64{}, phases: map[string]int64{}, steps: map[string]int64{}, services: map[string]int64{}, pods: map[string]int64{},
		}
		all[key] = g
	}
	g.take(r, b)
}

func (g *group) take(r *results.Request, b blame) {
	g.count++
	g.first, g.last = min(g.first, r.Scheduled), max(g.last, r.Scheduled)
	if r.Outcome == results.Failed {
		bump(g.classes, cmp.Or(r.Class, "unnamed"))
	}
	bump(g.phases, r.Phase)
	bump(g.steps, b.step)
	for _, s := range b.services {
		bump(g.services, s)
	}
	for _, p := range b.pods {
		bump(g.pods, p)
	}
	g.note(b.near)
	if len(g.samples) < 3 {
		g.samples = append(g.samples, quote(r))
	}
	if len(g.requests) < maxCauseRequests {
		g.requests = append(g.requests, causeRequest(r, b))
	}
}

// note keeps what happened around, as evidence.
func (g *group) note(near []string) {
	for _, line := range near {
		if len(g.near) < maxSample && !slices.Contains(g.near, line) {
			g.near = append(g.near, line)
		}
	}
}

// maxCauseRequests is how many requests of a cause are shown one by one.
const maxCauseRequests = 12

func causeRequest(r *results.Request, b blame) results.CauseRequest {
	return results.CauseRequest{
		Seq: r.Seq, ScheduledMs: ms(time.Duration(r.Scheduled)), LatencyMs: ms(time.Duration(r.Latency())), Phase: r.Phase, Route: r.Route,
		Status: r.Status, Class: r.Class, Hop: r.Hop, Pod: r.Pod, Error: short(r.Error, 240), Way: r.Hops, Near: firstOf(b.near, maxSample),
	}
}

// bump counts a name, unless there are more names than anyone reads.
func bump(counts map[string]int64, name string) {
	if _, known := counts[name]; name != "" && (known || len(counts) < maxNames) {
		counts[name]++
	}
}

// ranked returns the causes of failures, the most frequent first.
func (a *attribution) ranked() []results.Cause {
	a.failed = a.settle(a.failed)
	return a.failed.ranked(a.run.Phases)
}

// slowRanked returns the causes of slow requests, the most frequent first.
func (a *attribution) slowRanked() []results.Cause {
	a.load.settle(a.slowed)
	return a.slowed.ranked(a.run.Phases)
}

func (all groups) ranked(plan []results.PhasePlan) []results.Cause {
	causes := make([]results.Cause, 0, len(all))
	for _, g := range all {
		causes = append(causes, g.result(plan))
	}
	slices.SortFunc(causes, func(x, y results.Cause) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Cause, y.Cause))
	})
	return causes
}

func (g *group) result(plan []results.PhasePlan) results.Cause {
	phases := byCount(g.phases)
	slices.SortStableFunc(phases, func(a, b string) int { return cmp.Compare(place(plan, a), place(plan, b)) })
	evidence := []string{fmt.Sprintf("from %s to %s in %s", at(g.first), at(g.last), strings.Join(phases, ", "))}
	if steps := byCount(g.steps); len(steps) > 0 && g.kind != causePolicy && g.kind != causeNoProxy { // which say when it began
		evidence = append(evidence, "step: "+strings.Join(steps, "; "))
	}
	if len(g.pods) > 0 {
		evidence = append(evidence, "pods: "+listed(byCount(g.pods), 8))
	}
	evidence = append(evidence, g.near...)
	evidence = append(evidence, g.samples...)
	cause := g.cause
	if len(g.classes) > 0 {
		cause += ": " + tallied(g.classes)
	}
	return results.Cause{
		Cause: cause, Count: g.count, Evidence: evidence, Kind: g.kind, Phases: phases, Steps: byCount(g.steps),
		Services: byCount(g.services), Pods: byCount(g.pods), Mend: g.mend,
		FailureMode: g.mode, Requests: g.requests,
	}
}

// byCount returns the names, the most frequent first.
func byCount(counts map[string]int64) []string {
	names := slices.Collect(maps.Keys(counts))
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	return names
}

// place returns where a phase stands in the plan, behind all when it does not.
func place(plan []results.PhasePlan, phase string) int {
	if i := slices.IndexFunc(plan, func(p results.PhasePlan) bool { return p.Name == phase }); i >= 0 {
		return i
	}
	return len(plan)
}
