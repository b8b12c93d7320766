package alb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"meshsim.dev/meshsim/clusters/pause"
)

// gatePrefix begins the readiness gates that AWS's controller keeps; the name
// of a target group follows. A pod with such a gate is ready only once its
// target is healthy, so that a rollout does not run ahead of the load balancer.
const gatePrefix = "target-health.elbv2.k8s.aws/"

// gatekeeper tells pods with gates how their targets are.
type gatekeeper struct {
	table  *table
	client kubernetes.Interface
	pods   corelisters.PodLister
	log    *slog.Logger
	settle time.Duration
}

// run keeps the gates until ctx ends, from the first state of the table on.
func (k *gatekeeper) run(ctx context.Context) {
	told := ""
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
		case <-k.table.news:
			if pause.For(ctx, k.settle) != nil {
				return
			}
		}
		again = nil
		err := k.keep(ctx)
		if err == nil || ctx.Err() != nil {
			told = ""
			continue
		}
		again = time.After(retryAfter)
		if text := err.Error(); text != told {
			told = text
			k.log.Warn("readiness gates could not be kept", "error", err)
		}
	}
}

// keep brings the condition of every gate up to date.
func (k *gatekeeper) keep(ctx context.Context) error {
	pods, err := k.pods.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	groups := k.table.live.Load().groups
	var errs []error
	for _, pod := range pods {
		for _, gate := range pod.Spec.ReadinessGates {
			name, ours := strings.CutPrefix(string(gate.ConditionType), gatePrefix)
			if !ours {
				continue
			}
			if want, known := conditionOf(groups[name], pod); known {
				want.Type = gate.ConditionType
				errs = append(errs, k.patch(ctx, pod, want))
			}
		}
	}
	return errors.Join(errs...)
}

// conditionOf is how a pod's target in a group is. A pod that is no target of
// it has no condition to be told; a group that is gone holds nobody back.
func conditionOf(g *group, pod *corev1.Pod) (c corev1.PodCondition, known bool) {
	if g == nil {
		return corev1.PodCondition{Status: corev1.ConditionTrue, Message: "Target Group Binding is deleted"}, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.targets {
		switch {
		case t.Pod != pod.Name || !strings.HasPrefix(g.spec.Load().Service, pod.Namespace+"/"):
		case t.state == healthy:
			return corev1.PodCondition{Status: corev1.ConditionTrue}, true
		default:
			return corev1.PodCondition{Status: corev1.ConditionFalse, Reason: t.why.code, Message: t.why.description}, true
		}
	}
	return c, false
}

// patch sets a pod's condition when it is another one.
func (k *gatekeeper) patch(ctx context.Context, pod *corev1.Pod, want corev1.PodCondition) error {
	changed := metav1.Now()
	for _, have := range pod.Status.Conditions {
		if have.Type != want.Type {
			continue
		}
		if have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
			return nil
		}
		if have.Status == want.Status {
			changed = have.LastTransitionTime
		}
	}
	data, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID}, // another pod of that name is not meant
		"status": map[string]any{"conditions": []map[string]any{{
			"type": want.Type, "status": want.Status, "reason": want.Reason, "message": want.Message, "lastTransitionTime": changed,
		}}},
	})
	if err != nil {
		return err
	}
	_, err = k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, data, metav1.PatchOptions{}, "status")
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // a pod that has gone needs no gate
	}
	return fmt.Errorf("set %s of pod %s/%s: %w", want.Type, pod.Namespace, pod.Name, err)
}

// containersReady tells whether only gates keep a pod from being ready.
func containersReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.ContainersReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
