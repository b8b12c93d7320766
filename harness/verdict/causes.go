package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"meshsim.dev/meshsim/results"
)

// Kinds of causes.
const (
	causeDrain       = "drain"       // pods stopped while requests were on their way
	causeRestart     = "restart"     // a container died
	causeNotReady    = "not-ready"   // pods that were not ready
	causePolicy      = "policy"      // refused by the mesh's policy
	causeCertificate = "certificate" // a TLS handshake failed
	causeDatabase    = "database"
	causeNode        = "node"
	causeSender      = "sender"
	causeUnknown     = "unknown"
)

// attribution finds out why requests failed, one at a time and in any order,
// and groups them. It keeps counts and a few examples, not the requests.
type attribution struct {
	run    results.Run
	around surroundings
	groups map[string]*group
}

// group is the failures of one cause.
type group struct {
	cause       string // in words
	kind, mend  string
	count       int64
	first, last int64
	classes     map[string]int64
	phases      map[string]int64
	steps       map[string]int64
	services    map[string]int64
	pods        map[string]int64
	near        []string // what happened around, as evidence
	samples     []string
}

// maxGroups bounds what a damaged record can make up.
const maxGroups = 200

func newAttribution(run results.Run, events []results.Event, probes []results.Probe) *attribution {
	return &attribution{run: run, around: newSurroundings(events, probes), groups: map[string]*group{}}
}

func (a *attribution) add(r *results.Request) {
	b := a.blame(r)
	key := b.kind + "\x00" + b.cause
	g := a.groups[key]
	if g == nil && len(a.groups) >= maxGroups {
		b = blame{kind: causeUnknown, cause: "unknown: of too many kinds to list"}
		key = b.cause
		g = a.groups[key]
	}
	if g == nil {
		g = &group{
			cause: b.cause, kind: b.kind, mend: b.mend, first: r.Scheduled, classes: map[string]int64{}, phases: map[string]int64{},
			steps: map[string]int64{}, services: map[string]int64{}, pods: map[string]int64{},
		}
		a.groups[key] = g
	}
	g.take(r, b)
}

func (g *group) take(r *results.Request, b blame) {
	g.count++
	g.first, g.last = min(g.first, r.Scheduled), max(g.last, r.Scheduled)
	bump(g.classes, cmp.Or(r.Class, "unnamed"))
	bump(g.phases, r.Phase)
	bump(g.steps, b.step)
	for _, s := range b.services {
		bump(g.services, s)
	}
	for _, p := range b.pods {
		bump(g.pods, p)
	}
	for _, line := range b.near {
		if len(g.near) < maxSample && !slices.Contains(g.near, line) {
			g.near = append(g.near, line)
		}
	}
	if len(g.samples) < 3 {
		g.samples = append(g.samples, quote(r))
	}
}

// bump counts a name, unless there are more names than anyone reads.
func bump(counts map[string]int64, name string) {
	if _, known := counts[name]; name != "" && (known || len(counts) < maxNames) {
		counts[name]++
	}
}

// ranked returns the causes, the most frequent first.
func (a *attribution) ranked() []results.Cause {
	causes := make([]results.Cause, 0, len(a.groups))
	for _, g := range a.groups {
		causes = append(causes, g.result(a.run.Phases))
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
	if steps := byCount(g.steps); len(steps) > 0 && g.kind != causePolicy { // which says when it began
		evidence = append(evidence, "step: "+strings.Join(steps, "; "))
	}
	if len(g.pods) > 0 {
		evidence = append(evidence, "pods: "+listed(byCount(g.pods), 8))
	}
	evidence = append(evidence, g.near...)
	evidence = append(evidence, g.samples...)
	return results.Cause{
		Cause: g.cause + ": " + tallied(g.classes), Count: g.count, Evidence: evidence, Kind: g.kind, Phases: phases, Steps: byCount(g.steps),
		Services: byCount(g.services), Pods: byCount(g.pods), Mend: g.mend,
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
