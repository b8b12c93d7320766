package probes

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/results"
)

// Autoscaling looks at every autoscaler of the shop. How many pods there are it
// asks of what is scaled: the autoscaler's own word for it is up to a round old.
func Autoscaling(ctx context.Context, client kubernetes.Interface, phase string) (results.Autoscaling, error) {
	all, err := client.AutoscalingV2().HorizontalPodAutoscalers(shopNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return results.Autoscaling{}, fmt.Errorf("list the shop's autoscalers: %w", err)
	}
	seen := results.Autoscaling{Phase: phase, Autoscalers: []results.Autoscaler{}}
	for i := range all.Items {
		a := readAutoscaler(&all.Items[i])
		scaled, err := client.AppsV1().Deployments(shopNamespace).Get(ctx, all.Items[i].Spec.ScaleTargetRef.Name, metav1.GetOptions{})
		if err != nil {
			return results.Autoscaling{}, fmt.Errorf("look at what autoscaler %s scales: %w", a.Name, err)
		}
		a.Current = int(scaled.Status.Replicas)
		seen.Autoscalers = append(seen.Autoscalers, a)
	}
	slices.SortFunc(seen.Autoscalers, func(a, b results.Autoscaler) int { return cmp.Compare(a.Name, b.Name) })
	return seen, nil
}

func readAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) results.Autoscaler {
	a := results.Autoscaler{
		Name: h.Name, Service: h.Labels["app.kubernetes.io/name"], Least: 1, Most: int(h.Spec.MaxReplicas),
		Desired: int(h.Status.DesiredReplicas), Why: "it has not looked yet",
	}
	if h.Spec.MinReplicas != nil {
		a.Least = int(*h.Spec.MinReplicas)
	}
	for _, m := range h.Spec.Metrics {
		if m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Target.AverageUtilization != nil {
			a.Target = int(*m.Resource.Target.AverageUtilization)
		}
	}
	for _, m := range h.Status.CurrentMetrics {
		if m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil {
			percent := int(*m.Resource.Current.AverageUtilization)
			a.Percent = &percent
		}
	}
	for _, c := range h.Status.Conditions {
		if c.Type != autoscalingv2.ScalingActive {
			continue
		}
		if a.Active = c.Status == corev1.ConditionTrue; a.Active {
			a.Why = ""
		} else {
			a.Why = c.Reason + ": " + c.Message
		}
	}
	return a
}
