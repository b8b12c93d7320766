package steps

import (
	"context"
	"fmt"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/scenarios"
)

// inject gives services their proxy, one after another by rolling restarts.
// Where the secrets have moved to Vault the same restart makes a service read
// them there, so that no pod is restarted twice.
type inject struct {
	options *scenarios.Inject
	env     *Env
}

func (s *inject) Execute(ctx context.Context) error {
	services := s.options.Services
	if len(services) == 0 {
		services = s.env.Rollout.Services
	}
	for i, name := range services {
		task := s.env.Progress.Start(fmt.Sprintf("inject %s (%d of %d)", name, i+1, len(services)))
		err := s.env.Rollout.change(ctx, s.env, name, func(state *serviceState) {
			state.Inject = true
			if s.env.Rollout.secretsMoved {
				state.SecretsSource = sourceVault
			}
		})
		if err == nil {
			err = s.injected(ctx, name)
		}
		if err != nil {
			task.Fail(err)
			return err
		}
		task.Done("")
		s.env.Record.Note("injected " + name)
	}
	if s.options.Database {
		if err := s.env.Rollout.meshDatabase(ctx, s.env, true); err != nil {
			return err
		}
	}
	if s.env.Rollout.secretsMoved && len(s.env.Rollout.Injected()) == len(s.env.Rollout.Services) {
		return stack.RetireSecrets(ctx, s.env.Stack)
	}
	return nil
}

// injected checks that the service's pods really have the proxy: injection
// fails silently in more than one way (failure mode R6).
func (s *inject) injected(ctx context.Context, service string) error {
	seen, err := probes.InjectionOf(ctx, s.env.Kube.Clientset, service)
	if err != nil {
		return err
	}
	if len(seen.Missing) > 0 {
		return fmt.Errorf("%s was rolled but runs without a proxy: %v", service, seen.Missing)
	}
	return nil
}
