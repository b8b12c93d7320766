package steps

import (
	"context"
	"fmt"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/harness/probes"
)

// awaitAuthenticated waits until a whole traffic cycle lies behind in which the
// proxies saw no call between services without mTLS. Enforcing earlier denies
// whoever still calls in plaintext (failure mode P1). What has passed of the cycle
// since the last service was rolled counts.
type awaitAuthenticated struct {
	cycle time.Duration
	env   *Env
	prom  probes.Prometheus
}

const (
	// patience is how many cycles may pass before the step gives up.
	patience = 4
	// looks is how often a cycle the calls are counted, once they may be enough.
	looks = 10
)

func (s *awaitAuthenticated) Execute(ctx context.Context) error {
	task := s.env.Progress.Start("wait for a full cycle without unauthenticated calls")
	begun := time.Now()
	if err := pause.For(ctx, s.cycle-begun.Sub(s.env.Rollout.rolled)); err != nil {
		task.Fail(err)
		return err
	}
	for {
		seen, err := probes.MTLS(ctx, s.prom, "", s.cycle)
		if err != nil {
			task.Fail(err)
			return err
		}
		if seen.TLS > 0 && seen.Plain == 0 {
			task.Done(fmt.Sprintf("%d calls in %s, all mTLS", seen.TLS, s.cycle))
			return nil
		}
		last := fmt.Sprintf("%d calls with mTLS, %d without (%v)", seen.TLS, seen.Plain, seen.ByReason)
		if time.Since(begun) >= patience*s.cycle {
			err := fmt.Errorf("after %d cycles of %s calls still come without mTLS: %s", patience, s.cycle, last)
			task.Fail(err)
			return err
		}
		task.Detail("%s", last)
		if err := pause.For(ctx, s.cycle/looks); err != nil {
			task.Fail(err)
			return err
		}
	}
}
