package steps

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/probes"
)

// meshDatabase gives the database and its replica a proxy, its port opaque, or
// takes it away. Each is one pod, so the shop does without it for some seconds:
// what lasts longer than a request may is a failure that the rehearsal shows.
func (r *Rollout) meshDatabase(ctx context.Context, env *Env, meshed bool) error {
	if r.database == meshed {
		return nil
	}
	word := map[bool]string{true: "inject", false: "take the proxy from"}[meshed]
	task := env.Progress.Start(word + " the database")
	r.database = meshed
	if err := r.rollDatabase(ctx, env, meshed); err != nil {
		task.Fail(err)
		return err
	}
	task.Done("")
	env.Record.Note(word + " the database: done")
	return nil
}

func (r *Rollout) rollDatabase(ctx context.Context, env *Env, meshed bool) error {
	if err := r.Shop.Install(ctx, r.env(env)); err != nil {
		return fmt.Errorf("roll the database: %w", err)
	}
	for _, name := range stack.Databases() {
		_, err := env.Kube.Clientset.AppsV1().StatefulSets(shopNamespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue // there is no replica
		}
		if err != nil {
			return fmt.Errorf("look for the database: %w", err)
		}
		if err := env.Kube.WaitRollout(ctx, "statefulset", shopNamespace, name); err != nil {
			return err
		}
		seen, err := probes.InjectionOf(ctx, env.Kube.Clientset, name)
		if err != nil {
			return err
		}
		if with := map[bool]int{true: seen.Pods, false: 0}[meshed]; seen.Pods == 0 || seen.Injected != with {
			return fmt.Errorf("%s was rolled, and %d of its %d pods have a proxy, not %d", name, seen.Injected, seen.Pods, with)
		}
	}
	return nil
}
