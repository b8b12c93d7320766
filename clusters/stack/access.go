package stack

import (
	"context"
	"fmt"
)

// access makes the namespaces and says who may enter them: the group devops
// everywhere, the group developers only the shop's, and to look at monitoring.
type access struct{}

func (access) Name() string { return "rbac" }

func (access) Install(ctx context.Context, env *Env) error {
	for _, name := range managedNamespaces() {
		if err := ensureNamespace(ctx, env, name); err != nil {
			return err
		}
	}
	rules, err := manifest("rbac.yaml", map[string]any{"Namespaces": managedNamespaces()})
	if err != nil {
		return err
	}
	return env.Kube.Apply(ctx, rules, "")
}

// Ready has nothing to wait for: access rules hold when they are stored.
func (access) Ready(context.Context, *Env) error { return nil }

// Remove takes the rules away. The namespaces stay: they hold what other
// components have not removed yet.
func (access) Remove(ctx context.Context, env *Env) error {
	rules, err := manifest("rbac.yaml", map[string]any{"Namespaces": managedNamespaces()})
	if err != nil {
		return err
	}
	if err := env.Kube.Delete(ctx, rules, ""); err != nil {
		return fmt.Errorf("remove access rules: %w", err)
	}
	return nil
}
