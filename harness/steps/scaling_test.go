package steps

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/scenarios"
)

// giveAutoscaler makes one that reads its first metrics when it is told to.
func giveAutoscaler(t *testing.T, client *fake.Clientset, service string) (read func()) {
	t.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: service, Namespace: shopNamespace},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: service}}, Status: autoscalingv2.HorizontalPodAutoscalerStatus{
			Conditions: []autoscalingv2.HorizontalPodAutoscalerCondition{{Type: autoscalingv2.ScalingActive, Status: corev1.ConditionFalse, Reason: "FailedGetResourceMetric", Message: "no metrics"}}}}
	all := client.AutoscalingV2().HorizontalPodAutoscalers(shopNamespace)
	_, err := all.Create(t.Context(), h, metav1.CreateOptions{})
	require.NoError(t, err)
	return func() {
		used := int32(40)
		h.Status.Conditions[0].Status = corev1.ConditionTrue
		h.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{Resource: &autoscalingv2.ResourceMetricStatus{
			Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: &used}}}}
		_, err := all.Update(t.Context(), h, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
}

func TestAnAutoscalerIsThereWhenItReadsMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := &shopStub{}
		env, d, client := bench(t)
		env.Rollout = NewRollout(shop, env.Rollout.Services)
		made, err := New(scenarios.Step{Options: &scenarios.Autoscale{Service: "product-catalog", Most: 5, ScaleDownAfter: 30 * time.Second}}, env)
		require.NoError(t, err)
		step := made.(*autoscale)
		require.NoError(t, step.Undo(t.Context()), "nothing was begun")
		require.False(t, env.Rollout.Autoscaled())

		require.ErrorContains(t, step.Execute(t.Context()), "product-catalog has no autoscaler, though it was given one")
		time.AfterFunc(45*time.Second, giveAutoscaler(t, client, "product-catalog"))
		require.NoError(t, step.Execute(t.Context()))
		require.Equal(t, map[string]any{"services": map[string]any{"product-catalog": map[string]any{"maxReplicas": 5, "scaleDownAfterSeconds": 30}}}, shop.values[1]["autoscaling"])
		require.Equal(t, []string{"note product-catalog has an autoscaler, which read its first metrics after 46s"}, d.lines)
		require.True(t, env.Rollout.Autoscaled())
		require.NoError(t, env.Rollout.change(t.Context(), env, "product-catalog", func(s *serviceState) { s.Inject = true }))
		require.Contains(t, shop.values[2], "autoscaling", "a later roll leaves it")
	})
}

func TestAnAutoscalerThatReadsNothingIsAFindingAndCanBeUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := &shopStub{}
		env, d, client := bench(t)
		env.Rollout = NewRollout(shop, env.Rollout.Services)
		giveAutoscaler(t, client, "product-catalog")
		step := &autoscale{options: &scenarios.Autoscale{Service: "product-catalog", Most: 5}, env: env}
		require.NoError(t, step.Execute(t.Context()), "a budget judges it")
		require.Equal(t, []string{"warn autoscaler of product-catalog: it has read no metrics within 4m0s: FailedGetResourceMetric: no metrics"}, d.lines)
		require.NoError(t, step.Undo(t.Context()))
		require.NotContains(t, shop.values[1], "autoscaling")

		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		require.EqualError(t, step.Execute(ctx), "enough")
	})
}

// scaled has the service's Deployment count so many pods.
func scaled(t *testing.T, client *fake.Clientset, pods, available int32) {
	t.Helper()
	all := client.AppsV1().Deployments(shopNamespace)
	d, err := all.Get(t.Context(), "product-catalog", metav1.GetOptions{})
	require.NoError(t, err)
	d.Status.Replicas, d.Status.AvailableReplicas = pods, available
	_, err = all.Update(t.Context(), d, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func TestReplicasAreAwaitedUntilTheyServeOrAreGone(t *testing.T) {
	for name, c := range map[string]struct {
		options         scenarios.AwaitReplicas
		pods, available int32 // after a minute
		want            string
	}{
		"out":                          {scenarios.AwaitReplicas{AtLeast: 4}, 4, 4, "note product-catalog has 4 pods after 1m0s"},
		"out, but they do not serve":   {scenarios.AwaitReplicas{AtLeast: 4}, 4, 3, "warn step await-replicas: product-catalog has 3 pods after 2m0s"},
		"back":                         {scenarios.AwaitReplicas{AtMost: 2}, 2, 2, "note product-catalog has 2 pods after 1m0s"},
		"back, but one pod is left":    {scenarios.AwaitReplicas{AtMost: 2}, 3, 2, "warn step await-replicas: product-catalog has 3 pods after 2m0s"},
		"nowhere, as it is there long": {scenarios.AwaitReplicas{AtLeast: 3}, 3, 3, "note product-catalog has 3 pods after 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env, d, client := bench(t)
				scaled(t, client, 3, 3)
				time.AfterFunc(time.Minute-time.Millisecond, func() { scaled(t, client, c.pods, c.available) })
				c.options.Service, c.options.Within = "product-catalog", 2*time.Minute
				step, err := New(scenarios.Step{Options: &c.options}, env)
				require.NoError(t, err)
				require.NoError(t, step.Execute(t.Context()))
				require.Equal(t, []string{c.want}, d.lines)
				time.Sleep(time.Minute) // what was to happen has happened
			})
		})
	}
	env, _, _ := bench(t)
	step := &awaitReplicas{options: &scenarios.AwaitReplicas{Service: "nobody", AtLeast: 1}, env: env}
	require.ErrorContains(t, step.Execute(t.Context()), "count the pods of nobody")
}

