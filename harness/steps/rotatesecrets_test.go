package steps

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// keeping keeps the data of a step's probe.
type keeping struct {
	diary
	data any
}

func (k *keeping) Probe(name string, data any) error {
	k.data = data
	return k.diary.Probe(name, data)
}

// sessions is a database whose services are connected as it says.
type sessions struct{ now [][]string }

func (s *sessions) Query(context.Context, string) ([][]string, error) { return s.now, nil }

func rotatorCron() *batchv1.CronJob {
	return &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "secret-rotator", Namespace: shopNamespace, UID: "of-the-cron"},
		Spec: batchv1.CronJobSpec{Schedule: "23 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{ServiceAccountName: "secret-rotator",
				Containers: []corev1.Container{{Name: "rotate", Image: "shop:1", Args: []string{"rotate"}}}}},
		}}},
	}
}

// rotationBench is a shop of two services that read Vault, and a cluster whose
// Jobs end as said.
func rotationBench(t *testing.T, end batchv1.JobConditionType, objects ...runtime.Object) (*rotateSecrets, *keeping, *fake.Clientset, *sessions) {
	t.Helper()
	client, d, db := fake.NewClientset(objects...), &keeping{}, &sessions{now: [][]string{
		{"product-catalog", "shop_vault", "3"}, {"order-processing", "shop_vault", "2"}}}
	env := &Env{Kube: &kube.Client{Clientset: client}, Stack: &stack.Env{}, Record: d, Progress: progress.Discard(),
		Rollout: NewRollout(&shopStub{}, []string{"product-catalog", "order-processing"})}
	for _, name := range env.Rollout.Services {
		env.Rollout.services[name] = serviceState{SecretsSource: sourceVault}
	}
	s := newRotateSecrets(env)
	s.database, s.replica, s.look, s.jobTime, s.loginTime = db, nil, time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	s.log = func(_ context.Context, pod string) ([]byte, error) {
		return []byte("first words\nlast words of " + pod + "\n"), nil
	}
	version := 1
	s.stored = func(context.Context) ([]stack.StoredSecret, error) {
		return []stack.StoredSecret{{Path: "secret/prod-app/product-catalog", Version: version, Every: time.Duration(version-1) * time.Hour}}, nil
	}
	client.PrependReactor("create", "jobs", func(a clienttesting.Action) (bool, runtime.Object, error) {
		job := a.(clienttesting.CreateAction).GetObject().(*batchv1.Job)
		if end == "" {
			return false, nil, nil
		}
		job.Status.Conditions = []batchv1.JobCondition{{Type: end, Status: corev1.ConditionTrue, Reason: "ItsReason", Message: "its message"}}
		if end == batchv1.JobComplete {
			version = 2
			db.now = [][]string{{"product-catalog", "shop_product_catalog_a", "3"}, {"order-processing", "shop_order_processing_a", "2"}}
		}
		return false, nil, nil
	})
	return s, d, client, db
}

func TestARotationIsAJobOfTheCronJobAndIsOverWhenEveryServiceUsesItsNewLogin(t *testing.T) {
	s, d, client, _ := rotationBench(t, batchv1.JobComplete, rotatorCron())
	require.NoError(t, s.Execute(t.Context()))
	jobs, err := client.BatchV1().Jobs(shopNamespace).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, jobs.Items, 1)
	job := jobs.Items[0]
	require.True(t, strings.HasPrefix(job.Name, "secret-rotator-now-"), job.Name)
	require.Equal(t, []string{"rotate", "--now"}, job.Spec.Template.Spec.Containers[0].Args)
	require.Equal(t, "secret-rotator", job.Spec.Template.Spec.ServiceAccountName)
	require.Equal(t, []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: "secret-rotator", UID: "of-the-cron"}}, job.OwnerReferences)
	require.Equal(t, "manual", job.Annotations["cronjob.kubernetes.io/instantiate"])
	cron, err := client.BatchV1().CronJobs(shopNamespace).Get(t.Context(), "secret-rotator", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"rotate"}, cron.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args, "the CronJob itself is as it was")

	seen := d.data.(results.SecretsRotated)
	require.Equal(t, []results.RotatedSecret{{Path: "secret/prod-app/product-catalog", From: 1, To: 2}}, seen.Secrets)
	require.Equal(t, []results.UsedLogin{
		{Service: "product-catalog", Login: "shop_product_catalog_a", Sessions: 3, Before: []string{"shop_vault"}},
		{Service: "order-processing", Login: "shop_order_processing_a", Sessions: 2, Before: []string{"shop_vault"}},
	}, seen.Logins)
	require.Equal(t, job.Name, seen.Job)
	require.GreaterOrEqual(t, seen.UsedMs, seen.JobMs)
	require.Equal(t, []string{"note rotated 1 secrets; every service that reads Vault uses its new login", "probe secrets-rotated"}, d.lines)
}

