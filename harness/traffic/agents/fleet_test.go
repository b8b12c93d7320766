package agents

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// play raises the agents, sends for a while in each of two phases, and stops.
func play(t *testing.T, f *Fleet, r *rig, during func()) {
	t.Helper()
	t.Cleanup(func() { require.NoError(t, f.Remove(context.WithoutCancel(t.Context()))) })
	require.NoError(t, f.Raise(t.Context(), "first"))
	f.Began = time.Now().Add(f.Lead)
	require.NoError(t, f.Change(t.Context(), 1, r.enter("first")))
	during()
	require.NoError(t, f.Change(t.Context(), 2, r.enter("second")))
	time.Sleep(300 * time.Millisecond)
	require.NoError(t, f.Stop(t.Context(), r.enter("second")))
}

// missingIn counts what is missing by agent.
func missingIn(t *testing.T, f *Fleet) map[string]int64 {
	t.Helper()
	all, err := f.Missing()
	require.NoError(t, err)
	by := map[string]int64{}
	for _, m := range all {
		by[m.Agent] += m.Requests
	}
	return by
}

func TestAgentsAndTheOuterSenderTogetherSendTheDeclaredArrivalsExactly(t *testing.T) {
	r := newRig(t)
	f := r.fleet(scenarios.Agents{Name: "load", Count: 3, Share: 0.4, Target: "edge"}, scenarios.Agents{Name: "more", Count: 1, Share: 0.2, Target: "edge"})
	play(t, f, r, func() { time.Sleep(500 * time.Millisecond) })

	whole := f.due(t)
	require.Greater(t, len(whole), 200)
	got := map[uint64]results.Request{}
	for _, q := range r.all {
		require.NotContains(t, got, q.Seq, "nothing is sent twice")
		got[q.Seq] = q
	}
	outer := 0
	shift := int64(f.Began.Sub(f.Begin))
	for _, d := range whole {
		q, sent := got[d.Seq]
		require.Equal(t, f.Outer(d), !sent, "%+v", d)
		if !sent {
			outer++
			continue
		}
		require.Equal(t, shift+int64(d.At), q.Scheduled, "the instant is the schedule's own, on the run's clock")
		require.Equal(t, d.Route, q.Route)
		require.Equal(t, results.OK, q.Outcome, q.Error)
		require.Equal(t, "shop-1", q.Pod)
		require.LessOrEqual(t, q.Scheduled, q.Sent)
		require.LessOrEqual(t, q.Sent, q.Done)
		delete(got, d.Seq)
	}
	require.Empty(t, got, "nothing else is sent")
	require.InDelta(t, 0.4, float64(outer)/float64(len(whole)), 0.15)
	require.Empty(t, missingIn(t, f))
	require.Empty(t, r.warned)
}

func TestTheRecordTellsOfEveryAgentAndItsClock(t *testing.T) {
	r := newRig(t)
	f := r.fleet(scenarios.Agents{Name: "load", Count: 2, Share: 1, Target: "edge"})
	play(t, f, r, func() {})
	groups := f.Groups()
	require.Len(t, groups, 1)
	g := groups[0]
	require.Equal(t, []any{"load", "first", 1.0, "edge"}, []any{g.Name, g.From, g.Share, g.Target})
	require.EqualValues(t, len(r.all), g.Latency.Requests)
	whole := traffic.NewHistogram()
	for _, q := range r.all {
		require.NoError(t, whole.RecordValue(max(q.Latency()/1000, 1)))
	}
	require.Equal(t, time.Duration(whole.ValueAtQuantile(99))*time.Microsecond, g.Latency.P99, "merged histograms are those of the records")
	for i, a := range g.Agents {
		require.Equal(t, []string{"load/0", "load/1"}[i], a.Name)
		require.Equal(t, []string{"node-0", "node-1"}[i], a.Node)
		require.Positive(t, a.Requests)
		require.Empty(t, a.Lost)
		require.Positive(t, a.Begin.Uncertainty)
		// it began within this test, which began a minute after the run
		require.InDelta(t, time.Minute, a.Begin.Offset, float64(30*time.Second))
		require.LessOrEqual(t, a.Begin.WallOffset.Abs(), a.Begin.Uncertainty)
		require.Greater(t, a.End.At, a.Begin.At)
		require.LessOrEqual(t, a.Drift.Abs(), a.Begin.Uncertainty+a.End.Uncertainty, "it is the same clock")
	}
	require.Len(t, f.ClockOffsets(), 2)
}

