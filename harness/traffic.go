package harness

import (
	"context"

	"meshsim.dev/meshsim/harness/traffic"
)

// startTraffic begins the launch day at the load balancer, less what agents
// send. Its scale follows the phase that the recorder is in.
func (r *rehearsal) startTraffic(ctx context.Context) (*traffic.Stream, error) {
	o := traffic.Options{
		Traffic: r.Scenario.Spec.Traffic, Seed: r.Scenario.Spec.Seed,
		HTTP: r.Cluster.HTTP, GRPC: r.Cluster.GRPC,
		Begin: r.record.begin, PhaseAt: r.record.PhaseAt, ScaleAt: r.record.ScaleAt, Sink: r.record.request,
	}
	return r.startAgents(ctx, o)
}
