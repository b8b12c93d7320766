package steps

import (
	"context"
	"fmt"
)

const shopNamespace = "prod-app"

// enforce sets the default inbound policy of every service that has a proxy.
// The mesh reads it when a pod is created (failure mode P2), so each service
// is rolled again.
type enforce struct {
	policy string
	env    *Env
}

func (s *enforce) Execute(ctx context.Context) error {
	services := s.env.Rollout.Injected()
	for i, name := range services {
		task := s.env.Progress.Start(fmt.Sprintf("enforce %s on %s (%d of %d)", s.policy, name, i+1, len(services)))
		err := s.env.Rollout.change(ctx, s.env, name, func(state *serviceState) { state.InboundPolicy = s.policy })
		if err != nil {
			task.Fail(err)
			return err
		}
		task.Done("")
		s.env.Record.Note("enforced " + s.policy + " on " + name)
	}
	return nil
}