func TestAnAgentThatIsKilledLeavesWhatItHadAndItsShareIsMissing(t *testing.T) {
	r := newRig(t)
	f := r.fleet(scenarios.Agents{Name: "load", Count: 3, Share: 1, Target: "edge"})
	play(t, f, r, func() {
		time.Sleep(600 * time.Millisecond)
		r.killPod("load-1")
	})
	by := map[string]int64{}
	for _, q := range r.all {
		by[q.Agent]++
	}
	require.Positive(t, by["load/1"], "it leaves what it had")
	require.EqualValues(t, map[string]int64{"load/1": int64(len(f.due(t)) - len(r.all))}, missingIn(t, f))
	all, err := f.Missing()
	require.NoError(t, err)
	require.Equal(t, []string{"first", "second"}, []string{all[0].Phase, all[1].Phase})
	shift := int64(f.Began.Sub(f.Begin))
	require.Greater(t, all[0].From, shift)
	require.Equal(t, "the agent ended with code 137 (OOMKilled)", all[0].Why)
	require.Equal(t, all[0].Why, f.Groups()[0].Agents[1].Lost)
}

func TestConnectionsThatBreakCostNothing(t *testing.T) {
	r := newRig(t)
	n := 4000
	r.cut = func() int { n += 137; return n } // never at the same byte
	f := r.fleet(scenarios.Agents{Name: "load", Count: 2, Share: 1, Target: "edge"})
	play(t, f, r, func() { time.Sleep(300 * time.Millisecond) })
	require.Empty(t, missingIn(t, f))
	require.Len(t, r.all, len(f.due(t)))
	require.Greater(t, len(r.pods["load-0"].conns), 5)
}

func TestAnAgentThatIsNeverReadyIsMissingFromTheBeginOn(t *testing.T) {
	r := newRig(t)
	r.absent[0] = true
	f := r.fleet(scenarios.Agents{Name: "load", Count: 2, Share: 1, Target: "edge"})
	f.Ready = time.Second
	play(t, f, r, func() {})
	require.Equal(t, map[string]int64{"load/0": int64(len(f.due(t)) - len(r.all))}, missingIn(t, f))
	require.Len(t, r.warned, 1)
	require.Contains(t, r.warned[0], "agent load/0: not ready within 1s: pod load-0 is Pending")
}

func TestWhenNoAgentIsReadyThereIsNoRun(t *testing.T) {
	r := newRig(t)
	r.absent[0] = true
	f := r.fleet(scenarios.Agents{Name: "load", Count: 1, Share: 1, Target: "edge"})
	f.Ready = time.Second
	err := f.Raise(t.Context(), "first")
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "no agent was ready within 1s: pod load-0 is Pending")
	require.NoError(t, f.Remove(t.Context()))
	require.Equal(t, 2, r.removed, "what an earlier run left, and what this one did")
}

func TestAnAgentThatDoesNotKnowAChangeInTimeIsLostFromItOn(t *testing.T) {
	r := newRig(t)
	f := r.fleet(scenarios.Agents{Name: "load", Count: 2, Share: 1, Target: "edge"})
	f.Patience = 100 * time.Millisecond
	play(t, f, r, func() {
		time.Sleep(300 * time.Millisecond)
		r.sever("load-0")
	})
	require.Equal(t, map[string]int64{"load/0": int64(len(f.due(t)) - len(r.all))}, missingIn(t, f))
	require.Contains(t, f.Groups()[0].Agents[0].Lost, "not reached for")
}

func TestAPodWithoutTheProxyThatItShouldHaveIsRefused(t *testing.T) {
	r := newRig(t)
	f := r.fleet(scenarios.Agents{Name: "load", Count: 1, Share: 1, Target: "edge", Meshed: true})
	err := f.Raise(t.Context(), "first")
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "pod load-0 has a proxy: false, and should: true")
	require.NoError(t, f.Remove(t.Context()))
}

func TestAGroupBeginsWithItsPhase(t *testing.T) {
	r := newRig(t)
	f := r.fleet(scenarios.Agents{Name: "load", Count: 1, Share: 1, Target: "edge", From: "second"})
	t.Cleanup(func() { require.NoError(t, f.Remove(context.WithoutCancel(t.Context()))) })
	require.NoError(t, f.Raise(t.Context(), "first"))
	f.Began = time.Now().Add(f.Lead)
	require.NoError(t, f.Change(t.Context(), 1, r.enter("first")))
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, f.Raise(t.Context(), "second"))
	require.NoError(t, f.Change(t.Context(), 1, r.enter("second")))
	require.NoError(t, f.Stop(t.Context(), r.enter("second")))
	require.Empty(t, missingIn(t, f))
	second := r.marks[1].at
	before := 0
	for _, d := range f.due(t) {
		if int64(f.Began.Sub(f.Begin))+int64(d.At) < second {
			require.True(t, f.Outer(d), "until then it is the outer sender's")
			before++
		}
	}
	require.Positive(t, before)
	require.Len(t, r.all, len(f.due(t))-before)
	for _, q := range r.all {
		require.GreaterOrEqual(t, q.Scheduled, second)
	}
}

// stock answers how much there is of anything.
type stock struct {
	shopapi.UnimplementedInventoryManagementServer
}

func (stock) GetStock(_ context.Context, q *shopapi.GetStockRequest) (*shopapi.GetStockResponse, error) {
	return &shopapi.GetStockResponse{ProductId: q.GetProductId(), Stock: 7}, nil
}

