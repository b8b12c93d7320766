package steps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// diary is what a step was seen to do, in order.
type diary struct{ lines []string }

func (d *diary) add(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}
func (d *diary) Note(detail string)       { d.add("note %s", detail) }
func (d *diary) Warn(what, detail string) { d.add("warn %s: %s", what, detail) }
func (d *diary) Probe(name string, data any) error {
	if check, ok := data.(results.LinkerdCheck); ok {
		name += " " + check.When
	}
	d.add("probe %s", name)
	return nil
}

// meshStub stands for the mesh.
type meshStub struct {
	*diary
	fail error
}

func (*meshStub) Name() string { return "mesh" }
func (m *meshStub) Install(_ context.Context, env *stack.Env) error {
	m.add("install mesh ha=%v %v", env.HA, env.Values["mesh"])
	return m.fail
}
func (m *meshStub) Ready(context.Context, *stack.Env) error  { m.add("ready"); return nil }
func (m *meshStub) Remove(context.Context, *stack.Env) error { m.add("remove mesh"); return nil }

// rollingShop notes which services changed, and gives their pods a proxy or not.
type rollingShop struct {
	*diary
	client *fake.Clientset
	was    map[string]any
}

func (*rollingShop) Name() string                             { return "shop" }
func (*rollingShop) Ready(context.Context, *stack.Env) error  { return nil }
func (*rollingShop) Remove(context.Context, *stack.Env) error { return nil }
func (s *rollingShop) Install(ctx context.Context, env *stack.Env) error {
	services := env.Values["shop"]["services"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		state := services[name].(map[string]any)
		if fmt.Sprint(state) == fmt.Sprint(s.was[name]) {
			continue
		}
		s.add("roll %s inject=%v policy=%v", name, state["inject"], state["inboundPolicy"])
		containers := []corev1.Container{{Name: "app"}}
		if state["inject"] == true {
			containers = append(containers, corev1.Container{Name: "linkerd-proxy"})
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name + "-1", Namespace: shopNamespace, Labels: map[string]string{"app.kubernetes.io/name": name}}, Spec: corev1.PodSpec{Containers: containers}}
		if _, err := s.client.CoreV1().Pods(shopNamespace).Update(ctx, pod, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	s.was = services
	return nil
}

// bench is a shop of two services on a fake cluster, with its diary.
func bench(t *testing.T) (*Env, *diary, *fake.Clientset) {
	t.Helper()
	one := int32(1)
	var objects []runtime.Object
	services := []string{"product-catalog", "order-processing"}
	for _, name := range services {
		objects = append(objects,
			&appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: shopNamespace},
				Spec:       appsv1.DeploymentSpec{Replicas: &one},
				Status:     appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1},
			},
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name + "-1", Namespace: shopNamespace}})
	}
	client, d := fake.NewClientset(objects...), &diary{}
	env := &Env{
		Kube: &kube.Client{Clientset: client}, Stack: &stack.Env{Mesh: stack.MeshLinkerd, Images: noImages{}, Kubeconfig: "/k"},
		Record: d, Progress: progress.Discard(),
	}
	env.Rollout = NewRollout(&rollingShop{diary: d, client: client}, services)
	return env, d, client
}

type noImages struct{}

func (noImages) Image(string) (bundle.Image, error) { return bundle.Image{}, errors.New("none") }
func (noImages) Chart(string) (string, error)       { return "", errors.New("none") }

func inject2(t *testing.T, env *Env, d *diary, policy string) {
	t.Helper()
	for _, name := range env.Rollout.Services {
		require.NoError(t, env.Rollout.change(t.Context(), env, name, func(s *serviceState) { s.Inject, s.InboundPolicy = true, policy }))
	}
	d.lines = nil
}

