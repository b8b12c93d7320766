package agents

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
)

// Missing draws every group's schedule once more and returns what of it has no
// result: of lost agents, by phase. It is only known once Stop has ended.
func (f *Fleet) Missing() ([]results.Missing, error) {
	var all []results.Missing
	for _, g := range f.groups {
		some, err := f.missingOf(g)
		if err != nil {
			return nil, fmt.Errorf("reckon up the agents %s: %w", g.Name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func (f *Fleet) missingOf(g *group) ([]results.Missing, error) {
	join := g.joined()
	if join < 0 || f.ended == 0 {
		return nil, nil
	}
	type place struct {
		index int
		phase string
	}
	found := map[place]*results.Missing{}
	shift := int64(f.Began.Sub(f.Begin))
	line := wire.Timeline{Join: join, Scales: f.scales}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := traffic.EachDue(traffic.Options{
		Traffic: g.traffic, Seed: g.plan.Seed, Begin: f.Began, Began: f.Began, ScaleAt: line.ScaleAt,
	}, time.Duration(f.ended), func(d traffic.Due) {
		if int64(d.At) < join || !g.plan.Part.Covers(g.plan.Seed, d.Lane, d.Number) || g.ledger.has(d.Lane, d.Number) {
			return
		}
		at := shift + int64(d.At)
		p := place{int(d.Number % uint64(g.plan.Part.Of)), f.PhaseAt(at)}
		m := found[p]
		if m == nil {
			owner := g.members[p.index]
			m = &results.Missing{Agent: owner.name(), Phase: p.phase, From: at, Why: cmp.Or(owner.why(), "its results have a gap")}
			found[p] = m
		}
		m.Requests++
		m.From = min(m.From, at)
	})
	if err != nil {
		return nil, err
	}
	var all []results.Missing
	for _, m := range found {
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b results.Missing) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Agent, b.Agent))
	})
	return all, nil
}

// Groups returns the agents as the run's record keeps them.
func (f *Fleet) Groups() []results.AgentGroup {
	var all []results.AgentGroup
	for _, g := range f.groups {
		one := results.AgentGroup{
			Name: g.Name, Meshed: g.Meshed, Zone: g.Zone, Target: g.Target, Share: g.Share, Rate: g.Rate, From: g.from,
			Latency: g.latency(),
		}
		for _, m := range g.members {
			one.Agents = append(one.Agents, m.record())
		}
		all = append(all, one)
	}
	return all
}

// latency merges what the agents have measured themselves: histograms, as
// percentiles cannot be.
func (g *group) latency() *results.AgentLatency {
	all, told := traffic.NewHistogram(), false
	for _, m := range g.members {
		m.mu.Lock()
		if m.own != nil {
			all.Merge(m.own)
			told = true
		}
		m.mu.Unlock()
	}
	if !told {
		return nil
	}
	at := func(q float64) time.Duration { return time.Duration(all.ValueAtQuantile(q)) * time.Microsecond }
	return &results.AgentLatency{Requests: all.TotalCount(), P50: at(50), P99: at(99), Max: at(100)}
}

func (m *member) record() results.Agent {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := results.Agent{
		Name: m.name(), Pod: m.pod, Node: m.node, Zone: m.zone, Requests: m.got, Begin: m.begin, End: m.end, Lost: m.lost,
	}
	if m.begin != nil && m.end != nil {
		r.Drift = m.end.Offset - m.begin.Offset
	}
	return r
}

// ClockOffsets returns by how much the nodes' time of day differs from this
// machine's, in nanoseconds, where agents ran.
func (f *Fleet) ClockOffsets() map[string]int64 {
	offsets := map[string]int64{}
	best := map[string]time.Duration{}
	for _, m := range f.all(func(m *member) bool { return m.begin != nil }) {
		if known, ok := best[m.node]; !ok || m.begin.Uncertainty < known {
			best[m.node], offsets[m.node] = m.begin.Uncertainty, int64(m.begin.WallOffset)
		}
	}
	return offsets
}