func TestARotationThatDoesNotComeToItsEndSaysWhyAndWhatToDo(t *testing.T) {
	pod := func(job string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "its-pod", Namespace: shopNamespace, Labels: map[string]string{"job-name": job}}}
	}
	for name, c := range map[string]struct {
		end     batchv1.JobConditionType
		objects []runtime.Object
		change  func(*rotateSecrets, *fake.Clientset, *sessions)
		says    []string
	}{
		"no CronJob":       {batchv1.JobComplete, nil, nil, []string{"there is no CronJob prod-app/secret-rotator", "rotation.enabled"}},
		"a Job that fails": {batchv1.JobFailed, []runtime.Object{rotatorCron()}, nil, []string{"failed: ItsReason its message; last: last words of its-pod", "kubectl -n prod-app describe job secret-rotator-now-", "the old logins still work"}},
		"a Job that lasts": {"", []runtime.Object{rotatorCron()}, nil, []string{"has not ended within 200ms", "mend"}},
		"a secret that stays": {batchv1.JobComplete, []runtime.Object{rotatorCron()}, func(s *rotateSecrets, _ *fake.Clientset, _ *sessions) {
			s.stored = func(context.Context) ([]stack.StoredSecret, error) {
				return []stack.StoredSecret{{Path: "a", Version: 1}}, nil
			}
		}, []string{"not all secrets are renewed: a has no new version"}},
		"a secret without a period": {batchv1.JobComplete, []runtime.Object{rotatorCron()}, func(s *rotateSecrets, _ *fake.Clientset, _ *sessions) {
			n := 0
			s.stored = func(context.Context) ([]stack.StoredSecret, error) {
				n++
				return []stack.StoredSecret{{Path: "a", Version: n}}, nil
			}
		}, []string{"a does not say how often it is renewed"}},
		"a service that goes on as before": {batchv1.JobComplete, []runtime.Object{rotatorCron()}, func(s *rotateSecrets, _ *fake.Clientset, db *sessions) {
			s.database = &sessions{now: [][]string{{"product-catalog", "shop_vault", "1"}, {"product-catalog", "shop_product_catalog_a", "1"}}}
		}, []string{"200ms after the rotation: product-catalog is connected as shop_product_catalog_a and shop_vault; order-processing is not connected", "mend"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, d, client, db := rotationBench(t, c.end, c.objects...)
			if c.change != nil {
				c.change(s, client, db)
			}
			client.PrependReactor("list", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
				return true, &corev1.PodList{Items: []corev1.Pod{*pod(strings.TrimPrefix(a.(clienttesting.ListAction).GetListRestrictions().Labels.String(), "job-name="))}}, nil
			})
			err := s.Execute(t.Context())
			require.Equal(t, fault.Environment, fault.KindOf(err), err)
			for _, words := range c.says {
				require.ErrorContains(t, err, words)
			}
			require.Empty(t, d.lines)
		})
	}
}

func TestALoginOfBeforeOrOfAnotherServiceIsNotNew(t *testing.T) {
	before := map[string]map[string]int{"product-catalog": {"shop_product_catalog_a": 2}}
	for login, says := range map[string]string{
		"shop_product_catalog_a":  "product-catalog is still connected as shop_product_catalog_a",
		"shop_order_processing_b": "product-catalog is connected as shop_order_processing_b",
		"":                        "product-catalog is connected as ",
	} {
		_, err := newLogins([]string{"product-catalog"}, before, map[string]map[string]int{"product-catalog": {login: 1}})
		require.EqualError(t, err, says)
	}
	used, err := newLogins([]string{"product-catalog"}, before, map[string]map[string]int{"product-catalog": {"shop_product_catalog_b": 1}, "order-processing": {"shop": 1}})
	require.NoError(t, err, "a service that reads files is not asked about")
	require.Equal(t, []results.UsedLogin{{Service: "product-catalog", Login: "shop_product_catalog_b", Sessions: 1, Before: []string{"shop_product_catalog_a"}}}, used)
}

func TestSecretsThatMovedAreRenewedFromThenOn(t *testing.T) {
	shop := &shopStub{}
	r := NewRollout(shop, []string{"product-catalog"})
	env := &Env{Stack: &stack.Env{Values: map[string]map[string]any{"shop": {"rotation": map[string]any{"periodHours": 24}}}}, Rollout: r}
	require.Equal(t, map[string]any{"periodHours": 24}, r.env(env).Values["shop"]["rotation"])
	r.secretsMoved = true
	require.Equal(t, map[string]any{"periodHours": 24, "enabled": true}, r.env(env).Values["shop"]["rotation"])
	require.Equal(t, map[string]any{"periodHours": 24}, env.Stack.Values["shop"]["rotation"])
	made, err := New(scenarios.Step{Name: "rotate-secrets", Options: &scenarios.RotateSecrets{}}, env)
	require.NoError(t, err)
	require.IsType(t, &rotateSecrets{}, made)
}

func TestTheReplicasSessionsCountWhereThereIsOne(t *testing.T) {
	s, _, client, _ := rotationBench(t, batchv1.JobComplete, rotatorCron())
	databases, err := s.databases(t.Context())
	require.NoError(t, err)
	require.Len(t, databases, 1)
	_, err = client.CoreV1().Pods(shopNamespace).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: stack.ReplicaPod, Namespace: shopNamespace}}, metav1.CreateOptions{})
	require.NoError(t, err)
	databases, err = s.databases(t.Context())
	require.NoError(t, err)
	require.Len(t, databases, 2)
	client.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("no answer")
	})
	_, err = s.databases(t.Context())
	require.ErrorContains(t, err, "look for the database's replica")
}