func TestAnUpgradeLaysItsValuesOverThoseOfBeforeAndRestartsOneServiceAfterAnother(t *testing.T) {
	env, d, client := bench(t)
	inject2(t, env, d, "")
	env.Stack.Values = map[string]map[string]any{"mesh": {"proxy": map[string]any{"cores": 1, "logLevel": "info"}}, "shop": {"drain": "kept"}}
	before := env.Stack.Values
	made, err := New(scenarios.Step{Name: "upgrade-mesh", Options: &scenarios.UpgradeMesh{
		Values: map[string]any{"proxy": map[string]any{"logLevel": "debug"}}, RollDataPlane: true,
	}}, env)
	require.NoError(t, err)
	step := made.(*upgradeMesh)
	step.mesh = &meshStub{diary: d}
	require.NoError(t, step.Undo(t.Context()), "nothing was begun")
	require.Empty(t, d.lines)

	require.NoError(t, step.Execute(t.Context()))
	require.Equal(t, []string{
		"install mesh ha=false map[proxy:map[cores:1 logLevel:debug]]", "ready", "note upgraded the mesh's control plane",
		"note restarted product-catalog", "note restarted order-processing",
	}, d.lines)
	require.Equal(t, "info", before["mesh"]["proxy"].(map[string]any)["logLevel"], "what was given is not touched")
	require.Equal(t, "kept", env.Stack.Values["shop"]["drain"])
	for _, name := range env.Rollout.Services {
		got, err := client.AppsV1().Deployments(shopNamespace).Get(t.Context(), name, metav1.GetOptions{})
		require.NoError(t, err)
		require.Contains(t, got.Spec.Template.Annotations, "kubectl.kubernetes.io/restartedAt", name)
	}

	d.lines = nil
	require.NoError(t, step.Undo(t.Context()))
	require.Equal(t, "install mesh ha=false map[proxy:map[cores:1 logLevel:info]]", d.lines[0])
	require.Equal(t, before["mesh"], env.Stack.Values["mesh"])
}

func TestAnUpgradeThatFailsCanBeUndone(t *testing.T) {
	env, d, _ := bench(t)
	env.Stack.HA = true
	step := &upgradeMesh{mesh: &meshStub{diary: d, fail: errors.New("no")}, options: &scenarios.UpgradeMesh{Values: map[string]any{"a": 1}}, env: env}
	require.ErrorContains(t, step.Execute(t.Context()), "no")
	step.mesh = &meshStub{diary: d}
	require.NoError(t, step.Undo(t.Context()))
	require.Equal(t, []string{"install mesh ha=true map[a:1]", "install mesh ha=true map[]", "ready", "note upgraded the mesh's control plane"}, d.lines,
		"the form is kept, the values are as before, and nothing is restarted that was not to be")
}

func TestARestartThatLosesAProxyIsAnError(t *testing.T) {
	env, d, client := bench(t)
	inject2(t, env, d, "")
	bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare", Namespace: shopNamespace, Labels: map[string]string{"app.kubernetes.io/name": "order-processing"}}}
	_, err := client.CoreV1().Pods(shopNamespace).Create(t.Context(), bare, metav1.CreateOptions{})
	require.NoError(t, err)
	step := &upgradeMesh{mesh: &meshStub{diary: d}, options: &scenarios.UpgradeMesh{RollDataPlane: true}, env: env}
	require.ErrorContains(t, step.Execute(t.Context()), "order-processing was restarted and lost its proxy: [bare]")
}

func TestTheShopLeavesTheMeshBeforeItIsRemovedAndComesBack(t *testing.T) {
	env, d, _ := bench(t)
	inject2(t, env, d, "all-authenticated")
	made, err := New(scenarios.Step{Name: "uninstall-mesh", Options: &scenarios.UninstallMesh{}}, env)
	require.NoError(t, err)
	step := made.(*uninstallMesh)
	step.mesh = &meshStub{diary: d}
	require.NoError(t, step.Undo(t.Context()))
	require.Empty(t, d.lines)

	require.NoError(t, step.Execute(t.Context()))
	require.Equal(t, []string{
		"roll order-processing inject=true policy=", "roll product-catalog inject=true policy=",
		"roll order-processing inject=false policy=", "roll product-catalog inject=false policy=",
		"remove mesh",
	}, d.lines, "nobody asks for mTLS any more when the first loses its proxy")
	require.Empty(t, env.Rollout.Injected())

	d.lines = nil
	require.NoError(t, step.Undo(t.Context()))
	require.Equal(t, []string{
		"install mesh ha=false map[]", "ready",
		"roll product-catalog inject=true policy=", "roll order-processing inject=true policy=",
		"roll product-catalog inject=true policy=all-authenticated", "roll order-processing inject=true policy=all-authenticated",
	}, d.lines)
}

