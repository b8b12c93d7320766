package stack

import (
	"errors"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/kube"
)

func TestIptablesModeFollowsTheHostsKernel(t *testing.T) {
	require.Equal(t, "nft", iptablesMode(fstest.MapFS{"proc/net/dev": {}}))
	require.Equal(t, "legacy", iptablesMode(fstest.MapFS{"proc/net/ip_tables_names": {}}))
	require.Equal(t, "legacy", iptablesMode(fstest.MapFS{"sys/module/ip_tables/initstate": {}}))
}

func TestEveryWebhookHasACertificateOfItsServicesName(t *testing.T) {
	text, err := webhookManifest()
	require.NoError(t, err)
	objects, err := kube.Decode(text)
	require.NoError(t, err)
	secrets := map[string]any{}
	for _, u := range objects {
		require.Equal(t, "linkerd", u.GetNamespace())
		if u.GetKind() == "Certificate" {
			spec := u.Object["spec"].(map[string]any)
			secrets[spec["secretName"].(string)] = spec["dnsNames"]
		}
	}
	require.Equal(t, map[string]any{
		"linkerd-webhook-ca":               nil,
		"linkerd-proxy-injector-k8s-tls":   []any{"linkerd-proxy-injector.linkerd.svc"},
		"linkerd-sp-validator-k8s-tls":     []any{"linkerd-sp-validator.linkerd.svc"},
		"linkerd-policy-validator-k8s-tls": []any{"linkerd-policy-validator.linkerd.svc"},
	}, secrets)
}

// The policy controller ends at once over a key in another form, and
// cert-manager's own default for one of this kind is another.
func TestTheWebhooksKeysAreInTheFormThatThePolicyControllerReads(t *testing.T) {
	text, err := webhookManifest()
	require.NoError(t, err)
	objects, err := kube.Decode(text)
	require.NoError(t, err)
	keys := map[string]any{}
	for _, u := range objects {
		if u.GetKind() == "Certificate" && u.GetName() != "linkerd-webhook-ca" {
			keys[u.GetName()] = u.Object["spec"].(map[string]any)["privateKey"]
		}
	}
	pkcs8 := map[string]any{"algorithm": "ECDSA", "size": 256.0, "encoding": "PKCS8"}
	require.Equal(t, map[string]any{"linkerd-proxy-injector": pkcs8, "linkerd-sp-validator": pkcs8, "linkerd-policy-validator": pkcs8}, keys)
}

func TestAnUnknownMeshIsWrongUse(t *testing.T) {
	b := newBench(t)
	b.Env.Mesh = "istio"
	err := reported{Component: mesh{}}.Install(t.Context(), b.Env)
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.ErrorContains(t, err, `mesh "istio" is not known`)
}

func TestLinkerdWithoutItsImagesIsNotInstalled(t *testing.T) {
	b := newBench(t)
	b.Env.Mesh, b.Env.Images = MeshLinkerd, fakeImages{lacks: "linkerd-proxy"}
	require.ErrorContains(t, mesh{}.Install(t.Context(), b.Env), "image linkerd-proxy is not in the bundle")
	require.Empty(t, b.releases.calls)
}

func TestTheMeshIsReadyWhenAnAnnotatedPodGetsAProxy(t *testing.T) {
	b := newBench(t)
	for _, name := range meshDeployments() {
		b.cluster.put(workloadReady("Deployment", NamespaceMesh, name))
	}
	asked := 0
	b.cluster.dryRun = func(path string, o object) (object, error) {
		require.Equal(t, "/api/v1/namespaces/prod-app/pods", path)
		require.Equal(t, object{"linkerd.io/inject": "enabled"}, o["metadata"].(object)["annotations"])
		asked++
		spec := o["spec"].(object)
		switch asked {
		case 1:
			return nil, errors.New("failed calling webhook")
		case 2: // the webhook is not registered yet
		default:
			spec["containers"] = append(spec["containers"].([]any), object{"name": "linkerd-proxy"})
		}
		return o, nil
	}
	require.NoError(t, mesh{}.Ready(t.Context(), b.Env))
	require.Equal(t, 3, asked)
}

func TestAccessIsByGroupAndNamespace(t *testing.T) {
	b := newBench(t)
	require.NoError(t, access{}.Install(t.Context(), b.Env))
	subjects := func(path string) []string {
		var names []string
		o := b.cluster.get(path)
		list, _ := o["subjects"].([]any)
		for _, s := range list {
			names = append(names, s.(object)["kind"].(string)+" "+s.(object)["name"].(string))
		}
		return names
	}
	for _, ns := range []string{"linkerd", "cert-manager", "vault", "prod-app", "monitoring"} {
		base := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + ns + "/rolebindings/"
		require.Equal(t, []string{"Group devops"}, subjects(base+"meshsim-devops"), ns)
		if ns == "linkerd" || ns == "cert-manager" || ns == "vault" {
			require.Nil(t, b.cluster.get(base+"meshsim-developers"), ns)
		}
	}
	require.Equal(t, []string{"Group developers"}, subjects("/apis/rbac.authorization.k8s.io/v1/namespaces/prod-app/rolebindings/meshsim-developers"))
	require.Nil(t, b.cluster.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/meshsim-devops"), "not across the cluster")

	require.NoError(t, access{}.Remove(t.Context(), b.Env))
	for _, p := range b.cluster.paths() {
		require.NotContains(t, p, "rbac.authorization.k8s.io")
	}
}

func TestNamespacesKeepVaultOutOfTheMeshAndPodsWithinTheirLevel(t *testing.T) {
	tests := map[string]map[string]string{
		"linkerd":      {"pod-security.kubernetes.io/enforce": "privileged", "pod-security.kubernetes.io/audit": "baseline"},
		"cert-manager": {"pod-security.kubernetes.io/enforce": "restricted", admissionLabel: "disabled"},
		"vault":        {"pod-security.kubernetes.io/enforce": "baseline", admissionLabel: "disabled"},
		"prod-app":     {"pod-security.kubernetes.io/enforce": "privileged", "pod-security.kubernetes.io/audit": "baseline"},
		"monitoring":   {"pod-security.kubernetes.io/enforce": "restricted"},
	}
	for name, want := range tests {
		labels := namespaceLabels(name)
		for key, value := range want {
			require.Equal(t, value, labels[key], name+" "+key)
		}
	}
	require.NotContains(t, namespaceLabels("prod-app"), admissionLabel)
}

func TestManifestsAreWholeYAML(t *testing.T) {
	for name, data := range map[string]map[string]any{
		"vault-ca.yaml":    {"Namespace": "n", "Name": "x", "CA": "-----BEGIN\nabc\n"},
		"vault-setup.yaml": {"Namespace": "n", "Name": "x", "Mark": "meshsim.dev/mark"},
	} {
		text, err := manifest(name, data)
		require.NoError(t, err)
		require.NoError(t, yaml.UnmarshalStrict(text, &map[string]any{}), name)
	}
	_, err := manifest("vault-ca.yaml", map[string]any{"Name": "x"})
	require.ErrorContains(t, err, `no entry for key "Namespace"`)
}
