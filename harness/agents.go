package harness

import (
	"context"
	"fmt"
	"time"

	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

const (
	shopNamespace = "prod-app"
	servicePort   = 9090 // on which the shop's services call each other
)

// startAgents begins the traffic of the sender on this machine and, where the
// scenario has agents, raises those that begin with the first phase.
func (r *rehearsal) startAgents(ctx context.Context, o traffic.Options) (*traffic.Stream, error) {
	spec := r.Scenario.Spec
	if len(spec.Traffic.Agents) == 0 {
		return traffic.Start(ctx, o)
	}
	image, err := r.stack.Images.Image("agent")
	if err != nil {
		return nil, err
	}
	var stream *traffic.Stream
	r.fleet, err = agents.New(agents.Options{
		Cluster: agents.Cluster{Clientset: r.kube.Clientset, Dial: r.kube.Dial, RemoveNamespace: r.kube.RemoveNamespace},
		Traffic: spec.Traffic, Seed: spec.Seed, Phase: spec.Phases[0].Name, Run: r.run.ID, Image: image.Ref,
		HTTP: r.Cluster.PodHTTP(), GRPC: r.Cluster.PodGRPC(),
		Service: func(name string) string { return fmt.Sprintf("%s.%s.svc:%d", name, shopNamespace, servicePort) },
		Begin:   o.Begin, PhaseAt: o.PhaseAt,
		Sink: func(q results.Request) { stream.Take(q) },
		Warn: r.record.Warn, Log: r.Log,
	})
	if err != nil {
		return nil, err
	}
	if err := r.raiseAgents(ctx, spec.Phases[0].Name); err != nil {
		return nil, err
	}
	// the schedule begins with the first phase, which all are told of before
	o.Began = time.Now().Add(r.fleet.Lead + time.Second)
	o.Mine, r.fleet.Began = r.fleet.Outer, o.Began
	stream, err = traffic.Start(ctx, o)
	return stream, err
}

// raiseAgents brings up the agents that begin with a phase, before it begins.
func (r *rehearsal) raiseAgents(ctx context.Context, phase string) error {
	if r.fleet == nil {
		return nil
	}
	task := r.Progress.Start("agents of " + phase)
	if err := r.fleet.Raise(ctx, phase); err != nil {
		task.Fail(err)
		return err
	}
	task.Done("")
	return nil
}

// enter begins a phase, for all senders at the same instant.
func (r *rehearsal) enter(ctx context.Context, phase scenarios.Phase) error {
	if r.fleet == nil {
		r.record.enter(phase.Name, phase.Scale)
		return nil
	}
	var begins int64
	err := r.fleet.Change(ctx, phase.Scale, func(at int64) {
		begins = at
		r.record.foresee(at, phase.Name, phase.Scale)
	})
	if err != nil {
		return err
	}
	r.record.begun(begins, phase.Name)
	return nil
}

// stopAgents ends the traffic for all senders at the same instant, and writes
// down what agents were to send and have no result of.
func (r *rehearsal) stopAgents(ctx context.Context) error {
	if r.fleet == nil {
		return nil
	}
	phase := r.record.PhaseAt(r.record.now()) // the last, unless the run ends early
	if err := r.fleet.Stop(ctx, func(at int64) { r.record.foresee(at, phase, 0) }); err != nil {
		return fmt.Errorf("stop the agents: %w", err)
	}
	missing, err := r.fleet.Missing()
	if err != nil {
		return err
	}
	for _, m := range missing {
		r.record.Warn("agent "+m.Agent, fmt.Sprintf("%d requests of phase %s have no result: %s", m.Requests, m.Phase, m.Why))
	}
	r.run.Missing, r.run.ClockOffsets = missing, r.fleet.ClockOffsets()
	return nil
}
