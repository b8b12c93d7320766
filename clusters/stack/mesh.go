package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"meshsim.dev/meshsim/clusters/fault"
	meshchart "meshsim.dev/meshsim/fakemesh/chart"
	meshcrds "meshsim.dev/meshsim/fakemesh/chart/crds"
)

// The meshes there are.
const (
	MeshLinkerd = "linkerd"
	MeshStandIn = "fakemesh"
)

// mesh is Linkerd's control plane, or its stand-in under the same names.
type mesh struct {
	keepCRDs bool // Remove leaves its kinds, and all that was made of them
}

// MeshLeavingCRDs is the component mesh whose Remove leaves the mesh's CRDs.
func MeshLeavingCRDs() Component { return reported{Component: mesh{keepCRDs: true}} }

func (mesh) Name() string { return "mesh" }

const (
	linkerdCRDs         = "linkerd-crds"
	linkerdControlPlane = "linkerd-control-plane"
	webhookCASecret     = "linkerd-webhook-ca"
)

// ProxyContainer is the container of a meshed pod that is the proxy.
const ProxyContainer = "linkerd-proxy"

// meshWebhook is an admission webhook of the mesh with its TLS certificate.
type meshWebhook struct {
	Value   string // key of the chart's values
	Service string
}

// Secret is where the chart looks for the certificate.
func (w meshWebhook) Secret() string { return w.Service + "-k8s-tls" }

// webhooks are those of the mesh, be it Linkerd or its stand-in.
func webhooks() []meshWebhook {
	return []meshWebhook{
		{"proxyInjector", "linkerd-proxy-injector"},
		{"profileValidator", "linkerd-sp-validator"},
		{"policyValidator", "linkerd-policy-validator"},
	}
}

func meshDeployments() []string {
	return []string{"linkerd-identity", "linkerd-destination", meshInjector}
}

func (m mesh) Install(ctx context.Context, env *Env) error {
	if env.Mesh != MeshLinkerd && env.Mesh != MeshStandIn {
		return fault.NewInvalid(fmt.Errorf("mesh %q is not known", env.Mesh), "meshes are "+MeshLinkerd+" and "+MeshStandIn)
	}
	if err := checkRoom(ctx, env); err != nil {
		return err
	}
	anchor, err := TrustAnchor(ctx, env)
	if err != nil {
		return err
	}
	releases, err := m.releases(env, anchor)
	if err != nil {
		return err
	}
	if err := ensureNamespace(ctx, env, NamespaceMesh); err != nil {
		return err
	}
	if err := setMeshLabels(ctx, env); err != nil {
		return err
	}
	if err := m.certificates(ctx, env); err != nil {
		return err
	}
	before, err := readInjector(ctx, env)
	if err != nil {
		return err
	}
	for _, r := range releases {
		if err := env.helm().Put(ctx, env, r); err != nil {
			return err
		}
	}
	return renewInjector(ctx, env, before)
}

// certificates has cert-manager make the webhooks' certificates, so that an
// upgrade of the chart does not make new ones and break every call to them
// meanwhile (failure modes I7, I8).
func (mesh) certificates(ctx context.Context, env *Env) error {
	text, err := webhookManifest()
	if err != nil {
		return err
	}
	if err := env.Kube.Apply(ctx, text, ""); err != nil {
		return err
	}
	for _, w := range webhooks() {
		if err := waitCondition(ctx, env, certificatesAPI, NamespaceMesh, w.Service, "Ready"); err != nil {
			return err
		}
	}
	return nil
}

func webhookManifest() ([]byte, error) {
	return manifest("mesh-webhooks.yaml", map[string]any{"Namespace": NamespaceMesh, "Webhooks": webhooks()})
}

func (m mesh) releases(env *Env, anchor []byte) ([]release, error) {
	values := meshValues(env, string(anchor), iptablesMode(os.DirFS("/")))
	crds, plane, err := m.charts(env, values)
	if err != nil {
		return nil, err
	}
	values = withOverrides(env, m.Name(), values)
	ofCRDs := map[string]any{}
	if on, given := values[valueHTTPRoutes]; given {
		ofCRDs[valueHTTPRoutes] = on
		delete(values, valueHTTPRoutes)
	}
	return []release{
		{Name: linkerdCRDs, Namespace: NamespaceMesh, Chart: crds, Values: ofCRDs},
		{Name: linkerdControlPlane, Namespace: NamespaceMesh, Chart: plane, Values: values},
	}, nil
}

