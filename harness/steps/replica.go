package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/results"
)

// restartReplica deletes the pod of the database's replica and watches it follow
// its primary again, and the shop read from it again. Meanwhile the shop should
// read from the primary, and nobody notice.
type restartReplica struct {
	env     *Env
	replica probes.Database
}

func newRestartReplica(env *Env) *restartReplica {
	s := &restartReplica{env: env}
	if env.Kube != nil {
		s.replica = probes.PSQL{Exec: env.Kube.Exec, Replica: true}
	}
	return s
}

func (s *restartReplica) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("restart the database's replica")
	seen, err := s.restart(ctx)
	if err != nil {
		task.Fail(err)
		return err
	}
	if *seen.StreamedAfterMs < 0 {
		// A budget is broken by this, not the environment: the verdict says so.
		task.Fail(fmt.Errorf("it does not stream again within %s", restartPatience))
	} else {
		task.Done(fmt.Sprintf("it streams again after %d ms", *seen.StreamedAfterMs))
	}
	return s.env.Record.Probe(results.ProbeReplicaRestart, seen)
}

func (s *restartReplica) restart(ctx context.Context) (seen results.ReplicaRestart, err error) {
	if seen.ReadBefore, err = probes.ReplicaReaders(ctx, s.replica); err != nil {
		return seen, err
	}
	back, err := restartPod(ctx, s.env.Kube.Clientset.CoreV1().Pods(stack.NamespaceShop), stack.ReplicaPod, "the pod of the database's replica")
	if err != nil {
		return seen, err
	}
	start := time.Now()
	streamed, err := after(ctx, start, func() error {
		if err := back(); err != nil {
			return err
		}
		return probes.ReplicaStreams(ctx, s.replica)
	})
	if err != nil {
		return seen, fmt.Errorf("wait for the replica to stream again: %w", err)
	}
	seen.StreamedAfterMs, seen.ReadAgain = &streamed, []string{}
	again := int64(-1)
	if streamed >= 0 {
		again, err = after(ctx, start, func() error {
			readers, err := probes.ReplicaReaders(ctx, s.replica)
			if err == nil && len(readers) == 0 {
				err = errors.New("nobody reads from it")
			}
			seen.ReadAgain = readers
			return err
		})
		if err != nil {
			return seen, fmt.Errorf("wait for the shop to read from the replica again: %w", err)
		}
	}
	seen.ReadAgainAfterMs = &again
	return seen, nil
}