// replicaStub is a replica that streams and is read from, from some instants on.
type replicaStub struct {
	streams, read time.Time
}

func (r *replicaStub) Query(_ context.Context, sql string) ([][]string, error) {
	switch now := time.Now(); {
	case now.Before(r.streams):
		return nil, errors.New("connection refused")
	case strings.Contains(sql, "pg_stat_wal_receiver"):
		return [][]string{{"1"}}, nil
	case now.Before(r.read):
		return nil, nil
	}
	return [][]string{{"customer-profile"}}, nil
}

func TestTheReplicaIsWatchedComingBackAndBeingReadAgain(t *testing.T) {
	for name, c := range map[string]struct {
		newPod, streams, read time.Duration // from the deletion on
		streamed, again       int64         // ms
	}{
		"all goes well":               {2 * time.Second, 8 * time.Second, 20 * time.Second, 8000, 20_000},
		"the new pod is late":         {9 * time.Second, 4 * time.Second, 4 * time.Second, 9000, 9000},
		"it never streams":            {time.Second, time.Hour, time.Hour, -1, -1},
		"nobody reads from it again":  {time.Second, 2 * time.Second, time.Hour, 2000, -1},
		"it is back sooner than seen": {time.Second, time.Second, time.Second, 1000, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				env, d, client := bench(t)
				pod := func(uid string) *corev1.Pod {
					return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "postgres-replica-0", Namespace: shopNamespace, UID: types.UID(uid)}}
				}
				pods := client.CoreV1().Pods(shopNamespace)
				_, err := pods.Create(t.Context(), pod("old"), metav1.CreateOptions{})
				require.NoError(t, err)
				stub := &replicaStub{}
				step := &restartReplica{env: env, replica: stub}
				time.AfterFunc(c.newPod-time.Millisecond, func() {
					_, err := pods.Create(t.Context(), pod("new"), metav1.CreateOptions{})
					require.NoError(t, err)
				})
				begin := time.Now()
				before := stub.Query
				step.replica = queryFunc(func(ctx context.Context, sql string) ([][]string, error) {
					if _, err := pods.Get(ctx, "postgres-replica-0", metav1.GetOptions{}); err == nil && stub.streams.IsZero() {
						stub.streams, stub.read = begin.Add(c.streams), begin.Add(c.read)
						return [][]string{{"customer-profile"}}, nil // before it is deleted
					}
					return before(ctx, sql)
				})
				seen, err := step.restart(t.Context())
				require.NoError(t, err)
				require.Equal(t, []string{"customer-profile"}, seen.ReadBefore)
				require.Equal(t, []int64{c.streamed, c.again}, []int64{*seen.StreamedAfterMs, *seen.ReadAgainAfterMs})
				require.Equal(t, c.again >= 0, len(seen.ReadAgain) == 1)
				require.Empty(t, d.lines)
			})
		})
	}
	env, d, client := bench(t)
	step := &restartReplica{env: env, replica: &replicaStub{}}
	require.ErrorContains(t, step.Execute(t.Context()), "find the pod of the database's replica")
	_, err := client.CoreV1().Pods(shopNamespace).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "postgres-replica-0"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	require.ErrorContains(t, step.Execute(ctx), "enough")
	require.Empty(t, d.lines, "nothing is recorded of what was not seen to its end")
}

// queryFunc is a database that is a function.
type queryFunc func(context.Context, string) ([][]string, error)

func (f queryFunc) Query(ctx context.Context, sql string) ([][]string, error) { return f(ctx, sql) }
