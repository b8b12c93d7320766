package steps

import (
	"context"
	"fmt"
	"maps"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/scenarios"
)

// upgradeMesh upgrades the control plane by Helm, waits until it works, and
// then restarts the services with a proxy when asked to: a proxy's own settings
// change when its pod is made anew.
type upgradeMesh struct {
	mesh    stack.Component
	options *scenarios.UpgradeMesh
	env     *Env

	begun  bool
	before map[string]any // the mesh's values as they were
}

func newUpgradeMesh(o *scenarios.UpgradeMesh, env *Env) (*upgradeMesh, error) {
	mesh, err := stack.ByName("mesh")
	if err != nil {
		return nil, err
	}
	return &upgradeMesh{mesh: mesh, options: o, env: env}, nil
}

func (s *upgradeMesh) Execute(ctx context.Context) error {
	s.begun, s.before = true, s.env.Stack.Values[s.mesh.Name()]
	if err := s.to(ctx, stack.MergeValues(s.options.Values, s.before)); err != nil {
		return err
	}
	return CheckMesh(ctx, s.env, "after upgrade-mesh", false)
}

// Undo upgrades to the values of before.
func (s *upgradeMesh) Undo(ctx context.Context) error {
	if !s.begun {
		return nil
	}
	return s.to(ctx, s.before)
}

func (s *upgradeMesh) to(ctx context.Context, values map[string]any) error {
	all := maps.Clone(s.env.Stack.Values)
	if all == nil {
		all = map[string]map[string]any{}
	}
	all[s.mesh.Name()] = values
	s.env.Stack.Values = all
	if err := s.mesh.Install(ctx, s.env.Stack); err != nil {
		return err
	}
	if err := s.mesh.Ready(ctx, s.env.Stack); err != nil {
		return err
	}
	s.env.Record.Note("upgraded the mesh's control plane")
	if !s.options.RollDataPlane {
		return nil
	}
	return rollDataPlane(ctx, s.env)
}

// rollDataPlane restarts every service that has a proxy, one after another.
func rollDataPlane(ctx context.Context, env *Env) error {
	services := env.Rollout.Injected()
	for i, name := range services {
		task := env.Progress.Start(fmt.Sprintf("restart %s (%d of %d)", name, i+1, len(services)))
		if err := rollOne(ctx, env, name); err != nil {
			task.Fail(err)
			return err
		}
		task.Done("")
		env.Record.Note("restarted " + name)
	}
	return nil
}

func rollOne(ctx context.Context, env *Env, service string) error {
	if err := env.Kube.Restart(ctx, "deployment", shopNamespace, service); err != nil {
		return err
	}
	if err := env.Kube.WaitRollout(ctx, "deployment", shopNamespace, service); err != nil {
		return err
	}
	seen, err := probes.InjectionOf(ctx, env.Kube.Clientset, service)
	if err != nil {
		return err
	}
	if len(seen.Missing) > 0 {
		return fmt.Errorf("%s was restarted and lost its proxy: %v", service, seen.Missing)
	}
	return nil
}
