package probes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/results"
)

func autoscaler(name string, percent *int32, conditions ...autoscalingv2.HorizontalPodAutoscalerCondition) *autoscalingv2.HorizontalPodAutoscaler {
	least, target := int32(3), int32(70)
	h := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod-app", Labels: map[string]string{"app.kubernetes.io/name": name}},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: name}, MinReplicas: &least, MaxReplicas: 5, Metrics: []autoscalingv2.MetricSpec{{
			Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{AverageUtilization: &target}}}}},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: 3, DesiredReplicas: 5, Conditions: conditions},
	}
	if percent != nil {
		h.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricStatus{
			Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: percent}}}}
	}
	return h
}

// scaled is a Deployment with 4 pods.
func scaled(name string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "prod-app"}, Status: appsv1.DeploymentStatus{Replicas: 4}}
}

func TestAutoscalersAreReadByTheirStatusAndWhatTheyScale(t *testing.T) {
	active := func(status corev1.ConditionStatus, reason string) autoscalingv2.HorizontalPodAutoscalerCondition {
		return autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.ScalingActive, Status: status, Reason: reason, Message: "so it is"}
	}
	able := autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.AbleToScale, Status: corev1.ConditionTrue}
	used := int32(112)
	client := fake.NewClientset(
		autoscaler("product-catalog", &used, able, active(corev1.ConditionTrue, "ValidMetricFound")),
		autoscaler("order-processing", nil, able, active(corev1.ConditionFalse, "FailedGetResourceMetric")),
		autoscaler("analytics-service", nil),
		scaled("product-catalog"), scaled("order-processing"), scaled("analytics-service"),
	)
	seen, err := Autoscaling(t.Context(), client, "peak")
	require.NoError(t, err)
	percent := 112
	common := results.Autoscaler{Least: 3, Most: 5, Current: 4, Desired: 5, Target: 70}
	fresh, blind, fine := common, common, common
	fresh.Name, fresh.Service, fresh.Why = "analytics-service", "analytics-service", "it has not looked yet"
	blind.Name, blind.Service, blind.Why = "order-processing", "order-processing", "FailedGetResourceMetric: so it is"
	fine.Name, fine.Service, fine.Percent, fine.Active = "product-catalog", "product-catalog", &percent, true
	require.Equal(t, results.Autoscaling{Phase: "peak", Autoscalers: []results.Autoscaler{fresh, blind, fine}}, seen)
	require.Equal(t, []bool{false, false, true}, []bool{fresh.Measured(), blind.Measured(), fine.Measured()})

	_, err = Autoscaling(t.Context(), fake.NewClientset(autoscaler("product-catalog", nil)), "peak")
	require.ErrorContains(t, err, "look at what autoscaler product-catalog scales")

	seen, err = Autoscaling(t.Context(), fake.NewClientset(), "peak")
	require.NoError(t, err)
	require.Equal(t, results.Autoscaling{Phase: "peak", Autoscalers: []results.Autoscaler{}}, seen)
}

// pair is a primary and its replica, which answers as behind says.
type pair struct {
	standbys [][]string
	written  string
	behind   func() error // nil: the replica has what was written
	readers  [][]string
}

func (p *pair) Query(_ context.Context, sql string) ([][]string, error) {
	switch {
	case strings.Contains(sql, "pg_stat_replication"):
		return p.standbys, nil
	case strings.Contains(sql, "INSERT INTO rehearsal.marks"):
		_, rest, _ := strings.Cut(sql, "('replication', '")
		p.written, _, _ = strings.Cut(rest, "'")
		return nil, nil
	case strings.Contains(sql, "FROM rehearsal.marks"):
		if err := p.behind(); err != nil {
			return nil, err
		}
		return [][]string{{p.written}}, nil
	case strings.Contains(sql, "pg_stat_activity"):
		return p.readers, nil
	case strings.Contains(sql, "pg_stat_wal_receiver"):
		return [][]string{{"1"}}, p.behind()
	}
	return nil, errors.New("asked " + sql)
}

func TestARowThatIsWrittenIsLookedForOnTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		p := &pair{
			standbys: [][]string{{"walreceiver", "streaming", "4096", "0.012"}, {"pg_basebackup", "backup", "", ""}},
			readers:  [][]string{{"customer-profile"}, {"product-catalog"}},
			behind: func() error {
				if tries++; tries < 4 {
					return errors.New(`relation "rehearsal.marks" does not exist`)
				}
				return nil
			},
		}
		seen, err := Replication(t.Context(), p, p, "soak")
		require.NoError(t, err)
		bytes, seconds, after := int64(4096), 0.012, int64(300)
		require.Equal(t, results.Replication{
			Phase: "soak", ReadableAfterMs: &after, Readers: []string{"customer-profile", "product-catalog"},
			Standbys: []results.Standby{{Name: "walreceiver", State: "streaming", LagBytes: &bytes, LagSeconds: &seconds}, {Name: "pg_basebackup", State: "backup"}},
		}, seen)
		require.Len(t, p.written, 26, "another row each time")
	})
}

func TestAReplicaThatDoesNotFollowIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pair{behind: func() error { return errors.New("it is away") }}
		seen, err := Replication(t.Context(), p, p, "soak")
		require.NoError(t, err)
		require.Equal(t, int64(-1), *seen.ReadableAfterMs)
		require.Equal(t, "it is away", seen.Why)
		require.Empty(t, seen.Standbys)
		require.ErrorContains(t, ReplicaStreams(t.Context(), p), "it is away")

		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		_, err = Replication(ctx, p, p, "soak")
		require.EqualError(t, err, "enough")
	})
}

func TestALineOfReplicationThatCannotBeReadIsAnError(t *testing.T) {
	for name, row := range map[string][]string{
		"too short": {"walreceiver", "streaming"}, "no number of bytes": {"w", "streaming", "many", ""}, "no number of seconds": {"w", "streaming", "1", "long"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pair{standbys: [][]string{row}}
			_, err := Replication(t.Context(), p, p, "soak")
			require.Error(t, err)
		})
	}
}

func TestAReplicaSaysWhetherItStreams(t *testing.T) {
	p := &pair{behind: func() error { return nil }}
	require.NoError(t, ReplicaStreams(t.Context(), p))
	require.ErrorIs(t, ReplicaStreams(t.Context(), silent{}), ErrNotStreaming)
}

// silent is a replica that receives nothing.
type silent struct{}

func (silent) Query(context.Context, string) ([][]string, error) { return [][]string{{"0"}}, nil }

func TestTheReplicaIsAskedInItsOwnPod(t *testing.T) {
	s := &shell{out: "1\n"}
	for replica, pod := range map[bool]string{false: "postgres-0", true: "postgres-replica-0"} {
		_, err := PSQL{Exec: s.Exec, Replica: replica}.Query(t.Context(), "SELECT 1")
		require.NoError(t, err)
		require.Equal(t, []string{"prod-app", pod, "postgres"}, s.argv[:3])
	}
}
