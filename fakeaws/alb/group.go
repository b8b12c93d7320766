package alb

import (
	"net"
	"strconv"
	"sync/atomic"
)

// groupSpec is what a target group should be, worked out from the cluster's
// objects. Two equal specs are the same group.
type groupSpec struct {
	Key      string // namespace/service:port/listener
	Listener Listener
	NodePort int32
	Check    checkSpec
}

// node is a machine that may be a target.
type node struct {
	Name string
	IP   string
}

// health of a target.
type health int32

const (
	initial health = iota
	healthy
	unhealthy
)

func (h health) String() string {
	return [...]string{"initial", "healthy", "unhealthy"}[h]
}

// target is one node's NodePort.
type target struct {
	node    node
	address string // host:port that requests go to
	state   atomic.Int32
	reason  atomic.Value // string: why it is not healthy
	stop    func()       // ends its health checks
}

func newTarget(n node, port int32) *target {
	t := &target{node: n, address: net.JoinHostPort(n.IP, strconv.Itoa(int(port))), stop: func() {}}
	t.reason.Store("not checked yet")
	return t
}

func (t *target) health() health { return health(t.state.Load()) }

// group is a target group under way. Its targets change as a whole.
type group struct {
	spec    groupSpec
	targets atomic.Pointer[[]*target]
	next    atomic.Uint64
}

func newGroup(spec groupSpec) *group {
	g := &group{spec: spec}
	g.targets.Store(&[]*target{})
	return g
}

// pick takes the next healthy target in turn. When none is healthy it takes
// any: a load balancer that sees nobody healthy fails open, as AWS's does. It
// returns nil when there are no targets at all.
func (g *group) pick() *target {
	all := *g.targets.Load()
	if len(all) == 0 {
		return nil
	}
	turn := int(g.next.Add(1) % uint64(len(all)))
	for i := range all {
		if t := all[(turn+i)%len(all)]; t.health() == healthy {
			return t
		}
	}
	return all[turn]
}
