package steps

import (
	"context"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/scenarios"
)

// install puts one component of the stack on the cluster and waits for it.
type install struct {
	component stack.Component
	env       *Env
}

func newInstall(o *scenarios.Install, env *Env) (*install, error) {
	c, err := stack.ByName(o.Component)
	if err != nil {
		return nil, err
	}
	return &install{component: c, env: env}, nil
}

func (s *install) Execute(ctx context.Context) error {
	if err := s.component.Install(ctx, s.env.Stack); err != nil {
		return err
	}
	return s.component.Ready(ctx, s.env.Stack)
}

func (s *install) Undo(ctx context.Context) error { return s.component.Remove(ctx, s.env.Stack) }
