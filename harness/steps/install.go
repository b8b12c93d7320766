package steps

import (
	"context"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/scenarios"
)

// install puts one component of the stack on the cluster and waits for it.
type install struct {
	component stack.Component
	options   *scenarios.Install
	env       *Env
}

func newInstall(o *scenarios.Install, env *Env) (*install, error) {
	c, err := stack.ByName(o.Component)
	if err != nil {
		return nil, err
	}
	return &install{component: c, options: o, env: env}, nil
}

func (s *install) Execute(ctx context.Context) error {
	if s.component.Name() == "mesh" {
		s.env.Stack.HA = s.options.HA // an upgrade keeps the form
	}
	if err := s.component.Install(ctx, s.env.Stack); err != nil {
		return err
	}
	if err := s.component.Ready(ctx, s.env.Stack); err != nil {
		return err
	}
	if s.component.Name() != "mesh" {
		return nil
	}
	return CheckMesh(ctx, s.env, "after install mesh", false)
}

func (s *install) Undo(ctx context.Context) error { return s.component.Remove(ctx, s.env.Stack) }
