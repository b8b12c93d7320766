package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"meshsim.dev/meshsim/clusters/pause"
)

// restartedAt is kubectl's own annotation, so that a restart by meshsim looks
// like any other in a rollout's history.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// workload is what the three kinds that roll out have in common.
type workload struct {
	meta     metav1.ObjectMeta
	selector *metav1.LabelSelector
	done     bool
	state    string // e.g. "2 of 3 updated, 1 available"
}

// WaitRollout waits until every pod of a workload is of its newest template and
// available. kind is deployment, statefulset or daemonset. When ctx's deadline
// passes first, the error names the pods that are not ready, why they wait, and
// the last events about them.
func (c *Client) WaitRollout(ctx context.Context, kind, namespace, name string) error {
	var last workload
	var lastErr error
	for {
		w, err := c.workload(ctx, kind, namespace, name)
		switch {
		case err == nil && w.done:
			return nil
		case err == nil:
			last, lastErr = w, nil
		case ctx.Err() != nil:
		case errors.Is(err, errKind):
			return err
		default:
			lastErr = err
		}
		if waitErr := pause.For(ctx, c.poll); waitErr != nil {
			return c.rolloutError(ctx, kind, namespace, name, last, lastErr)
		}
	}
}

var errKind = errors.New("not a kind that rolls out (deployment, statefulset, daemonset)")

func (c *Client) workload(ctx context.Context, kind, namespace, name string) (workload, error) {
	apps := c.Clientset.AppsV1()
	switch strings.ToLower(kind) {
	case "deployment":
		d, err := apps.Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return workload{}, err
		}
		return deploymentState(d), nil
	case "statefulset":
		s, err := apps.StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return workload{}, err
		}
		return statefulSetState(s), nil
	case "daemonset":
		d, err := apps.DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return workload{}, err
		}
		return daemonSetState(d), nil
	}
	return workload{}, fmt.Errorf("%q: %w", kind, errKind)
}

func deploymentState(d *appsv1.Deployment) workload {
	want, s := replicas(d.Spec.Replicas), d.Status
	return workload{
		meta: d.ObjectMeta, selector: d.Spec.Selector,
		done: s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want &&
			s.Replicas == want && s.AvailableReplicas == want,
		state: fmt.Sprintf("%d of %d updated, %d available, %d old left",
			s.UpdatedReplicas, want, s.AvailableReplicas, s.Replicas-s.UpdatedReplicas),
	}
}

func statefulSetState(set *appsv1.StatefulSet) workload {
	want, s := replicas(set.Spec.Replicas), set.Status
	updated := s.UpdatedReplicas == want && s.CurrentRevision == s.UpdateRevision
	if set.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
		updated = true // only a deleted pod takes the new template
	}
	return workload{
		meta: set.ObjectMeta, selector: set.Spec.Selector,
		done: s.ObservedGeneration >= set.Generation && updated &&
			s.ReadyReplicas == want && s.Replicas == want,
		state: fmt.Sprintf("%d of %d updated, %d ready", s.UpdatedReplicas, want, s.ReadyReplicas),
	}
}

func daemonSetState(d *appsv1.DaemonSet) workload {
	s := d.Status
	return workload{
		meta: d.ObjectMeta, selector: d.Spec.Selector,
		done: s.ObservedGeneration >= d.Generation &&
			s.UpdatedNumberScheduled == s.DesiredNumberScheduled && s.NumberAvailable == s.DesiredNumberScheduled,
		state: fmt.Sprintf("%d of %d updated, %d available", s.UpdatedNumberScheduled, s.DesiredNumberScheduled, s.NumberAvailable),
	}
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// Restart makes a workload replace its pods by its own strategy. It does not
// wait: WaitRollout does.
func (c *Client) Restart(ctx context.Context, kind, namespace, name string) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{
			restartedAt: time.Now().Format(time.RFC3339Nano),
		}}}}})
	if err != nil {
		return fmt.Errorf("restart %s %s/%s: %w", kind, namespace, name, err)
	}
	if err := c.PatchWorkload(ctx, kind, namespace, name, patch); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	return nil
}

// PatchWorkload sends a strategic merge patch to a deployment, statefulset or daemonset.
func (c *Client) PatchWorkload(ctx context.Context, kind, namespace, name string, patch []byte) error {
	apps, opts := c.Clientset.AppsV1(), metav1.PatchOptions{FieldManager: FieldManager}
	var err error
	switch strings.ToLower(kind) {
	case "deployment":
		_, err = apps.Deployments(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, opts)
	case "statefulset":
		_, err = apps.StatefulSets(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, opts)
	case "daemonset":
		_, err = apps.DaemonSets(namespace).Patch(ctx, name, types.StrategicMergePatchType, patch, opts)
	default:
		err = errKind
	}
	if err != nil {
		return fmt.Errorf("patch %s %s/%s: %w", kind, namespace, name, err)
	}
	return nil
}

// WaitGone waits until get answers "not found".
func (c *Client) WaitGone(ctx context.Context, what string, get func(context.Context) error) error {
	for {
		err := get(ctx)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if waitErr := pause.For(ctx, c.poll); waitErr != nil {
			return fmt.Errorf("wait until %s is gone: %w (last answer: %v)", what, waitErr, err)
		}
	}
}
