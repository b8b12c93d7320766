package stack

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

func (b *bench) namespace(name string, labels object) {
	b.cluster.put("/api/v1/namespaces/"+name, object{"kind": "Namespace", "apiVersion": "v1", "metadata": object{"name": name, "labels": labels}})
}

func (b *bench) labels(namespace string) object {
	meta := b.cluster.get("/api/v1/namespaces/" + namespace)["metadata"].(object)
	labels, _ := meta["labels"].(object)
	return labels
}

func TestTheMeshsLabelsComeAndGoAndNobodyElsesDo(t *testing.T) {
	b := newBench(t)
	b.namespace("linkerd", object{"pod-security.kubernetes.io/enforce": "privileged"})
	b.namespace("kube-system", object{"kubernetes.io/metadata.name": "kube-system"})
	for range 2 {
		require.NoError(t, setMeshLabels(t.Context(), b.Env))
	}
	require.Equal(t, object{
		"pod-security.kubernetes.io/enforce": "privileged", "linkerd.io/is-control-plane": "true",
		"linkerd.io/control-plane-ns": "linkerd", "config.linkerd.io/admission-webhooks": "disabled",
	}, b.labels("linkerd"))
	require.Equal(t, object{"kubernetes.io/metadata.name": "kube-system", "config.linkerd.io/admission-webhooks": "disabled"}, b.labels("kube-system"))
	for range 2 {
		require.NoError(t, dropMeshLabels(t.Context(), b.Env))
	}
	require.Equal(t, object{"pod-security.kubernetes.io/enforce": "privileged"}, b.labels("linkerd"))
	require.Equal(t, object{"kubernetes.io/metadata.name": "kube-system"}, b.labels("kube-system"))
	annotations, _ := b.cluster.get("/api/v1/namespaces/kube-system")["metadata"].(object)["annotations"].(object)
	require.Empty(t, annotations)

	b.namespace("kube-system", object{"config.linkerd.io/admission-webhooks": "disabled"})
	require.NoError(t, setMeshLabels(t.Context(), b.Env))
	require.NoError(t, dropMeshLabels(t.Context(), b.Env))
	require.Equal(t, object{"config.linkerd.io/admission-webhooks": "disabled"}, b.labels("kube-system"), "it was there before")
}

// meshed puts on the cluster what a mesh has, and what only looks like it.
func (b *bench) meshed(t *testing.T) {
	t.Helper()
	b.namespace("kube-system", object{})
	require.NoError(t, ensureNamespace(t.Context(), b.Env, NamespaceMesh))
	require.NoError(t, setMeshLabels(t.Context(), b.Env))
	require.NoError(t, mesh{}.certificates(t.Context(), b.Env))
	require.NoError(t, allowScrapes(t.Context(), b.Env))
	const crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"
	crd := func(name string, labels, annotations object) {
		b.cluster.put(crds+name, object{"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
			"metadata": object{"name": name, "labels": labels, "annotations": annotations}})
	}
	crd("servers.policy.linkerd.io", object{"linkerd.io/control-plane-ns": "linkerd"}, nil)
	crd("httproutes.gateway.networking.k8s.io", nil, object{"meta.helm.sh/release-name": "linkerd-crds", "meta.helm.sh/release-namespace": "linkerd"})
	crd("gateways.gateway.networking.k8s.io", nil, object{"meta.helm.sh/release-name": "gateway-api", "meta.helm.sh/release-namespace": "linkerd"})
	for path, o := range map[string]object{
		"/api/v1/namespaces/linkerd/secrets/linkerd-webhook-ca":                                                         {"kind": "Secret"},
		"/api/v1/namespaces/linkerd/secrets/linkerd-proxy-injector-k8s-tls":                                             {"kind": "Secret"},
		"/apis/coordination.k8s.io/v1/namespaces/linkerd/leases/policy-controller-write":                                {"kind": "Lease"},
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/linkerd-proxy-injector-webhook-config":     {"kind": "MutatingWebhookConfiguration"},
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/linkerd-sp-validator-webhook-config":     {"kind": "ValidatingWebhookConfiguration"},
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/linkerd-policy-validator-webhook-config": {"kind": "ValidatingWebhookConfiguration"},
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/somebody-elses":                          {"kind": "ValidatingWebhookConfiguration"},
	} {
		b.cluster.put(path, o)
	}
}

func TestRemovingTheMeshLeavesNoKindWebhookOrLabel(t *testing.T) {
	b := newBench(t)
	b.meshed(t)
	for range 2 {
		require.NoError(t, mesh{}.Remove(t.Context(), b.Env))
	}
	require.Equal(t, []string{
		"/api/v1/namespaces/kube-system", "/api/v1/namespaces/linkerd", "/api/v1/namespaces/vault/secrets/vault-tls",
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/somebody-elses",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gateways.gateway.networking.k8s.io",
	}, b.cluster.paths())
	require.Equal(t, []string{"drop linkerd/linkerd-control-plane", "drop linkerd/linkerd-crds"}, b.releases.calls[:2])
	for _, namespace := range []string{"linkerd", "kube-system"} {
		for label := range b.labels(namespace) {
			require.NotContains(t, label, "linkerd.io", namespace)
		}
	}
}

func TestWhatCannotBeRemovedOfTheMeshKeepsNothingElse(t *testing.T) {
	b := newBench(t)
	b.meshed(t)
	b.releases.dropFail = errors.New("the release's record is broken")
	require.ErrorContains(t, mesh{}.Remove(t.Context(), b.Env), "the release's record is broken")
	for _, path := range b.cluster.paths() {
		require.NotContains(t, path, "linkerd-proxy-injector-webhook-config", "no pod could start (R7)")
	}
	require.NotContains(t, b.labels("kube-system"), "config.linkerd.io/admission-webhooks")
}

func TestCRDsStayWhereTheyAreToBeKept(t *testing.T) {
	b := newBench(t)
	b.meshed(t)
	require.NoError(t, MeshLeavingCRDs().Remove(t.Context(), b.Env))
	require.Equal(t, []string{"drop linkerd/linkerd-control-plane"}, b.releases.calls)
	require.Equal(t, []string{
		"/api/v1/namespaces/kube-system", "/api/v1/namespaces/linkerd", "/api/v1/namespaces/vault/secrets/vault-tls",
		"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/somebody-elses",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gateways.gateway.networking.k8s.io",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/httproutes.gateway.networking.k8s.io",
		"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servers.policy.linkerd.io",
	}, b.cluster.paths())
}

func TestTheHighlyAvailableFormIsNotBegunWhereItHasNoRoom(t *testing.T) {
	b := newBench(t)
	b.Env.HA = true
	node := func(name string, spec object) {
		b.cluster.put("/api/v1/nodes/"+name, object{"kind": "Node", "apiVersion": "v1", "metadata": object{"name": name}, "spec": spec})
	}
	taint := func(effect string) object { return object{"taints": []any{object{"key": "k", "effect": effect}}} }
	node("control-plane", taint("NoSchedule"))
	node("spot", taint("PreferNoSchedule"))
	node("cordoned", object{"unschedulable": true})
	node("one", object{})
	err := reported{Component: mesh{}}.Install(t.Context(), b.Env)
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "wants 3 nodes that take any pod, and there are 2")
	require.Empty(t, b.releases.calls)
	require.Empty(t, b.cluster.log, "nothing was changed")
	node("two", object{})
	require.NoError(t, checkRoom(t.Context(), b.Env))
	b.Env.HA = false
	require.NoError(t, checkRoom(t.Context(), b.Env))
}
