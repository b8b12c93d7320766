package watch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/results"
)

func TestARolloutIsToldWhenItBeginsAndWhenItIsComplete(t *testing.T) {
	three := int32(3)
	at := func(generation, observed int64, updated, replicas, available int32) *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "product-catalog", Namespace: "prod-app", Generation: generation, Labels: map[string]string{"app.kubernetes.io/name": "product-catalog"}},
			Spec:       appsv1.DeploymentSpec{Replicas: &three},
			Status:     appsv1.DeploymentStatus{ObservedGeneration: observed, UpdatedReplicas: updated, Replicas: replicas, AvailableReplicas: available},
		}
	}
	var got []string
	w := &rollouts{rolling: map[string]bool{}, sink: func(e results.Event) {
		require.Equal(t, []string{"rollout", "product-catalog"}, []string{e.Kind, e.Fields[results.FieldService]})
		got = append(got, e.Fields["generation"]+" "+e.Fields[results.FieldState])
	}}
	states := []*appsv1.Deployment{
		at(1, 1, 3, 3, 3), at(2, 1, 3, 3, 3), at(2, 2, 1, 4, 3), at(2, 2, 3, 4, 3), at(2, 2, 3, 3, 3), at(2, 2, 3, 3, 3),
		at(2, 2, 3, 3, 2), at(2, 2, 3, 3, 3), // a pod was lost and came again
	}
	for i := 1; i < len(states); i++ {
		w.deployment(states[i-1], states[i])
	}
	w.deployment(nil, at(1, 0, 0, 0, 0))
	w.deployment(at(1, 1, 3, 3, 3), nil)
	require.Equal(t, []string{"2 begun", "2 complete", "1 begun"}, got)
}

func TestEventsOnCertificatesAndInjectionAreKept(t *testing.T) {
	now := time.Now()
	event := func(kind, reason, class string, at time.Time) *corev1.Event {
		return &corev1.Event{
			InvolvedObject: corev1.ObjectReference{Kind: kind, Name: "it", Namespace: "linkerd"}, Reason: reason, Message: "so it is", Type: class,
			LastTimestamp: metav1.NewTime(at),
		}
	}
	for _, c := range []struct {
		name  string
		event *corev1.Event
		want  string
	}{
		{"a request was approved", event("CertificateRequest", "cert-manager.io", corev1.EventTypeNormal, now), results.Certificate},
		{"a leaf was issued", event("ServiceAccount", "IssuedLeafCertificate", corev1.EventTypeNormal, now), results.Certificate},
		{"a pod was injected", event("Deployment", "Injected", corev1.EventTypeNormal, now), results.Webhook},
		{"a certificate could not be issued", event("Certificate", "Failed", corev1.EventTypeWarning, now), results.Warning},
		{"an image was pulled", event("Pod", "Pulled", corev1.EventTypeNormal, now), ""},
		{"before this run", event("Certificate", "Issuing", corev1.EventTypeNormal, now.Add(-time.Hour)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			w := &watcher{begun: now, sink: func(e results.Event) {
				got = e.Kind
				require.Equal(t, []string{"it", c.event.Reason + ": so it is"}, []string{e.Name, e.Detail})
			}}
			w.happened(nil, c.event)
			require.Equal(t, c.want, got)
		})
	}
}
