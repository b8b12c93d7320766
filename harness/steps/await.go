package steps

import (
	"context"
	"fmt"
	"time"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/harness/probes"
)

// awaitAuthenticated waits until a whole traffic cycle has passed in which the
// proxies saw no call between services without mTLS. Enforcing earlier denies
// whoever still calls in plaintext (failure mode P1).
type awaitAuthenticated struct {
	cycle time.Duration
	env   *Env
}

// patience is how many cycles may pass before the step gives up.
const patience = 4

func (s *awaitAuthenticated) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("wait for a full cycle without unauthenticated calls")
	var last string
	for range patience {
		if err := kube.Sleep(ctx, s.cycle); err != nil {
			task.Fail(err)
			return err
		}
		seen, err := probes.MTLS(ctx, s.env.Kube, "", s.cycle)
		if err != nil {
			task.Fail(err)
			return err
		}
		if seen.TLS > 0 && seen.Plain == 0 {
			task.Done(fmt.Sprintf("%d calls, all mTLS", seen.TLS))
			return nil
		}
		last = fmt.Sprintf("%d calls with mTLS, %d without (%v)", seen.TLS, seen.Plain, seen.ByReason)
		task.Detail("%s", last)
	}
	err := fmt.Errorf("after %d cycles of %s calls still come without mTLS: %s", patience, s.cycle, last)
	task.Fail(err)
	return err
}
