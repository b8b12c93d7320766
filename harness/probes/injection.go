package probes

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

const (
	shopNamespace = "prod-app"
	// shopPods selects the eight services' pods, without the database and its
	// replica, which are not meshed, by the case study's own plan.
	shopPods = "app.kubernetes.io/part-of=fakeshop,app.kubernetes.io/name notin (postgres,postgres-replica)"
)

// Injection lists the shop's pods that run without a proxy. Pods that are
// being deleted do not count.
func Injection(ctx context.Context, client kubernetes.Interface) (results.Injection, error) {
	return injection(ctx, client, shopPods)
}

// InjectionOf is Injection for the pods of one service.
func InjectionOf(ctx context.Context, client kubernetes.Interface, service string) (results.Injection, error) {
	return injection(ctx, client, "app.kubernetes.io/name="+service)
}

func injection(ctx context.Context, client kubernetes.Interface, selector string) (results.Injection, error) {
	pods, err := client.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
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
		if stack.Meshed(pod) {
			seen.Injected++
		} else {
			seen.Missing = append(seen.Missing, pod.Name)
		}
	}
	return seen, nil
}
