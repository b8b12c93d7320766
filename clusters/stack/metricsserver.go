package stack

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// metricsServer serves the resource metrics API.
type metricsServer struct{}

func (metricsServer) Name() string { return "metrics-server" }

func (m metricsServer) Install(ctx context.Context, env *Env) error {
	c, err := ownChart("metrics-server")
	if err != nil {
		return err
	}
	image, err := imageValues(env, "metrics-server")
	if err != nil {
		return err
	}
	values := withOverrides(env, m.Name(), map[string]any{
		"image":     image,
		"resources": resources(env.Fit, 100, 100, 200),
	})
	return env.helm().Put(ctx, env, release{Name: "metrics-server", Namespace: namespaceSystem, Chart: c, Values: values})
}

var apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}

// Ready waits for the API and not only for the pod: an API that is registered
// but does not answer fails other clients' discovery.
func (metricsServer) Ready(ctx context.Context, env *Env) error {
	if err := env.Kube.WaitRollout(ctx, "deployment", namespaceSystem, "metrics-server"); err != nil {
		return err
	}
	return until(ctx, "wait for the metrics API", time.Second, func(ctx context.Context) error {
		u, err := env.Kube.Dynamic.Resource(apiServices).Get(ctx, "v1beta1.metrics.k8s.io", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return conditionTrue(u, "Available")
	})
}

func (metricsServer) Remove(ctx context.Context, env *Env) error {
	return env.helm().Drop(ctx, env, "metrics-server", namespaceSystem)
}

// conditionTrue says in an error why an object's condition does not hold yet.
func conditionTrue(u *unstructured.Unstructured, kind string) error {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		cond, ok := c.(map[string]any)
		if !ok || cond["type"] != kind {
			continue
		}
		if seen, ok := cond["observedGeneration"].(int64); ok && seen < u.GetGeneration() {
			return fmt.Errorf("%s %s: the condition %s is of an older generation", u.GetKind(), u.GetName(), kind)
		}
		if cond["status"] == "True" {
			return nil
		}
		return fmt.Errorf("%s %s is not %s: %v: %v", u.GetKind(), u.GetName(), kind, cond["reason"], cond["message"])
	}
	return fmt.Errorf("%s %s has no condition %s yet", u.GetKind(), u.GetName(), kind)
}