// valueHTTPRoutes is a value of the CRDs' chart, the only one: false where a
// cluster has the Gateway API's HTTPRoute already.
const valueHTTPRoutes = "enableHttpRoutes"

// charts are those of the mesh that is chosen, with its images put into values.
func (mesh) charts(env *Env, values map[string]any) (crds, plane *chart.Chart, err error) {
	if env.Mesh == MeshStandIn {
		if values["image"], err = imageValues(env, "fakemesh"); err != nil {
			return nil, nil, err
		}
		if crds, err = chartFromFS(meshcrds.FS, "."); err != nil {
			return nil, nil, err
		}
		plane, err = chartFromFS(meshchart.FS, ".")
		return crds, plane, err
	}
	if err := linkerdImages(env, values); err != nil {
		return nil, nil, err
	}
	if crds, err = chartFromBundle(env, linkerdCRDs); err != nil {
		return nil, nil, err
	}
	plane, err = chartFromBundle(env, linkerdControlPlane)
	return crds, plane, err
}

// checkRoom says before anything is changed when the replicas of the highly
// available form could not all be placed: each wants a node of its own (O3).
func checkRoom(ctx context.Context, env *Env) error {
	if !env.HA {
		return nil
	}
	nodes, err := env.Kube.Clientset.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	free := 0
	for _, n := range nodes.Items {
		if !n.Spec.Unschedulable && !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Effect != corev1.TaintEffectPreferNoSchedule }) {
			free++
		}
	}
	if free < haReplicas {
		return fault.NewEnvironment(fmt.Errorf("the mesh's highly available form wants %d nodes that take any pod, and there are %d", haReplicas, free),
			"choose a topology with more nodes, or install the mesh without ha")
	}
	return nil
}

// Ready waits for the control plane and for an injection that works: pods that
// are made before would stay without a proxy, and nobody would tell (R6).
func (mesh) Ready(ctx context.Context, env *Env) error {
	for _, name := range meshDeployments() {
		if err := env.Kube.WaitRollout(ctx, "deployment", NamespaceMesh, name); err != nil {
			return err
		}
	}
	if err := ensureNamespace(ctx, env, NamespaceShop); err != nil {
		return err
	}
	err := until(ctx, "wait for the injector", 500*time.Millisecond, func(ctx context.Context) error {
		pod, err := env.Kube.DryRun(ctx, probePod(), NamespaceShop)
		if err != nil {
			return err
		}
		return hasProxy(pod)
	})
	if err != nil {
		return err
	}
	return allowScrapes(ctx, env)
}

// scrapesManifest lets Prometheus, which has no identity, read the metrics of
// the shop's proxies also when they take authenticated calls alone (P8). With a
// Server of its own the port keeps its probes authorised (P4).
func scrapesManifest() ([]byte, error) {
	return manifest("mesh-scrapes.yaml", map[string]any{"Namespace": NamespaceShop})
}

// allowScrapes waits for the validator too: it is asked about each of them.
func allowScrapes(ctx context.Context, env *Env) error {
	text, err := scrapesManifest()
	if err != nil {
		return err
	}
	return until(ctx, "wait for the policy validator", 500*time.Millisecond, func(ctx context.Context) error {
		return env.Kube.Apply(ctx, text, "")
	})
}

// probePod is sent to find out whether the injector is asked and answers.
func probePod() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"name": "meshsim-probe", "namespace": NamespaceShop,
			"annotations": map[string]any{"linkerd.io/inject": "enabled"},
		},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "app", "image": "meshsim.local/probe:none"}}},
	}}
}

// Meshed tells whether the pod runs a mesh proxy.
func Meshed(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == ProxyContainer })
}

func hasProxy(pod *unstructured.Unstructured) error {
	containers, _, err := unstructured.NestedSlice(pod.Object, "spec", "containers")
	if err != nil {
		return err
	}
	for _, c := range containers {
		if c, ok := c.(map[string]any); ok && c["name"] == ProxyContainer {
			return nil
		}
	}
	return errors.New("an annotated pod gets no linkerd-proxy: the injector is not asked yet")
}
