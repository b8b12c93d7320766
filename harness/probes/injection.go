package probes

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/results"
)

const (
	shopNamespace = "prod-app"
	// shopPods selects the eight services' pods. PostgreSQL carries another
	// part: the database is not meshed, by the case study's own plan.
	shopPods       = "app.kubernetes.io/part-of=fakeshop,app.kubernetes.io/name!=postgres"
	proxyContainer = "linkerd-proxy"
)

// Injection lists the shop's pods that run without a proxy. Pods that are
// being deleted do not count.
func Injection(ctx context.Context, client kubernetes.Interface) (results.Injection, error) {
	pods, err := client.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: shopPods})
	if err != nil {
		return results.Injection{}, fmt.Errorf("list the shop's pods: %w", err)
	}
	seen := results.Injection{Missing: []string{}}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.DeletionTimestamp != nil {
			continue
		}
		seen.Pods++
		if hasContainer(pod, proxyContainer) {
			seen.Injected++
		} else {
			seen.Missing = append(seen.Missing, pod.Name)
		}
	}
	return seen, nil
}

func hasContainer(pod *corev1.Pod, name string) bool {
	for _, c := range pod.Spec.Containers {
		if c.Name == name {
			return true
		}
	}
	return false
}
