package watch

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/results"
)

func shopPod(name string, ready corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod-app", Labels: map[string]string{"app.kubernetes.io/name": "product-catalog"}},
		Spec:       corev1.PodSpec{NodeName: "worker", Containers: []corev1.Container{{Name: "linkerd-proxy"}, {Name: "app"}}},
		Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}},
	}
}

func TestAPodsLifeIsToldStateByState(t *testing.T) {
	var got []string
	w := &watcher{sink: func(e results.Event) {
		require.Equal(t, "product-catalog", e.Fields[results.FieldService])
		require.Equal(t, "true", e.Fields[results.FieldMeshed])
		require.Equal(t, "worker", e.Fields[results.FieldNode])
		got = append(got, e.Fields[results.FieldState])
	}}
	waiting, ready := shopPod("a", corev1.ConditionFalse), shopPod("a", corev1.ConditionTrue)
	killed := shopPod("a", corev1.ConditionTrue)
	killed.Status.ContainerStatuses = []corev1.ContainerStatus{{
		RestartCount:         1,
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled"}},
	}}
	leaving := killed.DeepCopy()
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	w.pod(nil, waiting)
	w.pod(waiting, ready)
	w.pod(ready, ready) // nothing changed
	w.pod(ready, killed)
	w.pod(killed, leaving)
	w.pod(leaving, nil)
	require.Equal(t, []string{"created", "ready", "oom-killed", "terminating", "gone"}, got)
}

func TestEndpointsAreToldAsTheyComeAndGo(t *testing.T) {
	slice := func(pods map[string]bool) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelServiceName: "product-catalog-edge"}}}
		for name, ready := range pods {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
				TargetRef: &corev1.ObjectReference{Name: name}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			})
		}
		return s
	}
	var got []results.Event
	w := &watcher{sink: func(e results.Event) { got = append(got, e) }}
	w.slice(slice(map[string]bool{"old": true, "new": false}), slice(map[string]bool{"old": false, "new": true}))
	require.Len(t, got, 2)
	require.Equal(t, []string{"new", "added"}, []string{got[0].Fields[results.FieldPod], got[0].Fields[results.FieldState]})
	require.Equal(t, []string{"old", "removed"}, []string{got[1].Fields[results.FieldPod], got[1].Fields[results.FieldState]})
	require.Equal(t, "product-catalog", got[0].Fields[results.FieldService], "the edge Service is the same service")
}

func TestWhatWasThereBeforeIsNotReported(t *testing.T) {
	client := fake.NewClientset(shopPod("old", corev1.ConditionTrue))
	var mu sync.Mutex
	var names []string
	require.NoError(t, Start(t.Context(), client, []string{"prod-app"}, func(e results.Event) {
		mu.Lock()
		defer mu.Unlock()
		names = append(names, e.Name)
	}))
	_, err := client.CoreV1().Pods("prod-app").Create(t.Context(), shopPod("new", corev1.ConditionFalse), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(names) > 0
	}, 10*time.Second, 10*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{"new"}, names)
}
