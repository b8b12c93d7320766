package steps

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"meshsim.dev/meshsim/clusters/stack"
)

// Rollout is how far each of the shop's services has come. It turns into the
// shop chart's values, so that the Helm release always says what is running.
type Rollout struct {
	Shop     stack.Component
	Services []string // in the order in which they are rolled
	services map[string]serviceState

	behaviour map[string]map[string]any     // by service, of its first version
	canaries  map[string]map[string]version // by service and version
	scalers   map[string]scaler             // by service

	database     bool // has a proxy, and its replica too
	secretsMoved bool // into Vault, by the step move-secrets
	declared     bool // only declared callers are let in, by the step enforce

	rolled time.Time // when the last service was
}

// sourceVault is the SecretsSource of a service that reads its secrets from Vault.
const sourceVault = "vault"

type serviceState struct {
	Inject        bool
	SecretsSource string // "" = files of a Secret, sourceVault
	InboundPolicy string // "" = the mesh's default
}

// NewRollout starts with every service unmeshed.
func NewRollout(shop stack.Component, services []string) *Rollout {
	r := &Rollout{
		Shop: shop, Services: services, services: map[string]serviceState{},
		behaviour: map[string]map[string]any{}, canaries: map[string]map[string]version{}, scalers: map[string]scaler{},
	}
	for _, name := range services {
		r.services[name] = serviceState{}
	}
	return r
}

// Injected returns the services that have been told to take a proxy, in order.
func (r *Rollout) Injected() []string {
	return slices.DeleteFunc(slices.Clone(r.Services), func(name string) bool { return !r.services[name].Inject })
}

// SecretsMoved tells whether the shop's secrets have been put into Vault.
func (r *Rollout) SecretsMoved() bool { return r.secretsMoved }

// readingVault are the services that read their secrets from Vault, in order.
func (r *Rollout) readingVault() []string {
	return slices.DeleteFunc(slices.Clone(r.Services), func(name string) bool { return r.services[name].SecretsSource != sourceVault })
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
	return r.roll(ctx, env, name)
}

// roll puts the shop as it should be, and waits until the pods of one service
// serve, those of its canaries included.
func (r *Rollout) roll(ctx context.Context, env *Env, service string) error {
	if err := r.Shop.Install(ctx, r.env(env)); err != nil {
		return fmt.Errorf("roll %s: %w", service, err)
	}
	names := []string{service}
	for _, version := range slices.Sorted(maps.Keys(r.canaries[service])) {
		names = append(names, service+"-"+version)
	}
	for _, name := range names {
		if err := env.Kube.WaitRollout(ctx, "deployment", shopNamespace, name); err != nil {
			return err
		}
	}
	r.rolled = time.Now()
	return nil
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
	if len(r.behaviour) > 0 {
		behaviour := map[string]any{}
		for name, b := range r.behaviour {
			behaviour[name] = b
		}
		shop["behaviour"] = behaviour
	}
	if len(r.canaries) > 0 {
		shop["canaries"] = r.canaryValues()
	}
	if r.database {
		postgres, _ := shop["postgres"].(map[string]any)
		shop["postgres"] = stack.MergeValues(map[string]any{"meshed": true}, postgres)
	}
	if len(r.scalers) > 0 {
		shop["autoscaling"] = r.scalerValues()
	}
	if r.secretsMoved { // from then on they are renewed
		rotation, _ := shop["rotation"].(map[string]any)
		shop["rotation"] = stack.MergeValues(map[string]any{"enabled": true}, rotation)
	}
	with.Values["shop"] = shop
	return &with
}

// canaryValues are the canaries as the shop's chart spells them.
func (r *Rollout) canaryValues() map[string]any {
	all := map[string]any{}
	for service, versions := range r.canaries {
		values := map[string]any{}
		for name, v := range versions {
			values[name] = map[string]any{"replicas": 1}
			if len(v.Behaviour) > 0 {
				values[name] = map[string]any{"replicas": 1, "behaviour": v.Behaviour}
			}
		}
		all[service] = values
	}
	return all
}

// sameValues says whether two sets of chart values are alike; none is like an
// empty one.
func sameValues(a, b map[string]any) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}
