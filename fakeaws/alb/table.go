package alb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// desired is the whole load balancer as the cluster's objects describe it.
type desired struct {
	rules  map[Listener][]rule
	groups []desiredGroup
	zones  []string // in which the load balancer has a node; sorted
	settings
}

// desiredGroup is a target group and what should be registered in it.
type desiredGroup struct {
	spec      groupSpec
	endpoints []endpoint // sorted by address
}

// settings of the load balancer itself, under their names at AWS.
type settings struct {
	Idle      time.Duration // idle_timeout.timeout_seconds
	KeepAlive time.Duration // client_keep_alive.seconds
}

var defaultSettings = settings{Idle: time.Minute, KeepAlive: time.Hour}

// table is what requests are routed by, and the owner of the target groups.
type table struct {
	surroundings
	owner owner
	news  chan struct{} // holds one while a change has not been looked at
	live  atomic.Pointer[routes]
	mu    sync.Mutex // one apply at a time
	zone  atomic.Uint64
}

// owner is whose the load balancer is, for its ARNs.
type owner struct{ name, region, account string }

// routes is one state of the table; rules and groups change together, so that
// no request meets a rule whose group is gone.
type routes struct {
	rules  map[Listener][]rule
	groups map[string]*group // by name
	zones  []string
	settings
}

func newTable(o owner, propagation time.Duration, log *slog.Logger) *table {
	news := make(chan struct{}, 1)
	t := &table{owner: o, news: news, surroundings: surroundings{
		log: log, now: time.Now, propagation: propagation,
		changed: func() {
			select {
			case news <- struct{}{}:
			default: // told already
			}
		},
		checker: func(spec checkSpec, e endpoint) func(context.Context) error { return newChecker(spec, e).check },
	}}
	t.live.Store(&routes{settings: defaultSettings})
	return t
}

// apply brings the table to want. Targets that stay keep their health, and a
// request under way to one that goes is not disturbed. Health checks end with ctx.
func (t *table) apply(ctx context.Context, want desired) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.live.Load().groups
	next := make(map[string]*group, len(want.groups))
	for _, w := range want.groups {
		g, ok := old[w.spec.Name]
		if !ok {
			g = newGroup(&t.surroundings, w.spec)
			g.arn = t.owner.groupARN(w.spec.Name)
		}
		g.configure(ctx, w.spec)
		g.register(ctx, w.endpoints)
		next[w.spec.Name] = g
	}
	t.live.Store(&routes{rules: want.rules, groups: next, zones: want.zones, settings: want.settings})
	for name, g := range old {
		if next[name] != g {
			g.retire()
			t.log.Info("target group removed", "group", g.spec.Load().Key)
		}
	}
	t.changed()
}

// route finds the rule for a request and its group; nil when no rule takes it.
func (t *table) route(l Listener, host, path string) (*rule, *group) {
	now := t.live.Load()
	if r := match(now.rules[l], host, path); r != nil {
		return r, now.groups[r.group]
	}
	return nil, nil
}

// entryZone is the zone whose node of the load balancer gets the next
// connection. They take turns; one whose targets are all unhealthy, where they
// alone may be used, is out of the DNS.
func (t *table) entryZone() string {
	now := t.live.Load()
	if len(now.zones) == 0 {
		return ""
	}
	turn := t.zone.Add(1)
	for i := range uint64(len(now.zones)) {
		if zone := now.zones[(turn+i)%uint64(len(now.zones))]; now.serve(zone) {
			return zone
		}
	}
	return now.zones[turn%uint64(len(now.zones))]
}

func (r *routes) serve(zone string) bool {
	for _, g := range r.groups {
		if !g.serves(zone) {
			return false
		}
	}
	return true
}

// wait ends every group and blocks until no health check is left. The context
// of apply has ended by then.
func (t *table) wait() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.live.Load().groups {
		g.retire()
	}
	t.checks.Wait()
}

// balancer is the load balancer's resource ID.
func (o owner) balancer() string {
	return fmt.Sprintf("app/%s/%s", o.name, hash(16, o.region, o.account, o.name))
}

func (o owner) groupARN(name string) string {
	return fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:targetgroup/%s/%s", o.region, o.account, name, hash(16, o.region, o.account, name))
}

// hash is the beginning of a hash of what is given, in hexadecimal digits.
func hash(digits int, of ...string) string {
	h := sha256.New()
	for _, s := range of {
		_, _ = fmt.Fprintf(h, "%s\x00", s)
	}
	return hex.EncodeToString(h.Sum(nil))[:digits]
}
