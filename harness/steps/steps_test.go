package steps

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/scenarios"
)

// shopStub takes the values that the shop would be installed with.
type shopStub struct {
	values []map[string]any
	err    error
}

func (s *shopStub) Name() string { return "shop" }
func (s *shopStub) Install(_ context.Context, env *stack.Env) error {
	s.values = append(s.values, env.Values["shop"])
	return s.err
}
func (s *shopStub) Ready(context.Context, *stack.Env) error  { return nil }
func (s *shopStub) Remove(context.Context, *stack.Env) error { return nil }

func TestARolloutSaysTheStateOfEveryServiceInTheShopsValues(t *testing.T) {
	shop := &shopStub{err: errors.New("stop here")}
	r := NewRollout(shop, []string{"product-catalog", "order-processing"})
	env := &Env{Stack: &stack.Env{Values: map[string]map[string]any{"shop": {"drain": "kept"}, "vault": {"x": 1}}}}
	err := r.change(context.Background(), env, "order-processing", func(s *serviceState) { s.Inject, s.SecretsSource = true, "vault" })
	require.ErrorContains(t, err, "roll order-processing: stop here")
	require.Equal(t, map[string]any{
		"drain": "kept",
		"services": map[string]any{
			"product-catalog":  map[string]any{"inject": false, "secretsSource": "", "inboundPolicy": ""},
			"order-processing": map[string]any{"inject": true, "secretsSource": "vault", "inboundPolicy": ""},
		},
	}, shop.values[0])
	require.NotContains(t, env.Stack.Values["shop"], "services", "the environment's own values are not touched")
	require.Equal(t, []string{"order-processing"}, r.Injected())
}

func TestAServiceThatIsAsItShouldBeIsNotRolled(t *testing.T) {
	shop := &shopStub{}
	r := NewRollout(shop, []string{"product-catalog"})
	require.NoError(t, r.change(context.Background(), &Env{Stack: &stack.Env{}}, "product-catalog", func(*serviceState) {}))
	require.Empty(t, shop.values)
	require.ErrorContains(t, r.change(context.Background(), &Env{}, "nobody", func(*serviceState) {}), `no service "nobody"`)
}

func TestEveryStepOfAScenarioHasItsExecutor(t *testing.T) {
	all, err := scenarios.Shipped()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	for _, shipped := range all {
		s, err := scenarios.Load(shipped.Name)
		require.NoError(t, err)
		for _, phase := range s.Spec.Phases {
			for _, step := range phase.Steps {
				made, err := New(step, &Env{})
				require.NoError(t, err, step.Name)
				require.NotNil(t, made)
			}
		}
	}
	_, err = New(scenarios.Step{Name: "fly"}, &Env{})
	require.ErrorContains(t, err, `"fly"`)
}

func TestTheTwinsShareANodeAndTheirClientIsElsewhere(t *testing.T) {
	text, err := render(twinsManifest, agentManifest{Namespace: "probe", Image: "agent:1", Args: []string{"--triples=5"}})
	require.NoError(t, err)
	objects, err := kube.Decode(text)
	require.NoError(t, err)
	require.Len(t, objects, 6)
	client := objects[5]
	require.Equal(t, "twin-client", client.GetName())
	require.Equal(t, "9001", client.GetAnnotations()["config.linkerd.io/skip-outbound-ports"], "calls to the plain twin pass by the proxy")
	require.Equal(t, "enabled", client.GetAnnotations()["linkerd.io/inject"])
	require.Equal(t, "disabled", objects[1].GetAnnotations()["linkerd.io/inject"])
	require.Contains(t, string(text), `"--triples=5"`)
	require.Contains(t, string(text), "twin-meshed.probe:9000")
}

// bundled is a bundle whose images are called after their names.
type bundled struct{}

func (bundled) Image(name string) (bundle.Image, error) {
	return bundle.Image{Name: name, Ref: name + ":1"}, nil
}
func (bundled) Chart(name string) (string, error) { return "", errors.New("no chart " + name) }

