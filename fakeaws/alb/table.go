package alb

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
)

// desired is the whole load balancer as the cluster's objects describe it.
type desired struct {
	rules  map[Listener][]rule
	groups []groupSpec
	nodes  []node // every node fit to be a target, in a steady order
}

// table is what requests are routed by, and the owner of the health checks.
type table struct {
	log    *slog.Logger
	live   atomic.Pointer[routes]
	mu     sync.Mutex // one apply at a time
	checks sync.WaitGroup
}

// routes is one state of the table; rules and groups change together, so that
// no request meets a rule whose group is gone.
type routes struct {
	rules  map[Listener][]rule
	groups map[string]*group // by key
}

func newTable(log *slog.Logger) *table {
	t := &table{log: log}
	t.live.Store(&routes{})
	return t
}

// apply brings the table to want. Targets that stay keep their health, and a
// request under way to one that goes is not disturbed. Health checks end with ctx.
func (t *table) apply(ctx context.Context, want desired) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.live.Load().groups
	next := make(map[string]*group, len(want.groups))
	for _, spec := range want.groups {
		g, ok := old[spec.Key]
		if !ok || g.spec != spec {
			g = newGroup(spec)
		}
		t.retarget(ctx, g, want.nodes)
		next[spec.Key] = g
	}
	t.live.Store(&routes{rules: want.rules, groups: next})
	for key, g := range old {
		if next[key] != g {
			t.retire(g)
		}
	}
}

// retire ends a group's health checks. It keeps its targets for the requests
// that were routed to it a moment ago.
func (t *table) retire(g *group) {
	for _, tg := range *g.targets.Load() {
		tg.stop()
	}
	t.log.Info("target group removed", "group", g.spec.Key)
}

// retarget gives g the wanted nodes as its targets.
func (t *table) retarget(ctx context.Context, g *group, want []node) {
	old := map[node]*target{}
	for _, tg := range *g.targets.Load() {
		old[tg.node] = tg
	}
	targets := make([]*target, 0, len(want))
	for _, n := range want {
		tg, ok := old[n]
		delete(old, n)
		if !ok {
			tg = newTarget(n, g.spec.NodePort)
			t.startChecks(ctx, g, tg)
			t.log.Info("target registered", "group", g.spec.Key, "node", n.Name, "address", tg.address)
		}
		targets = append(targets, tg)
	}
	g.targets.Store(&targets)
	for _, tg := range old {
		tg.stop()
		t.log.Info("target deregistered", "group", g.spec.Key, "node", tg.node.Name, "address", tg.address)
	}
}

func (t *table) startChecks(ctx context.Context, g *group, tg *target) {
	ctx, cancel := context.WithCancel(ctx)
	tg.stop = cancel
	t.checks.Go(func() {
		defer cancel()
		tg.watch(ctx, g.spec.Check, func(tg *target, is health, err error) {
			t.log.Info("target health", "group", g.spec.Key, "node", tg.node.Name, "health", is.String(), "reason", reason(err))
		})
	})
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// route finds the group for a request; nil when no rule takes it.
func (t *table) route(l Listener, host, path string) *group {
	now := t.live.Load()
	if r := match(now.rules[l], host, path); r != nil {
		return now.groups[r.group]
	}
	return nil
}

// wait blocks until every health check has ended.
func (t *table) wait() { t.checks.Wait() }
