package alb

// pick takes a target for a request that came in through zone, and counts it
// as under way there; release must follow. Healthy targets are taken by the
// group's algorithm. When there are none, the load balancer fails open and
// takes the unhealthy ones, but never those that are still being registered or
// that drain: nil, then, is AWS's 503.
func (g *group) pick(zone string) *target {
	g.mu.Lock()
	defer g.mu.Unlock()
	spec := g.spec.Load()
	for _, wanted := range []health{healthy, unhealthy} {
		var t *target
		if spec.LeastOutstanding {
			t = g.leastOutstanding(spec, zone, wanted)
		} else {
			t = g.roundRobin(spec, zone, wanted)
		}
		if t != nil {
			t.busy.Add(1)
			return t
		}
	}
	return nil
}

// release ends what pick began.
func (g *group) release(t *target) {
	if t.busy.Add(-1) > 0 {
		return
	}
	g.mu.Lock()
	gone := g.retired || t.state == draining || t.state == unused
	g.mu.Unlock()
	if gone {
		t.settle()
	}
}

// takes tells whether t may have a request that came in through zone.
func (s *groupSpec) takes(t *target, zone string, wanted health) bool {
	return t.state == wanted && (s.CrossZone || zone == "" || t.Zone == zone)
}

// roundRobin takes the next target in turn. In slow start a target saves up
// its share and takes its turn when it has a whole one.
func (g *group) roundRobin(spec *groupSpec, zone string, wanted health) *target {
	now := g.now()
	passed := -1
	for i := range g.targets {
		at := (g.turn + i) % len(g.targets)
		t := g.targets[at]
		if !spec.takes(t, zone, wanted) {
			continue
		}
		if share := t.share(now, spec.SlowStart); share < 1 {
			if t.credit += share; t.credit < 1 {
				if passed < 0 {
					passed = at
				}
				continue
			}
			t.credit--
		}
		g.turn = at + 1
		return t
	}
	if passed < 0 {
		return nil
	}
	g.turn = passed + 1
	return g.targets[passed] // all there are begin slowly
}

// leastOutstanding takes a target with the fewest requests under way; among
// equals they take turns.
func (g *group) leastOutstanding(spec *groupSpec, zone string, wanted health) *target {
	best := -1
	for i := range g.targets {
		at := (g.turn + i) % len(g.targets)
		if t := g.targets[at]; spec.takes(t, zone, wanted) && (best < 0 || t.busy.Load() < g.targets[best].busy.Load()) {
			best = at
		}
	}
	if best < 0 {
		return nil
	}
	g.turn = best + 1
	return g.targets[best]
}

// serves tells whether requests that come in through zone meet a healthy
// target, or would not in any other zone either.
func (g *group) serves(zone string) bool {
	spec := g.spec.Load()
	if spec.CrossZone {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	elsewhere := false
	for _, t := range g.targets {
		if t.state == healthy {
			if t.Zone == zone {
				return true
			}
			elsewhere = true
		}
	}
	return !elsewhere
}
