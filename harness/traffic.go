package harness

import (
	"context"
	"fmt"

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

// calibrations is how often a sender that is too slow is measured: the cluster's
// pods have just begun, and a moment's load is not what the machine can bear.
const calibrations = 3

// calibrate measures what this machine can send, and refuses a scenario that
// wants more: its latencies would be the sender's.
func (r *rehearsal) calibrate(ctx context.Context) error {
	task := r.Progress.Start("calibrate the sender")
	var warning string
	for tries := 1; ; tries++ {
		c, err := traffic.Calibrate(ctx, r.Scenario.Spec.Traffic)
		if err != nil {
			task.Fail(err)
			return fmt.Errorf("calibrate the sender: %w", err)
		}
		c.Wanted = r.Scenario.HighestRate()
		r.run.Calibration = &c
		if warning, err = traffic.CheckFit(c, c.Wanted); err == nil {
			break
		}
		if tries == calibrations {
			task.Fail(err)
			return err
		}
		task.Detail("%.0f requests a second held, %.0f wanted: once more", c.Held, c.Wanted)
	}
	c := r.run.Calibration
	task.Done(fmt.Sprintf("%.0f requests a second held, %.0f wanted at most", c.Held, c.Wanted))
	if warning != "" {
		r.run.Notes = append(r.run.Notes, warning)
		r.record.Warn("the sender is near its limit", warning)
	}
	return nil
}
