package kube

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
)

func fakeClient(objects ...runtime.Object) *Client {
	return &Client{Clientset: fake.NewClientset(objects...), poll: time.Millisecond}
}

func deployment(want int32, status appsv1.DeploymentStatus) *appsv1.Deployment {
	labels := map[string]string{"app": "catalog"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "catalog", Namespace: "prod-app", Generation: 2},
		Spec: appsv1.DeploymentSpec{Replicas: &want, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}},
		Status: status,
	}
}

func TestDeploymentIsRolledOutOnlyWhenEveryOldPodIsGone(t *testing.T) {
	tests := map[string]struct {
		status appsv1.DeploymentStatus
		done   bool
	}{
		"all new and available":             {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}, true},
		"the controller has not looked yet": {appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}, false},
		"an old pod is left":                {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 3, AvailableReplicas: 3}, false},
		"one is not available":              {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 2}, false},
		"only two are updated":              {appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 2, AvailableReplicas: 3}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.done, deploymentState(deployment(3, tc.status)).done)
		})
	}
}

func TestStatefulSetIsRolledOutWhenItsRevisionIsTheNewest(t *testing.T) {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Generation: 1}}
	set.Status = appsv1.StatefulSetStatus{ObservedGeneration: 1, Replicas: 1, ReadyReplicas: 1, UpdatedReplicas: 1, CurrentRevision: "a", UpdateRevision: "a"}
	require.True(t, statefulSetState(set).done)
	set.Status.UpdateRevision = "b"
	require.False(t, statefulSetState(set).done)
	set.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
	require.True(t, statefulSetState(set).done, "an OnDelete set never updates by itself")
	set.Status.ReadyReplicas = 0
	require.False(t, statefulSetState(set).done)
}

func TestDaemonSetIsRolledOutWhenEveryNodeHasIt(t *testing.T) {
	d := &appsv1.DaemonSet{}
	d.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3, NumberAvailable: 2}
	require.False(t, daemonSetState(d).done)
	d.Status.NumberAvailable = 3
	require.True(t, daemonSetState(d).done)
}

func TestWaitRolloutReturnsWhenDone(t *testing.T) {
	c := fakeClient(deployment(1, appsv1.DeploymentStatus{ObservedGeneration: 2}))
	go func() {
		time.Sleep(20 * time.Millisecond)
		done := deployment(1, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1})
		_, _ = c.Clientset.AppsV1().Deployments("prod-app").Update(context.Background(), done, metav1.UpdateOptions{})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, c.WaitRollout(ctx, "deployment", "prod-app", "catalog"))
}

func stuckPods() []runtime.Object {
	labels := map[string]string{"app": "catalog"}
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod-app", Labels: labels},
			Status: corev1.PodStatus{Phase: corev1.PodPending}}
	}
	ready := pod("catalog-1-ready")
	ready.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	pulling := pod("catalog-2-pull")
	pulling.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}}}}
	crashed := pod("catalog-3-crash")
	crashed.Status.Phase = corev1.PodRunning
	crashed.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", RestartCount: 4,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}}}
	unplaced := pod("catalog-4-unplaced")
	unplaced.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
		Reason: "Unschedulable", Message: "0/3 nodes: insufficient cpu"}}
	event := func(name, about, kind, reason, message string, minute int) *corev1.Event {
		return &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod-app"}, Type: "Warning",
			Reason: reason, Message: message, InvolvedObject: corev1.ObjectReference{Name: about, Kind: kind},
			LastTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC))}
	}
	return []runtime.Object{ready, pulling, crashed, unplaced,
		event("e2", "catalog-abc", "ReplicaSet", "FailedCreate", "violates PodSecurity", 2),
		event("e1", "catalog-3-crash", "Pod", "BackOff", "Back-off restarting", 1),
		event("e3", "orders-1", "Pod", "BackOff", "somebody else's", 3),
	}
}

func TestWaitRolloutSaysWhichPodsWaitForWhat(t *testing.T) {
	objects := append(stuckPods(), deployment(4, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 4, UpdatedReplicas: 4, AvailableReplicas: 1}))
	c := fakeClient(objects...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := c.WaitRollout(ctx, "deployment", "prod-app", "catalog")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, `rollout of deployment prod-app/catalog: context deadline exceeded: 4 of 4 updated, 1 available, 0 old left
    pod catalog-2-pull: Pending, container app ImagePullBackOff: no such image
    pod catalog-3-crash: Running, container app CrashLoopBackOff, before that ended with code 137 (OOMKilled), 4 restarts
    pod catalog-4-unplaced: Pending, not scheduled, Unschedulable: 0/3 nodes: insufficient cpu
    event Warning BackOff catalog-3-crash: Back-off restarting
    event Warning FailedCreate catalog-abc: violates PodSecurity`, err.Error())
}

func TestWaitRolloutOfNothingSaysThatItIsNotThere(t *testing.T) {
	c := fakeClient()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := c.WaitRollout(ctx, "statefulset", "vault", "vault")
	require.ErrorContains(t, err, `statefulsets.apps "vault" not found`)
}

func TestWaitRolloutWhoseTimeIsUpAlreadyStillSaysWhy(t *testing.T) {
	c := fakeClient(append(stuckPods(), deployment(4, appsv1.DeploymentStatus{}))...)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	err := c.WaitRollout(ctx, "deployment", "prod-app", "catalog")
	require.ErrorContains(t, err, "pod catalog-2-pull: Pending, container app ImagePullBackOff")
}

func TestWaitRolloutInterruptedEndsAtOnceWithItsCause(t *testing.T) {
	c := fakeClient(deployment(1, appsv1.DeploymentStatus{}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.WaitRollout(ctx, "deployment", "prod-app", "catalog")
	require.EqualError(t, err, "rollout of deployment prod-app/catalog: context canceled")
}

func TestWaitRolloutRefusesAKindThatDoesNotRollOut(t *testing.T) {
	require.ErrorIs(t, fakeClient().WaitRollout(t.Context(), "job", "a", "b"), errKind)
	require.ErrorIs(t, fakeClient().Restart(t.Context(), "job", "a", "b"), errKind)
}

func TestRestartStampsThePodTemplate(t *testing.T) {
	c := fakeClient(deployment(1, appsv1.DeploymentStatus{}))
	require.NoError(t, c.Restart(t.Context(), "deployment", "prod-app", "catalog"))
	d, err := c.Clientset.AppsV1().Deployments("prod-app").Get(t.Context(), "catalog", metav1.GetOptions{})
	require.NoError(t, err)
	stamp := d.Spec.Template.Annotations[restartedAt]
	_, err = time.Parse(time.RFC3339Nano, stamp)
	require.NoError(t, err, "the stamp is %q", stamp)
}

func TestWaitGoneWaitsForNotFound(t *testing.T) {
	c, looks := fakeClient(), 0
	get := func(context.Context) error {
		if looks++; looks < 3 {
			return nil
		}
		return apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "p")
	}
	require.NoError(t, c.WaitGone(t.Context(), "pod p", get))
	require.Equal(t, 3, looks)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := c.WaitGone(ctx, "pod p", func(context.Context) error { return nil })
	require.ErrorContains(t, err, "wait until pod p is gone")
}

func TestANamespaceIsRemovedOnceAndThenIsNoError(t *testing.T) {
	c := fakeClient(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "agents"}})
	require.NoError(t, c.RemoveNamespace(t.Context(), "agents"))
	_, err := c.Clientset.CoreV1().Namespaces().Get(t.Context(), "agents", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
	require.NoError(t, c.RemoveNamespace(t.Context(), "agents"))
}
