package steps

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/kube"
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

const (
	replicaPatience = 3 * time.Minute
	replicaLook     = 500 * time.Millisecond
)

func (s *restartReplica) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("restart the database's replica")
	seen, err := s.restart(ctx)
	if err != nil {
		task.Fail(err)
		return err
	}
	if *seen.StreamedAfterMs < 0 {
		// A budget is broken by this, not the environment: the verdict says so.
		task.Fail(fmt.Errorf("it does not stream again within %s", replicaPatience))
	} else {
		task.Done(fmt.Sprintf("it streams again after %d ms", *seen.StreamedAfterMs))
	}
	return s.env.Record.Probe(results.ProbeReplicaRestart, seen)
}

func (s *restartReplica) restart(ctx context.Context) (seen results.ReplicaRestart, err error) {
	pods := s.env.Kube.Clientset.CoreV1().Pods(stack.NamespaceShop)
	old, err := pods.Get(ctx, stack.ReplicaPod, metav1.GetOptions{})
	if err != nil {
		return seen, fmt.Errorf("find the pod of the database's replica: %w", err)
	}
	if seen.ReadBefore, err = probes.ReplicaReaders(ctx, s.replica); err != nil {
		return seen, err
	}
	if err := pods.Delete(ctx, stack.ReplicaPod, metav1.DeleteOptions{}); err != nil {
		return seen, fmt.Errorf("delete the pod of the database's replica: %w", err)
	}
	start := time.Now()
	streamed, err := s.after(ctx, start, func() error {
		pod, err := pods.Get(ctx, stack.ReplicaPod, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && pod.UID == old.UID {
			return errors.New("the new pod is not there yet")
		}
		if err != nil {
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
		again, err = s.after(ctx, start, func() error {
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

// after tries until try succeeds and returns when that was since start, below
// zero when it did not in time. Only the end of ctx is an error.
func (s *restartReplica) after(ctx context.Context, start time.Time, try func() error) (ms int64, err error) {
	for {
		if try() == nil {
			return time.Since(start).Milliseconds(), nil
		}
		if time.Since(start) > replicaPatience {
			return -1, nil
		}
		if err := kube.Sleep(ctx, replicaLook); err != nil {
			return -1, err
		}
	}
}
