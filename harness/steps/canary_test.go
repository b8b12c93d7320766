package steps

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/scenarios"
)

var broken = map[string]any{"errors": map[string]any{"rate": 0.5}}

func TestAServiceMisbehavesUntilItIsUndone(t *testing.T) {
	shop := &shopStub{}
	env, d, _ := bench(t)
	env.Rollout = NewRollout(shop, env.Rollout.Services)
	step, err := New(scenarios.Step{Options: &scenarios.Behave{Service: "order-processing", Behaviour: broken}}, env)
	require.NoError(t, err)
	undo := step.(Undoer)
	require.NoError(t, undo.Undo(t.Context()), "nothing was begun")
	require.Empty(t, shop.values)

	require.NoError(t, step.Execute(t.Context()))
	require.Equal(t, map[string]any{"order-processing": broken}, shop.values[0]["behaviour"])
	require.Equal(t, []string{"note changed the behaviour of order-processing"}, d.lines)
	require.NoError(t, step.Execute(t.Context()))
	require.Len(t, shop.values, 1, "a service that behaves so already is not rolled")

	step, err = New(scenarios.Step{Options: &scenarios.Behave{Service: "order-processing"}}, env)
	require.NoError(t, err)
	require.NoError(t, step.Execute(t.Context()))
	require.NotContains(t, shop.values[1], "behaviour")
	require.NoError(t, step.(Undoer).Undo(t.Context()))
	require.Equal(t, map[string]any{"order-processing": broken}, shop.values[2]["behaviour"], "it undoes what it did, and no more")
}

func TestACanaryIsMadeOnceAndRolledWithItsService(t *testing.T) {
	shop := &shopStub{}
	env, _, client := bench(t)
	one := int32(1)
	_, err := client.AppsV1().Deployments(shopNamespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "order-processing-v2", Namespace: shopNamespace},
		Spec:       appsv1.DeploymentSpec{Replicas: &one},
		Status:     appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	r := NewRollout(shop, env.Rollout.Services)
	set := func(behaviour map[string]any) {
		require.NoError(t, r.setCanary(t.Context(), env, "order-processing", "v2", behaviour))
	}
	set(nil)
	r.weigh("order-processing", "v2", 10)
	set(map[string]any{})
	require.Len(t, shop.values, 1, "only its share changes")
	require.Equal(t, map[string]any{"order-processing": map[string]any{"v2": map[string]any{"replicas": 1}}}, shop.values[0]["canaries"])
	set(broken)
	require.Equal(t, map[string]any{"order-processing": map[string]any{"v2": map[string]any{"replicas": 1, "behaviour": broken}}}, shop.values[1]["canaries"])
	require.Equal(t, 10, r.canaries["order-processing"]["v2"].Weight)

	require.NoError(t, client.AppsV1().Deployments(shopNamespace).Delete(t.Context(), "order-processing-v2", metav1.DeleteOptions{}))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	require.Error(t, r.change(ctx, env, "order-processing", func(s *serviceState) { s.Inject = true }), "the canary's pods are waited for, too")
	require.NoError(t, r.endCanaries(t.Context(), &Env{Stack: &stack.Env{}}, "product-catalog"), "which has none")
}

func TestARouteSharesOutWhatTheCanariesDoNotGet(t *testing.T) {
	for name, c := range map[string]struct {
		canaries map[string]version
		want     map[string]int
	}{
		"none":            {nil, map[string]int{"payment-gateway-v1": 100}},
		"one":             {map[string]version{"v2": {Weight: 10}}, map[string]int{"payment-gateway-v1": 90, "payment-gateway-v2": 10}},
		"all to it":       {map[string]version{"v2": {Weight: 100}}, map[string]int{"payment-gateway-v1": 0, "payment-gateway-v2": 100}},
		"two":             {map[string]version{"v2": {Weight: 10}, "v3": {Weight: 20}}, map[string]int{"payment-gateway-v1": 70, "payment-gateway-v2": 10, "payment-gateway-v3": 20}},
		"more than a 100": {map[string]version{"v2": {Weight: 70}, "v3": {Weight: 70}}, map[string]int{"payment-gateway-v1": 0, "payment-gateway-v2": 70, "payment-gateway-v3": 30}},
	} {
		t.Run(name, func(t *testing.T) {
			text := routeOf("payment-gateway", c.canaries)
			objects, err := kube.Decode(text)
			require.NoError(t, err)
			require.Len(t, objects, 1)
			var route struct {
				Spec struct {
					ParentRefs []struct{ Group, Kind, Name string }
					Rules      []struct {
						BackendRefs []struct {
							Name         string
							Port, Weight int
						}
					}
				}
			}
			require.NoError(t, yaml.Unmarshal(text, &route))
			require.Equal(t, []struct{ Group, Kind, Name string }{{"core", "Service", "payment-gateway"}}, route.Spec.ParentRefs)
			got := map[string]int{}
			for _, b := range route.Spec.Rules[0].BackendRefs {
				require.Equal(t, 9090, b.Port)
				got[b.Name] = b.Weight
			}
			require.Equal(t, c.want, got)
		})
	}
}