func TestAgentsCallAServiceDirectlyAtTheirOwnRate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	shopapi.RegisterInventoryManagementServer(server, stock{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	r := newRig(t)
	r.proxy = true
	f := r.fleet()
	o := f.Options
	o.Traffic.Agents = []scenarios.Agents{{Name: "direct", Count: 2, Rate: 100, Target: "inventory-management/GetStock", Meshed: true}}
	o.Service = func(name string) string {
		require.Equal(t, "inventory-management", name)
		return l.Addr().String()
	}
	f, err = New(o)
	require.NoError(t, err)
	play(t, f, r, func() { time.Sleep(200 * time.Millisecond) })
	require.Empty(t, missingIn(t, f))
	require.Greater(t, len(r.all), 60)
	for _, q := range r.all {
		require.Equal(t, []any{"inventory-management/GetStock", "grpc", results.OK}, []any{q.Route, q.Proto, q.Outcome}, q.Error)
	}
	for _, d := range f.due(t) {
		require.True(t, f.Outer(d), "the run's own traffic stays whole")
	}
}

func TestAJobIsIndexedAndBoundToNothing(t *testing.T) {
	r := newRig(t)
	r.proxy = true
	f := r.fleet(scenarios.Agents{Name: "load", Count: 2, Share: 0.5, Target: "edge", Meshed: true, Zone: "eu-central-1a"})
	require.NoError(t, f.Raise(t.Context(), "first"))
	t.Cleanup(func() { require.NoError(t, f.Remove(context.WithoutCancel(t.Context()))) })
	jobs, err := r.api.BatchV1().Jobs(Namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, jobs.Items, 1)
	spec := jobs.Items[0].Spec
	require.Equal(t, []any{int32(2), int32(2), "Indexed"}, []any{*spec.Completions, *spec.Parallelism, string(*spec.CompletionMode)})
	require.Equal(t, "enabled", spec.Template.Annotations["linkerd.io/inject"])
	p := spec.Template.Spec
	require.Equal(t, []string{"load", "eu-central-1a", "Never"}, []string{p.ServiceAccountName, p.NodeSelector["topology.kubernetes.io/zone"], string(p.RestartPolicy)})
	require.Contains(t, p.Containers[0].Args, "--shutdown")
	plan, err := r.api.CoreV1().ConfigMaps(Namespace).Get(t.Context(), "load", metav1.GetOptions{})
	require.NoError(t, err)
	handed := decodePlan(t, plan)
	require.Equal(t, []any{uint64(5000), 0.0, 0.5, 2, []string{"127.0.0.1", "127.0.0.1"}}, []any{handed.Seed, handed.Part.From, handed.Part.To, handed.Part.Of, handed.Hosts})
	roles, err := r.api.RbacV1().RoleBindings(Namespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Empty(t, roles.Items)
}

func TestALedgerTakesEachResultOnceAndOnlyItsOwn(t *testing.T) {
	f := newRig(t).fleet(scenarios.Agents{Name: "load", Count: 3, Share: 1, Target: "edge"})
	l := f.groups[0].ledger
	require.Equal(t, uint64(1), l.lanes)
	require.NoError(t, l.enter(1, results.Request{Seq: 100}))
	require.True(t, l.has(0, 100))
	require.False(t, l.has(0, 101))
	require.False(t, l.has(5, 0))
	require.ErrorContains(t, l.enter(1, results.Request{Seq: 100}), "two results")
	require.ErrorIs(t, l.enter(2, results.Request{Seq: 103}), errNotItsOwn)
	require.ErrorIs(t, l.enter(1, results.Request{Seq: 1 << 40}), errNotItsOwn)
}

func TestAnAgentThatRefusesAChangeIsDroppedAtOnceAndNothingOfItCountsAfterIt(t *testing.T) {
	r := newRig(t)
	f := r.fleet(scenarios.Agents{Name: "load", Count: 2, Share: 1, Target: "edge"})
	play(t, f, r, func() {
		time.Sleep(300 * time.Millisecond)
		m := f.groups[0].members[1]
		// somebody else has told it of another future
		line := wire.Timeline{Join: m.group.joined(), Scales: append(f.scales[:1:1], wire.Scale{At: int64(time.Since(f.Began) + 20*time.Millisecond), Scale: 3})}
		require.NoError(t, m.ask(t.Context(), "PUT", wire.TimelinePath, line, nil))
		time.Sleep(50 * time.Millisecond)
	})
	lost := f.Groups()[0].Agents[1].Lost
	require.Contains(t, lost, "it did not know in time what is to be sent from")
	require.Contains(t, lost, wire.ErrTooLate.Error())
	for _, q := range r.all {
		require.False(t, q.Agent == "load/1" && r.phaseAt(q.Scheduled) == "second", "%+v", q)
	}
	missing, err := f.Missing()
	require.NoError(t, err)
	require.Equal(t, []string{"load/1", "second"}, []string{missing[len(missing)-1].Agent, missing[len(missing)-1].Phase})
	require.NoError(t, <-r.pods["load-1"].ended, "it has left")
	r.pods["load-1"].ended <- nil
}