func TestTheShopsTwinsDifferByTheirProxiesAlone(t *testing.T) {
	text, err := shopTwins(bundled{}, []string{"--triples=5"})
	require.NoError(t, err)
	objects, err := kube.Decode(text)
	require.NoError(t, err)
	pods := map[string]corev1.Pod{}
	services := map[string]map[string]string{}
	for _, o := range objects {
		require.Equal(t, probeNamespace, o.GetNamespace(), o.GetName())
		raw, err := json.Marshal(o.Object)
		require.NoError(t, err)
		switch o.GetKind() {
		case "Pod":
			var p corev1.Pod
			require.NoError(t, json.Unmarshal(raw, &p))
			pods[p.Name] = p
		case "Service":
			var s corev1.Service
			require.NoError(t, json.Unmarshal(raw, &s))
			services[s.Name] = s.Spec.Selector
		}
	}
	require.Len(t, pods, 7)
	for service, short := range map[string]string{"product-catalog": "catalog", "inventory-management": "inventory", "recommendation-service": "recommend"} {
		plain, meshed := pods[short+"-plain"], pods[short+"-meshed"]
		require.Equal(t, map[string]string{"app": short + "-plain"}, services[short+"-plain"])
		require.Equal(t, map[string]string{"app": short + "-meshed"}, services[short+"-meshed"])
		require.Equal(t, []string{"disabled", "enabled"}, []string{plain.Annotations["linkerd.io/inject"], meshed.Annotations["linkerd.io/inject"]})
		require.Equal(t, "8080,9091", meshed.Annotations["config.linkerd.io/skip-inbound-ports"], "customers come unmeshed")
		beside := meshed.Spec.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		require.Equal(t, short+"-plain", beside[0].LabelSelector.MatchLabels["app"], "on the same node")
		for _, p := range []corev1.Pod{plain, meshed} {
			require.Equal(t, []string{"serve", service}, p.Spec.Containers[0].Args)
			require.Equal(t, "fakeshop:1", p.Spec.Containers[0].Image)
			require.Equal(t, twinLogin, p.Spec.Volumes[0].Secret.SecretName)
		}
		env := func(p corev1.Pod) map[string]string {
			all := map[string]string{}
			for _, e := range p.Spec.Containers[0].Env {
				all[e.Name] = e.Value
			}
			return all
		}
		require.Equal(t, "postgres.prod-app", env(plain)["SHOP_DB_HOST"])
		require.Equal(t, "product-catalog=dns:///catalog-plain.meshsim-probe:9090,inventory-management=dns:///inventory-plain.meshsim-probe:9090,"+
			"recommendation-service=dns:///recommend-plain.meshsim-probe:9090", env(plain)["SHOP_TARGETS"])
		require.Equal(t, strings.ReplaceAll(env(plain)["SHOP_TARGETS"], "-plain", "-meshed"), env(meshed)["SHOP_TARGETS"])
		require.Equal(t, probeNamespace, env(meshed)["SHOP_NAMESPACE"], "they call nobody of the shop itself")
	}
	client := pods["twin-client"]
	require.Equal(t, "disabled", client.Annotations["linkerd.io/inject"])
	require.Equal(t, []string{
		"twin-client", "--plain=http://catalog-plain.meshsim-probe:8080" + twinPage, "--meshed=http://catalog-meshed.meshsim-probe:8080" + twinPage, "--triples=5",
	}, client.Spec.Containers[0].Args)
}

func TestOnlyTheAgentsOwnEndIsWaitedFor(t *testing.T) {
	pod := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
		{Name: "linkerd-proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		{Name: "agent", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}},
	}}}
	require.Equal(t, int32(3), ended(pod, "agent").ExitCode)
	require.Nil(t, ended(pod, "linkerd-proxy"))
}

func TestAResultIsTheLastLine(t *testing.T) {
	require.Equal(t, `{"a":1}`, string(lastLine([]byte("warming up\n{\"a\":1}\n"))))
	require.Equal(t, ``, string(lastLine(nil)))
}
