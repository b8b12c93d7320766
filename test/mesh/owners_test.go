//go:build conformance

package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/e2e-framework/klient/k8s"
)

// owner is something that could have made a pod, and the reference that such
// a pod would carry.
type owner struct {
	kind string // as the label has it
	name string
	ref  metav1.OwnerReference
}

// owners makes one of each kind that makes no pod by itself: of none, stopped,
// or for nodes that there are not.
func (l *lab) owners(ctx context.Context) ([]owner, error) {
	none, stopped := int32(0), true
	labels := map[string]string{"app": "owned"}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"meshsim.dev/none": "true"},
			Containers:   []corev1.Container{{Name: "app", Image: l.image, Args: []string{"hold"}}},
		},
	}
	job := template
	job.Spec.RestartPolicy = corev1.RestartPolicyNever
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: l.ns} }
	objects := []struct {
		kind, version string
		object        k8s.Object
	}{
		{"StatefulSet", "apps/v1", &appsv1.StatefulSet{ObjectMeta: meta("a-set"), Spec: appsv1.StatefulSetSpec{Replicas: &none, Selector: selector, Template: template, ServiceName: "owned"}}},
		{"DaemonSet", "apps/v1", &appsv1.DaemonSet{ObjectMeta: meta("a-daemon"), Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}},
		{"ReplicaSet", "apps/v1", &appsv1.ReplicaSet{ObjectMeta: meta("a-replica"), Spec: appsv1.ReplicaSetSpec{Replicas: &none, Selector: selector, Template: template}}},
		{"ReplicationController", "v1", &corev1.ReplicationController{ObjectMeta: meta("a-controller"), Spec: corev1.ReplicationControllerSpec{Replicas: &none, Selector: labels, Template: &template}}},
		{"Job", "batch/v1", &batchv1.Job{ObjectMeta: meta("a-job"), Spec: batchv1.JobSpec{Suspend: &stopped, Template: job}}},
	}
	var all []owner
	for _, o := range objects {
		if err := l.resources.Create(ctx, o.object); err != nil {
			return nil, fmt.Errorf("%s: %w", o.kind, err)
		}
		all = append(all, owner{strings.ToLower(o.kind), o.object.GetName(), reference(o.version, o.kind, o.object)})
	}
	deployed, err := l.deployed(ctx, &appsv1.Deployment{ObjectMeta: meta("a-deployment"), Spec: appsv1.DeploymentSpec{Replicas: &none, Selector: selector, Template: template}})
	return append(all, deployed), err
}

// deployed makes a Deployment and refers to its ReplicaSet: the Deployment is
// the pod's owner's owner, and that is what the label names.
func (l *lab) deployed(ctx context.Context, d *appsv1.Deployment) (owner, error) {
	if err := l.resources.Create(ctx, d); err != nil {
		return owner{}, err
	}
	var found owner
	err := eventually(ctx, settleWithin, func(ctx context.Context) error {
		sets, err := l.kube.Clientset.AppsV1().ReplicaSets(l.ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range sets.Items {
			if metav1.IsControlledBy(&sets.Items[i], d) {
				found = owner{"deployment", d.Name, reference("apps/v1", "ReplicaSet", &sets.Items[i])}
				return nil
			}
		}
		return errors.New("the Deployment has no ReplicaSet")
	})
	return found, err
}

func reference(version, kind string, o k8s.Object) metav1.OwnerReference {
	yes := true
	return metav1.OwnerReference{APIVersion: version, Kind: kind, Name: o.GetName(), UID: o.GetUID(), Controller: &yes}
}

func podServices(ctx context.Context, l *lab) (string, error) {
	const ports = "6000,6001"
	if err := l.annotateNamespace(ctx, map[string]string{annotationOpaque: ports}); err != nil {
		return "", err
	}
	service := l.service(l.server("web"))
	service.APIVersion, service.Kind = "v1", "Service"
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(service)
	if err != nil {
		return "", err
	}
	var seen string
	err = eventually(ctx, settleWithin, func(ctx context.Context) error {
		stored, err := l.kube.DryRun(ctx, &unstructured.Unstructured{Object: raw}, l.ns)
		if err != nil {
			return err
		}
		text, err := json.Marshal(stored.GetAnnotations())
		if err != nil {
			return err
		}
		seen = "annotations " + string(text)
		if stored.GetAnnotations()[annotationOpaque] != ports {
			return errors.New("the Service does not have its namespace's opaque ports")
		}
		return nil
	})
	return seen, err
}
