package steps

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const shopNamespace = "prod-app"

// enforce sets the default inbound policy of every service that has a proxy.
// The mesh reads it when a pod is created (failure mode P2), so each service
// is rolled again.
type enforce struct {
	policy string
	env    *Env
}

func (s *enforce) Execute(ctx context.Context) error {
	services := s.env.Rollout.Injected()
	for i, name := range services {
		task := s.env.Progress.Start(fmt.Sprintf("enforce %s on %s (%d of %d)", s.policy, name, i+1, len(services)))
		err := s.env.Rollout.change(ctx, s.env, name, func(state *serviceState) { state.InboundPolicy = s.policy })
		if err != nil {
			task.Fail(err)
			return err
		}
		task.Done("")
		s.env.Record.Note("enforced " + s.policy + " on " + name)
	}
	return nil
}

// podsWithoutProxy names the service's living pods that have no linkerd-proxy.
func podsWithoutProxy(ctx context.Context, client kubernetes.Interface, service string) ([]string, error) {
	pods, err := client.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + service})
	if err != nil {
		return nil, fmt.Errorf("list the pods of %s: %w", service, err)
	}
	var missing []string
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && !hasProxy(pod.Spec.Containers) {
			missing = append(missing, pod.Name)
		}
	}
	return missing, nil
}

func hasProxy(containers []corev1.Container) bool {
	for _, c := range containers {
		if c.Name == "linkerd-proxy" {
			return true
		}
	}
	return false
}
