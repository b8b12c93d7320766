package watch

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

func podAt(ip, namespace, name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: "worker"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

func TestAnAddressIsWhoHasItOrHadItLast(t *testing.T) {
	hosted := podAt("172.18.0.2", "kube-system", "etcd", nil)
	hosted.Spec.HostNetwork = true
	done := podAt("10.244.1.9", "prod-app", "done", nil)
	done.Status.Phase = corev1.PodSucceeded
	meshed := podAt("10.244.1.4", "prod-app", "payment-gateway-1", map[string]string{"app.kubernetes.io/name": "payment-gateway"})
	meshed.Spec.Containers = []corev1.Container{{Name: stack.ProxyContainer}}
	client := fake.NewClientset(meshed,
		podAt("10.244.1.5", "prod-app", "product-catalog-1", map[string]string{"app.kubernetes.io/name": "product-catalog"}),
		podAt("10.244.1.6", "prod-app", "postgres-0", map[string]string{"app.kubernetes.io/name": "postgres"}),
		podAt("10.244.1.7", "linkerd", "linkerd-identity-1", map[string]string{"linkerd.io/control-plane-component": "identity"}),
		podAt("10.244.1.8", "meshsim-probe", "stranger", nil), hosted, done,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "worker"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Address: "172.18.0.2"}, {Address: "worker"}}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "product-catalog", Namespace: "prod-app"}, Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.7"}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "headless", Namespace: "prod-app"}, Spec: corev1.ServiceSpec{ClusterIPs: []string{"None"}}},
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, err := FollowAddresses(ctx, client, "prod-app", []string{"product-catalog"})
	require.NoError(t, err)
	of := func(ip string) Party { return a.Of(netip.MustParseAddr(ip)) }
	want := map[string]Party{
		"10.244.1.4": {Name: "payment-gateway", Pod: "payment-gateway-1", Node: "worker", Meshed: true},
		"10.244.1.5": {Name: "product-catalog", Pod: "product-catalog-1", Node: "worker", Shop: true},
		"10.244.1.6": {Name: "postgres", Pod: "postgres-0", Node: "worker"},
		"10.244.1.7": {Name: "linkerd/identity", Pod: "linkerd-identity-1", Node: "worker"},
		"10.244.1.8": {Name: "meshsim-probe/stranger", Pod: "stranger", Node: "worker"},
		"172.18.0.2": {Name: results.PartyNode, Node: "worker"},
		"10.96.0.7":  {Name: "prod-app/product-catalog", Virtual: true},
		"10.244.1.9": {Name: results.PartyOutside},
		"9.9.9.9":    {Name: results.PartyOutside},
	}
	require.Eventually(t, func() bool {
		return of("10.96.0.7").Virtual && of("172.18.0.2").Node != "" && of("10.244.1.8").Pod != ""
	}, 5*time.Second, time.Millisecond)
	for ip, party := range want {
		require.Equal(t, party, of(ip), ip)
	}
	pods := client.CoreV1().Pods("prod-app")
	require.NoError(t, pods.Delete(ctx, "product-catalog-1", metav1.DeleteOptions{}))
	_, err = pods.Create(ctx, podAt("10.244.1.6", "prod-app", "order-processing-1", map[string]string{"app.kubernetes.io/name": "order-processing"}), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return of("10.244.1.6").Pod == "order-processing-1" }, 5*time.Second, time.Millisecond, "an address has a new owner")
	require.Equal(t, "product-catalog-1", of("10.244.1.5").Pod, "the last owner stays known")
}
