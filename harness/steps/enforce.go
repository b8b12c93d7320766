package steps

import (
	"context"
	"fmt"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/scenarios"
)

const shopNamespace = "prod-app"

// enforce sets the default inbound policy of every service that has a proxy.
// The mesh reads it when a pod is created (failure mode P2), so each service
// is rolled again. Policies by which only declared callers get in come last, and
// are in force at once.
type enforce struct {
	options *scenarios.Enforce
	env     *Env
}

func (s *enforce) Execute(ctx context.Context) error {
	services := s.env.Rollout.Injected()
	policy := s.options.Policy
	for i, name := range services {
		task := s.env.Progress.Start(fmt.Sprintf("enforce %s on %s (%d of %d)", policy, name, i+1, len(services)))
		err := s.env.Rollout.change(ctx, s.env, name, func(state *serviceState) { state.InboundPolicy = policy })
		if err != nil {
			task.Fail(err)
			return err
		}
		task.Done("")
		s.env.Record.Note("enforced " + policy + " on " + name)
	}
	if s.options.Callers != scenarios.CallersDeclared {
		return nil
	}
	s.env.Rollout.declared = true
	task := s.env.Progress.Start("let in declared callers only")
	if err := stack.AdmitDeclared(ctx, s.env.Rollout.env(s.env)); err != nil {
		task.Fail(err)
		return err
	}
	task.Done("")
	s.env.Record.Note("only declared callers are let in")
	return nil
}
