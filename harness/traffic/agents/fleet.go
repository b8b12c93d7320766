// Package agents sends a scenario's traffic from inside the cluster: each group
// of agents is an indexed Job whose pods run the same senders as this machine
// does. The harness hands over a plan, begins all at one instant, takes their
// results as they come, and knows which of the arrivals that a lost agent was
// to send have none.
//
// All that it needs of a cluster is its API server: agents are spoken to over
// forwarded ports, and listen on their pods' loopback only.
package agents

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// Cluster is where agents run.
type Cluster struct {
	Clientset kubernetes.Interface
	// Dial connects to a port of a pod through the API server.
	Dial func(ctx context.Context, namespace, pod string, port int) (net.Conn, error)
	// RemoveNamespace removes a namespace and returns when it has gone.
	RemoveNamespace func(ctx context.Context, name string) error
}

// Options say what agents are to send. All but the durations are needed.
type Options struct {
	Cluster Cluster
	Traffic scenarios.Traffic
	Seed    uint64
	Phase   string                          // the first, with which groups begin that name none
	Run     string                          // the run's id
	Image   string                          // of the agent
	HTTP    string                          // host:port of the load balancer's REST side, as pods reach it
	GRPC    string                          // and of its gRPC side
	Service func(name string) (addr string) // host:port that services call each other at

	Begin time.Time // the run's start
	// PhaseAt names the phase in force at an instant of the run.
	PhaseAt func(at int64) string
	// Sink takes every result as it comes, from several goroutines, without its phase.
	Sink func(results.Request)
	Warn func(what, detail string)
	Log  *slog.Logger

	// Ready is how long agents may take to begin (3 min), Patience how long one
	// may be out of reach (1 min), Silence how long a stream may say nothing
	// (15 s), Lead how long before its instant a change is told (2 s), Poll the
	// pause between two looks (500 ms).
	Ready, Patience, Silence, Lead, Poll time.Duration
}

// Fleet is all agents of a run. Its methods are called by one goroutine, Outer
// by any.
type Fleet struct {
	Options
	// Began is the schedule's zero, after Begin. It is set before the first
	// Change, and may then be ahead.
	Began  time.Time
	groups []*group
	scales []wire.Scale // from the schedule's zero
	raised bool         // the namespace is there, or may be
	ended  int64        // the schedule's end, 0 before
	joined atomic.Pointer[[]joined]
}

// group is the agents of one name.
type group struct {
	scenarios.Agents
	plan    wire.Plan
	traffic scenarios.Traffic // that its schedule is drawn from
	from    string            // the phase with which it begins
	members []*member

	join   atomic.Int64 // from the schedule's zero, -1 before it is known
	mu     sync.Mutex
	ledger *ledger
}

func (g *group) joined() int64 { return g.join.Load() }

func (g *group) enter(index int, r results.Request) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ledger.enter(index, r)
}

// joined is a share of the run's own traffic that is a group's from an instant on.
type joined struct {
	at   time.Duration
	part wire.Part
}

// New prepares the agents of a scenario. Nothing is raised yet.
func New(o Options) (*Fleet, error) {
	for _, d := range []struct {
		of       *time.Duration
		standard time.Duration
	}{{&o.Ready, 3 * time.Minute}, {&o.Patience, time.Minute}, {&o.Silence, 15 * time.Second}, {&o.Lead, 2 * time.Second}, {&o.Poll, 500 * time.Millisecond}} {
		if *d.of == 0 {
			*d.of = d.standard
		}
	}
	f := &Fleet{Options: o}
	f.joined.Store(&[]joined{})
	for i, part := range wire.Parts(o.Traffic.Agents) {
		g, err := f.newGroup(o.Traffic.Agents[i], part)
		if err != nil {
			return nil, fmt.Errorf("agents %s: %w", o.Traffic.Agents[i].Name, err)
		}
		f.groups = append(f.groups, g)
	}
	return f, nil
}

