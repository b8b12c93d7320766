package steps

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/scenarios"
)

// databaseShop is a shop whose database has a proxy when its values say so.
type databaseShop struct {
	*shopStub
	client *fake.Clientset
	stuck  bool // it is never given one
}

func (s *databaseShop) Install(ctx context.Context, env *stack.Env) error {
	postgres, _ := env.Values["shop"]["postgres"].(map[string]any)
	meshed, _ := postgres["meshed"].(bool)
	for _, name := range stack.Databases() {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name + "-0", Namespace: shopNamespace, Labels: map[string]string{"app.kubernetes.io/name": name}}}
		if meshed && !s.stuck {
			pod.Spec.Containers = []corev1.Container{{Name: "linkerd-proxy"}}
		}
		if _, err := s.client.CoreV1().Pods(shopNamespace).Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return s.shopStub.Install(ctx, env)
}

// databases puts the database on the bench, with its replica or without.
func databases(t *testing.T, client *fake.Clientset, names ...string) {
	t.Helper()
	one := int32(1)
	for _, name := range names {
		_, err := client.AppsV1().StatefulSets(shopNamespace).Create(t.Context(), &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: shopNamespace}, Spec: appsv1.StatefulSetSpec{Replicas: &one},
			Status: appsv1.StatefulSetStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	for _, name := range stack.Databases() {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name + "-0", Namespace: shopNamespace, Labels: map[string]string{"app.kubernetes.io/name": name}}}
		_, err := client.CoreV1().Pods(shopNamespace).Create(t.Context(), pod, metav1.CreateOptions{})
		require.NoError(t, err)
	}
}

func TestTheDatabaseIsTakenIntoTheMeshLastAndOutOfItFirst(t *testing.T) {
	env, d, client := bench(t)
	env.Stack.Values = map[string]map[string]any{"shop": {"postgres": map[string]any{"replica": map[string]any{"enabled": true}}}}
	shop := &databaseShop{shopStub: &shopStub{}, client: client}
	env.Rollout = NewRollout(shop, nil)
	databases(t, client, "postgres", "postgres-replica")
	step, err := New(scenarios.Step{Options: &scenarios.Inject{Database: true}}, env)
	require.NoError(t, err)
	require.NoError(t, step.Execute(t.Context()))
	require.Equal(t, map[string]any{"meshed": true, "replica": map[string]any{"enabled": true}}, shop.values[0]["postgres"], "it keeps what else is said of it")
	require.Equal(t, []string{"note inject the database: done"}, d.lines)
	require.NoError(t, step.Execute(t.Context()))
	require.Len(t, shop.values, 1, "once is enough")

	d.lines = nil
	gone := &uninstallMesh{mesh: &meshStub{diary: d}, options: &scenarios.UninstallMesh{}, env: env}
	require.NoError(t, gone.Execute(t.Context()))
	require.Equal(t, []string{"note take the proxy from the database: done", "remove mesh"}, d.lines)
	require.NotContains(t, shop.values[1]["postgres"], "meshed")
	require.NoError(t, gone.Undo(t.Context()))
	require.Equal(t, true, shop.values[2]["postgres"].(map[string]any)["meshed"])
}

func TestADatabaseWithoutItsProxyIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		shop *databaseShop
		with []string
		want string
	}{
		"it was not injected":       {&databaseShop{shopStub: &shopStub{}, stuck: true}, []string{"postgres"}, "postgres was rolled, and 0 of its 1 pods have a proxy, not 1"},
		"the shop cannot be rolled": {&databaseShop{shopStub: &shopStub{err: errors.New("no")}}, []string{"postgres"}, "roll the database: no"},
		"there is no replica":       {&databaseShop{shopStub: &shopStub{}}, []string{"postgres"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			env, _, client := bench(t)
			c.shop.client = client
			env.Rollout = NewRollout(c.shop, nil)
			databases(t, client, c.with...)
			err := env.Rollout.meshDatabase(t.Context(), env, true)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}
