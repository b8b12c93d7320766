package stack

import (
	"context"
	"fmt"
	"path"
	"slices"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"

	"meshsim.dev/meshsim/clusters/kube"
)

// AdmitDeclared has the mesh let in nobody but the callers that the shop's chart
// declares. The policies are the chart's own, but no part of its release: their
// kinds go with the mesh, and Helm cannot change a release whose kinds are gone.
func AdmitDeclared(ctx context.Context, env *Env) error {
	all, err := shopPolicies(env)
	if err != nil {
		return err
	}
	for _, u := range all {
		if err := env.Kube.ApplyObject(ctx, u, NamespaceShop); err != nil {
			return fmt.Errorf("admit declared callers only: %w", err)
		}
	}
	return nil
}

// AdmitAnyone takes the policies of AdmitDeclared away; there may be none.
func AdmitAnyone(ctx context.Context, env *Env) error {
	all, err := shopPolicies(env)
	if err != nil {
		return err
	}
	return env.Kube.DeleteObjects(ctx, all, NamespaceShop)
}

// shopPolicies are the chart's policies. Servers come last: one without an
// authorization lets nobody in (failure mode P5).
func shopPolicies(env *Env) ([]*unstructured.Unstructured, error) {
	c, err := chartFromFS(shopchart.FS, ".")
	if err != nil {
		return nil, err
	}
	values, err := shop{}.values(env)
	if err != nil {
		return nil, err
	}
	values["policies"] = map[string]any{"enabled": true}
	with, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: shopRelease, Namespace: NamespaceShop}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("values of the shop's policies: %w", err)
	}
	rendered, err := engine.Render(c, with)
	if err != nil {
		return nil, fmt.Errorf("render the shop's policies: %w", err)
	}
	all, err := kube.Decode([]byte(rendered[path.Join(c.Name(), "templates/policies.yaml")]))
	if err != nil {
		return nil, fmt.Errorf("read the shop's policies: %w", err)
	}
	slices.SortStableFunc(all, func(a, b *unstructured.Unstructured) int { return serverLast(a) - serverLast(b) })
	return all, nil
}

func serverLast(u *unstructured.Unstructured) int {
	if u.GetKind() == "Server" {
		return 1
	}
	return 0
}