func (f *Fleet) newGroup(a scenarios.Agents, part wire.Part) (*group, error) {
	g := &group{Agents: a, from: a.From}
	if g.from == "" {
		g.from = f.Phase
	}
	g.join.Store(-1)
	g.plan = wire.Plan{
		Version: wire.Version, Run: f.Run, Group: a.Name, Seed: f.Seed, Part: part,
		Traffic: wire.TrafficOf(f.Traffic, a), HTTP: f.HTTP, GRPC: f.GRPC,
	}
	if a.Share == 0 {
		g.plan.Seed = seedOf(f.Seed, a.Name)
	}
	if a.Direct() {
		route, _ := scenarios.FindRoute(a.Target)
		g.plan.HTTP, g.plan.GRPC = "", f.Service(route.Service)
	}
	for _, addr := range []string{g.plan.HTTP, g.plan.GRPC} {
		if addr == "" {
			continue
		}
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("address %q: %w", addr, err)
		}
		g.plan.Hosts = append(g.plan.Hosts, host)
	}
	var err error
	if g.traffic, err = g.plan.Traffic.Scenario(); err != nil {
		return nil, err
	}
	lanes, err := traffic.Lanes(traffic.Options{Traffic: g.traffic})
	if err != nil {
		return nil, err
	}
	g.ledger = newLedger(g.plan.Seed, lanes, part)
	for index := range a.Count {
		g.members = append(g.members, newMember(g, index))
	}
	return g, nil
}

// seedOf is the seed of a group with a schedule of its own.
func seedOf(seed uint64, name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // a hash takes everything
	return seed ^ h.Sum64()
}

// Outer tells whether an arrival of the run's own traffic is left to the sender
// outside the cluster.
func (f *Fleet) Outer(d traffic.Due) bool {
	for _, j := range *f.joined.Load() {
		if d.At >= j.at && j.part.Covers(f.Seed, d.Lane, d.Number) {
			return false
		}
	}
	return true
}

// all returns the members of all groups that keep accepts.
func (f *Fleet) all(keep func(*member) bool) []*member {
	var some []*member
	for _, g := range f.groups {
		for _, m := range g.members {
			if keep(m) {
				some = append(some, m)
			}
		}
	}
	return some
}

// each calls fn for members at the same time and waits for all.
func each(members []*member, fn func(*member)) {
	var all sync.WaitGroup
	for _, m := range members {
		all.Go(func() { fn(m) })
	}
	all.Wait()
}

// Change puts another scale in force at one instant for everybody, and has the
// groups that were raised begin with it. known is told the instant (of the run)
// before anyone else; Change returns when it has come. The instant lies so far
// ahead that all can know it before; an agent that does not is lost from it on.
func (f *Fleet) Change(ctx context.Context, scale float64, known func(at int64)) error {
	live := f.all((*member).live)
	each(live, func(m *member) { // one that is away for a moment would learn of it too late
		reach, cancel := context.WithTimeout(ctx, f.Patience)
		defer cancel()
		if err := m.insist(reach, "GET", wire.ClockPath, nil); err != nil && ctx.Err() == nil {
			f.drop(ctx, m, fmt.Sprintf("not reached for %s: %v", f.Patience, err))
		}
	})
	// on the grain, so that the change is whole: no arrival before it is of the
	// new scale, none after it of the old one
	at := max(time.Since(f.Began)+f.Lead+traffic.Grain-1, 0).Truncate(traffic.Grain)
	f.scales = append(f.scales, wire.Scale{At: int64(at), Scale: scale})
	f.letJoin(at)
	known(int64(f.Began.Add(at).Sub(f.Begin)))
	telling, cancel := context.WithDeadline(ctx, f.Began.Add(at))
	defer cancel()
	each(f.all((*member).live), func(m *member) {
		m.until.Store(int64(at))
		if err := f.tell(ctx, telling, m); err == nil {
			m.until.Store(math.MaxInt64)
		} else if ctx.Err() == nil {
			f.drop(ctx, m, fmt.Sprintf("it did not know in time what is to be sent from %.1f s on: %v", f.Began.Add(at).Sub(f.Begin).Seconds(), err))
		}
	})
	return pause.For(ctx, time.Until(f.Began.Add(at)))
}