func TestTheCRDsStayWhenTheyAreToBeKept(t *testing.T) {
	env, _, _ := bench(t)
	kept, err := newUninstallMesh(&scenarios.UninstallMesh{KeepCRDs: true}, env)
	require.NoError(t, err)
	require.Equal(t, stack.MeshLeavingCRDs(), kept.mesh)
}

func TestAServiceThatKeepsItsProxyStopsTheRemoval(t *testing.T) {
	env, d, client := bench(t)
	inject2(t, env, d, "")
	stuck := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "stuck", Namespace: shopNamespace, Labels: map[string]string{"app.kubernetes.io/name": "product-catalog"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "linkerd-proxy"}}},
	}
	_, err := client.CoreV1().Pods(shopNamespace).Create(t.Context(), stuck, metav1.CreateOptions{})
	require.NoError(t, err)
	step := &uninstallMesh{mesh: &meshStub{diary: d}, options: &scenarios.UninstallMesh{}, env: env}
	require.ErrorContains(t, step.Execute(t.Context()), "product-catalog was rolled and still has 1 pods with a proxy")
	require.NotContains(t, d.lines, "remove mesh")
}

func TestInstallingTheMeshRemembersItsFormAndKeepsWhatLinkerdCheckSays(t *testing.T) {
	env, d, _ := bench(t)
	env.Runner = &command.Fake{Respond: func(command.Cmd) (command.Output, error) {
		return command.Output{Stdout: []byte(`{"success":false,"categories":[{"categoryName":"c","checks":[{"description":"x","result":"error"}]}]}`)}, &command.Error{ExitCode: 1, Err: errors.New("exit status 1")}
	}}
	step := &install{component: &meshStub{diary: d}, options: &scenarios.Install{Component: "mesh", HA: true}, env: env}
	require.NoError(t, step.Execute(t.Context()), "a check that fails is a finding")
	require.Equal(t, []string{"install mesh ha=true map[]", "ready", "probe linkerd-check after install mesh"}, d.lines)
	require.True(t, env.Stack.HA)
}

func TestACheckNeedsLinkerdItsCommandAndAnAnswerThatCanBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		mesh string
		out  string
		err  error
		want string
	}{
		"the stand-in":              {stack.MeshStandIn, "", nil, ""},
		"no command":                {stack.MeshLinkerd, "", &command.Error{ExitCode: -1, Err: exec.ErrNotFound}, ""},
		"an answer that is no JSON": {stack.MeshLinkerd, "Error: no", &command.Error{ExitCode: 1, Err: errors.New("exit status 1")}, "warn linkerd check in the end: read what linkerd check says: it is not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			env, d, _ := bench(t)
			env.Stack.Mesh = c.mesh
			runner := &command.Fake{Respond: func(command.Cmd) (command.Output, error) { return command.Output{Stdout: []byte(c.out)}, c.err }}
			env.Runner = runner
			require.NoError(t, CheckMesh(t.Context(), env, "in the end", true))
			require.Equal(t, c.mesh == stack.MeshLinkerd, len(runner.Lines()) == 1)
			if c.want == "" {
				require.Empty(t, d.lines)
				return
			}
			require.Len(t, d.lines, 1)
			require.True(t, strings.HasPrefix(d.lines[0], c.want), d.lines[0])
		})
	}
	env, d, _ := bench(t)
	require.NoError(t, CheckMesh(t.Context(), env, "in the end", true), "no runner, no check")
	require.Empty(t, d.lines)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("Ctrl-C"))
	env.Runner = &command.Fake{}
	require.EqualError(t, CheckMesh(ctx, env, "in the end", true), "Ctrl-C")
}
