package steps

import (
	"context"
	"fmt"
	"slices"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/scenarios"
)

// uninstallMesh takes the shop's services out of the mesh by rolling restarts,
// and then removes the mesh. What a service enforces goes first, everywhere: a
// caller that has lost its proxy must meet nobody that asks for one.
type uninstallMesh struct {
	mesh    stack.Component
	options *scenarios.UninstallMesh
	env     *Env

	before   map[string]serviceState // nil until it began
	declared bool                    // before, only declared callers were let in
	database bool                    // before, the database had a proxy
}

func newUninstallMesh(o *scenarios.UninstallMesh, env *Env) (*uninstallMesh, error) {
	mesh, err := stack.ByName("mesh")
	if o.KeepCRDs {
		mesh = stack.MeshLeavingCRDs()
	}
	if err != nil {
		return nil, err
	}
	return &uninstallMesh{mesh: mesh, options: o, env: env}, nil
}

func (s *uninstallMesh) Execute(ctx context.Context) error {
	s.before = s.env.Rollout.states()
	s.declared, s.database = s.env.Rollout.declared, s.env.Rollout.database
	if s.declared {
		if err := stack.AdmitAnyone(ctx, s.env.Rollout.env(s.env)); err != nil {
			return fmt.Errorf("let in callers that are not declared: %w", err)
		}
		s.env.Rollout.declared = false
	}
	services := s.env.Rollout.Injected()
	slices.Reverse(services)
	err := s.roll(ctx, "stop enforcing on", services, func(_ string, state *serviceState) { state.InboundPolicy = "" })
	if err != nil {
		return err
	}
	err = s.roll(ctx, "take the proxy from", services, func(_ string, state *serviceState) { state.Inject = false })
	if err != nil {
		return err
	}
	for _, name := range services {
		seen, err := probes.InjectionOf(ctx, s.env.Kube.Clientset, name)
		if err != nil {
			return err
		}
		if seen.Injected > 0 {
			return fmt.Errorf("%s was rolled and still has %d pods with a proxy", name, seen.Injected)
		}
	}
	if err := s.env.Rollout.meshDatabase(ctx, s.env, false); err != nil {
		return err
	}
	return s.mesh.Remove(ctx, s.env.Stack)
}

// Undo installs the mesh again and takes every service back into it, and only
// then has them enforce what they did.
func (s *uninstallMesh) Undo(ctx context.Context) error {
	if s.before == nil {
		return nil
	}
	if err := s.mesh.Install(ctx, s.env.Stack); err != nil {
		return err
	}
	if err := s.mesh.Ready(ctx, s.env.Stack); err != nil {
		return err
	}
	services := s.env.Rollout.Services
	err := s.roll(ctx, "give the proxy back to", services, func(name string, state *serviceState) { state.Inject = s.before[name].Inject })
	if err != nil {
		return err
	}
	if err := s.env.Rollout.meshDatabase(ctx, s.env, s.database); err != nil {
		return err
	}
	err = s.roll(ctx, "enforce again on", services, func(name string, state *serviceState) { state.InboundPolicy = s.before[name].InboundPolicy })
	if err != nil || !s.declared {
		return err
	}
	s.env.Rollout.declared = true
	return stack.AdmitDeclared(ctx, s.env.Rollout.env(s.env))
}

// roll changes services one after another; one that is as it should be is left alone.
func (s *uninstallMesh) roll(ctx context.Context, verb string, services []string, to func(name string, state *serviceState)) error {
	for i, name := range services {
		task := s.env.Progress.Start(fmt.Sprintf("%s %s (%d of %d)", verb, name, i+1, len(services)))
		err := s.env.Rollout.change(ctx, s.env, name, func(state *serviceState) { to(name, state) })
		if err != nil {
			task.Fail(err)
			return err
		}
		task.Done("")
	}
	return nil
}