// letJoin has the groups that were raised begin at an instant of the schedule.
func (f *Fleet) letJoin(at time.Duration) {
	shares := append([]joined{}, *f.joined.Load()...)
	for _, g := range f.groups {
		if g.joined() >= 0 || !g.isRaised() {
			continue
		}
		g.join.Store(int64(at))
		if g.Share > 0 {
			shares = append(shares, joined{at, g.plan.Part})
		}
	}
	f.joined.Store(&shares)
}

// drop takes nothing more from an agent, and tells it to go; one that does not
// hear it goes when nobody asks it any more.
func (f *Fleet) drop(ctx context.Context, m *member, why string) {
	m.lose("%s", why)
	if m.unfollow != nil {
		m.unfollow()
		m.following.Wait()
	}
	going, cancel := context.WithTimeout(ctx, f.Lead)
	defer cancel()
	if err := m.ask(going, "POST", wire.LeavePath, nil, nil); err != nil {
		f.Log.Debug("a lost agent does not leave", "agent", m.name(), "error", err)
	}
}

// tell brings the timeline to an agent, and begins its schedule the first time.
func (f *Fleet) tell(ctx, telling context.Context, m *member) error {
	line := wire.Timeline{Join: m.group.joined(), Scales: f.scales}
	if m.started {
		return m.insist(telling, "PUT", wire.TimelinePath, line)
	}
	zero := f.Began.Sub(f.Begin) - m.begin.Offset
	if err := m.insist(telling, "POST", wire.StartPath, wire.Start{Zero: int64(zero), Timeline: line}); err != nil {
		return err
	}
	m.started = true
	following, stop := context.WithCancel(ctx)
	m.unfollow = stop
	m.following.Go(func() { f.follow(following, m) })
	return nil
}

// Stop ends the traffic of all senders at one instant and returns when every
// agent's results are in, or the agent is lost. known is as of Change.
func (f *Fleet) Stop(ctx context.Context, known func(at int64)) error {
	err := f.Change(ctx, 0, func(at int64) {
		f.ended = at - int64(f.Began.Sub(f.Begin))
		known(at)
	})
	if err != nil {
		return err
	}
	// what is still permitted to leave is not cut off
	if err := pause.For(ctx, f.Traffic.MaxLate); err != nil {
		return err
	}
	patience := f.Traffic.Timeout + f.Patience
	each(f.all(func(m *member) bool { return m.started }), func(m *member) {
		ending, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if m.live() {
			if err := m.insist(ending, "POST", wire.StopPath, nil); err != nil {
				f.Log.Debug("an agent does not stop", "agent", m.name(), "error", err)
			}
		}
		f.awaitEnd(ending, m)
		if m.why() == "" {
			f.part(ending, m)
		}
	})
	return context.Cause(ctx)
}

// awaitEnd waits until an agent's stream has ended, and gives it up with ctx.
func (f *Fleet) awaitEnd(ctx context.Context, m *member) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.following.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		m.lose("its last results did not come")
		m.unfollow()
		<-ended
	}
}

// part looks at an agent's clock once more and lets it go.
func (f *Fleet) part(ctx context.Context, m *member) {
	end, err := measureClock(ctx, f.Begin, m.clock)
	if err != nil {
		f.Warn("agent "+m.name(), fmt.Sprintf("its clock was not compared in the end: %v", err))
	} else {
		m.end = &end
	}
	if err := m.ask(ctx, "POST", wire.LeavePath, nil, nil); err != nil {
		f.Log.Debug("an agent does not leave", "agent", m.name(), "error", err)
	}
}

// Remove takes all agents and what belongs to them away, wherever they are. It
// may be called again.
func (f *Fleet) Remove(ctx context.Context) error {
	for _, m := range f.all(func(*member) bool { return true }) {
		if m.unfollow != nil {
			m.unfollow()
		}
		m.following.Wait()
		m.close()
	}
	if !f.raised {
		return nil
	}
	if err := f.Cluster.RemoveNamespace(ctx, Namespace); err != nil {
		return fmt.Errorf("remove the agents: %w", err)
	}
	f.raised = false
	return nil
}
