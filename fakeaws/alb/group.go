package alb

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// TargetType says what the targets of a group are.
type TargetType string

const (
	InstanceTargets TargetType = "instance" // nodes, by a Service's NodePort
	IPTargets       TargetType = "ip"       // pods, by their own addresses
)

// groupSpec is what a target group should be, worked out from the cluster's
// objects. Two equal specs are the same group.
type groupSpec struct {
	Name     string // as AWS's controller names it; under another name it is another group
	Key      string // namespace/ingress/service:port
	Service  string // namespace/name
	Listener Listener
	Type     TargetType
	TLS      bool          // towards targets, whose certificates nobody checks
	Idle     time.Duration // the load balancer's idle timeout
	Check    checkSpec
	attributes
}

// attributes of a target group, under their names at AWS.
type attributes struct {
	DeregistrationDelay time.Duration // deregistration_delay.timeout_seconds
	SlowStart           time.Duration // slow_start.duration_seconds; 0: none
	LeastOutstanding    bool          // load_balancing.algorithm.type
	CrossZone           bool          // load_balancing.cross_zone.enabled
}

// surroundings is what all groups share.
type surroundings struct {
	log         *slog.Logger
	now         func() time.Time
	propagation time.Duration // how long a change takes to get from the controller to the load balancer
	changed     func()        // told of every change of a target's health
	checker     func(checkSpec, endpoint) func(context.Context) error
	checks      sync.WaitGroup
}

// group is a target group under way.
type group struct {
	*surroundings
	arn  string
	spec atomic.Pointer[groupSpec]

	mu       sync.Mutex
	targets  []*target // registered, in a steady order
	draining []*target // deregistered, and still listed
	turn     int       // index of the target whose turn is next
	retired  bool
}

func newGroup(s *surroundings, spec groupSpec) *group {
	g := &group{surroundings: s}
	g.spec.Store(&spec)
	return g
}

// configure changes the group's settings; its targets keep their health.
func (g *group) configure(ctx context.Context, spec groupSpec) {
	old := *g.spec.Load()
	if old == spec {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spec.Store(&spec)
	for _, t := range g.targets {
		if old.Idle != spec.Idle {
			t.renewTransport(spec)
		}
		if old.Check != spec.Check && t.checking() {
			t.stopChecks()
			g.startChecks(ctx, t, 0)
		}
	}
}

// register makes want the group's targets. Whatever is not among them any more
// is deregistered. Health checks end with ctx.
func (g *group) register(ctx context.Context, want []endpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := map[endpoint]*target{}
	for _, t := range g.targets {
		old[t.endpoint] = t
	}
	next := make([]*target, 0, len(want))
	for _, e := range want {
		t, known := old[e]
		if !known {
			t = g.newTarget(ctx, e)
		} else if t.leaving != nil {
			t.leaving.Stop() // it is back before anybody has noticed
			t.leaving = nil
		}
		delete(old, e)
		next = append(next, t)
	}
	for _, t := range g.targets {
		if old[t.endpoint] != nil {
			next = append(next, t) // until the news has spread
			g.leave(t)
		}
	}
	g.targets = next
}

// leave deregisters t as soon as the news has reached the load balancer. The
// caller holds mu.
func (g *group) leave(t *target) {
	if t.leaving == nil {
		t.leaving = time.AfterFunc(g.propagation, func() { g.deregister(t) })
	}
}

// deregister takes t out of the group: no request goes there from now on, and
// those under way have the deregistration delay to end.
func (g *group) deregister(t *target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := slices.Index(g.targets, t)
	if at < 0 || t.leaving == nil {
		return // back again, or gone already
	}
	t.leaving = nil
	g.targets = slices.Delete(g.targets, at, at+1)
	t.stopChecks()
	if t.state == unused {
		return // nothing ever went there
	}
	delay := g.spec.Load().DeregistrationDelay
	t.set(draining, reasonDeregistering)
	g.draining = append(g.draining, t)
	end := time.AfterFunc(delay, func() { g.end(t) })
	t.drained = end.Stop
	t.settle()
	g.log.Info("target deregistered", "group", g.spec.Load().Key, "target", t.address, "node", t.Node, "underWay", t.busy.Load(), "delay", delay)
	g.changed()
}

// end cuts what is still under way to a target whose deregistration delay is over.
func (g *group) end(t *target) {
	g.mu.Lock()
	g.draining = slices.DeleteFunc(g.draining, func(o *target) bool { return o == t })
	t.set(unused, reasonNotRegistered)
	g.mu.Unlock()
	if n := t.busy.Load(); n > 0 {
		g.log.Warn("requests outlived the deregistration delay and were cut", "group", g.spec.Load().Key, "target", t.address, "requests", n)
	}
	t.cut(errDeregistered)
	t.settle()
}

// retire ends the group's health checks and drops its unused connections. It
// keeps its targets for the requests that were routed to it a moment ago.
func (g *group) retire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retired = true
	for _, t := range g.targets {
		t.stopChecks()
		if t.leaving != nil {
			t.leaving.Stop()
		}
		t.settle()
	}
	for _, t := range g.draining {
		t.drained()
		t.settle()
	}
}

// note takes the result of a health check.
func (g *group) note(t *target, count *tally, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.state == draining || t.state == unused {
		return // a check that ended late
	}
	spec := g.spec.Load()
	was := t.state
	is := count.note(err == nil, was, spec.Check)
	if err != nil || is == healthy {
		t.detail = text(err)
	}
	if is == was && (err == nil || is != unhealthy) {
		return
	}
	why := reasonOf(is, err)
	if is == was && t.why == why {
		return
	}
	t.set(is, why)
	if is != was {
		g.startSlowly(t, spec)
		if is == unhealthy {
			t.transport.Load().CloseIdleConnections() // what comes back is met anew
		}
		g.log.Info("target health", "group", spec.Key, "target", t.address, "node", t.Node, "zone", t.Zone, "health", is.String(), "reason", t.detail)
	}
	g.changed()
}

// startSlowly puts a target that has become healthy into slow start, as long
// as another one is there to carry the rest. The caller holds mu.
func (g *group) startSlowly(t *target, spec *groupSpec) {
	t.slowSince, t.credit = time.Time{}, 0
	if t.state != healthy || spec.SlowStart == 0 {
		return
	}
	now := g.now()
	if slices.ContainsFunc(g.targets, func(o *target) bool { return o != t && o.state == healthy && o.share(now, spec.SlowStart) == 1 }) {
		t.slowSince = now
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
