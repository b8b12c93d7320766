package probes

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

// Leaves asks Prometheus when each proxy's own certificate ends, by the figure
// that the proxy gives: an identity that nobody could renew is found nowhere
// else, `linkerd check` included (failure mode I5).
func Leaves(ctx context.Context, client kubernetes.Interface, prom Prometheus, now time.Time) (results.Leaves, error) {
	pods, err := client.CoreV1().Pods(shopNamespace).List(ctx, metav1.ListOptions{LabelSelector: shopPods})
	if err != nil {
		return results.Leaves{}, fmt.Errorf("list the shop's pods: %w", err)
	}
	samples, err := instant(ctx, prom, fmt.Sprintf(`max by (pod) (identity_cert_expiration_timestamp_seconds{namespace=%q})`, shopNamespace))
	if err != nil {
		return results.Leaves{}, fmt.Errorf("ask when the proxies' certificates end: %w", err)
	}
	ends := map[string]time.Time{}
	for _, s := range samples {
		ends[s.labels["pod"]] = time.Unix(int64(s.value), 0).UTC()
	}
	seen := results.Leaves{Expired: []string{}, Silent: []string{}}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.DeletionTimestamp != nil || !stack.Meshed(pod) {
			continue
		}
		seen.Proxies++
		end, ok := ends[pod.Name]
		switch {
		case !ok:
			seen.Silent = append(seen.Silent, pod.Name)
			continue
		case end.Before(now):
			seen.Expired = append(seen.Expired, pod.Name)
		}
		if seen.Earliest.IsZero() || end.Before(seen.Earliest) {
			seen.Earliest = end
		}
	}
	slices.Sort(seen.Expired)
	slices.Sort(seen.Silent)
	return seen, nil
}
