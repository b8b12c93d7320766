package steps

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"meshsim.dev/meshsim/clusters/stack"
)

// Rollout is how far each of the shop's services has come. It turns into the
// shop chart's values, so that the Helm release always says what is running.
type Rollout struct {
	Shop     stack.Component
	Services []string // in the order in which they are rolled
	services map[string]serviceState

	secretsMoved bool // into Vault, by the step move-secrets
	declared     bool // only declared callers are let in, by the step enforce
}

type serviceState struct {
	Inject        bool
	SecretsSource string // "" = files of a Secret, "vault"
	InboundPolicy string // "" = the mesh's default
}

// NewRollout starts with every service unmeshed.
func NewRollout(shop stack.Component, services []string) *Rollout {
	r := &Rollout{Shop: shop, Services: services, services: map[string]serviceState{}}
	for _, name := range services {
		r.services[name] = serviceState{}
	}
	return r
}

// Injected returns the services that have been told to take a proxy, in order.
func (r *Rollout) Injected() []string {
	return slices.DeleteFunc(slices.Clone(r.Services), func(name string) bool { return !r.services[name].Inject })
}

// states returns how far each service has come, as it is now.
func (r *Rollout) states() map[string]serviceState { return maps.Clone(r.services) }

// change rolls one service to a new state and waits until its new pods serve.
func (r *Rollout) change(ctx context.Context, env *Env, name string, to func(*serviceState)) error {
	before, ok := r.services[name]
	if !ok {
		return fmt.Errorf("the shop has no service %q", name)
	}
	after := before
	to(&after)
	if after == before {
		return nil
	}
	r.services[name] = after
	if err := r.Shop.Install(ctx, r.env(env)); err != nil {
		return fmt.Errorf("roll %s: %w", name, err)
	}
	return env.Kube.WaitRollout(ctx, "deployment", shopNamespace, name)
}

// env is the stack's environment with the services' states as shop values.
func (r *Rollout) env(env *Env) *stack.Env {
	with := *env.Stack
	with.Values = maps.Clone(env.Stack.Values)
	if with.Values == nil {
		with.Values = map[string]map[string]any{}
	}
	shop := maps.Clone(with.Values["shop"])
	if shop == nil {
		shop = map[string]any{}
	}
	services := map[string]any{}
	for name, s := range r.services {
		services[name] = map[string]any{"inject": s.Inject, "secretsSource": s.SecretsSource, "inboundPolicy": s.InboundPolicy}
	}
	shop["services"] = services
	with.Values["shop"] = shop
	return &with
}
