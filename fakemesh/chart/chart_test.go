package chart

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"

	"meshsim.dev/meshsim/fakemesh/injector"
)

const anchors = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

func load(t *testing.T) *helmchart.Chart {
	t.Helper()
	var files []*loader.BufferedFile
	err := fs.WalkDir(FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := FS.ReadFile(path)
		files = append(files, &loader.BufferedFile{Name: path, Data: text})
		return err
	})
	require.NoError(t, err)
	c, err := loader.LoadFiles(files)
	require.NoError(t, err)
	return c
}

// render gives the manifests by kind/name.
func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	c := load(t)
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "mesh", Namespace: "linkerd", IsInstall: true}, nil)
	require.NoError(t, err)
	out, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	docs := map[string]string{}
	for _, text := range out {
		for _, doc := range strings.Split(text, "\n---\n") {
			var meta struct {
				Kind     string
				Metadata struct{ Name string }
			}
			require.NoError(t, yaml.Unmarshal([]byte(doc), &meta), doc)
			if meta.Kind != "" {
				docs[meta.Kind+"/"+meta.Metadata.Name] = doc
			}
		}
	}
	return docs, nil
}

func decode[T any](t *testing.T, docs map[string]string, name string) *T {
	t.Helper()
	require.Contains(t, docs, name)
	v := new(T)
	require.NoError(t, yaml.UnmarshalStrict([]byte(docs[name]), v))
	return v
}

func TestTheNamesAreThoseOfTheContract(t *testing.T) {
	docs, err := render(t, map[string]any{"identityTrustAnchorsPEM": anchors})
	require.NoError(t, err)
	for name, containers := range map[string][]string{
		"linkerd-identity": {"identity"}, "linkerd-destination": {"destination"}, "linkerd-proxy-injector": {"proxy-injector"},
	} {
		d := decode[appsv1.Deployment](t, docs, "Deployment/"+name)
		var names []string
		for _, c := range d.Spec.Template.Spec.Containers {
			names = append(names, c.Name)
			require.Equal(t, "meshsim.local/fakemesh:0.1", c.Image)
			require.True(t, *c.SecurityContext.RunAsNonRoot)
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
		}
		require.Equal(t, containers, names)
		require.Equal(t, name, d.Spec.Template.Spec.ServiceAccountName)
		require.EqualValues(t, 1, *d.Spec.Replicas)
	}
	for name, port := range map[string]int32{
		"linkerd-identity": 8080, "linkerd-identity-headless": 8080, "linkerd-dst": 8086, "linkerd-dst-headless": 8086,
		"linkerd-policy": 8090, "linkerd-sp-validator": 443, "linkerd-policy-validator": 443, "linkerd-proxy-injector": 443,
	} {
		s := decode[corev1.Service](t, docs, "Service/"+name)
		require.Equal(t, port, s.Spec.Ports[0].Port, name)
	}
	roots := decode[corev1.ConfigMap](t, docs, "ConfigMap/linkerd-identity-trust-roots")
	require.Equal(t, strings.TrimSpace(anchors), roots.Data["ca-bundle.crt"])
	require.NotContains(t, docs, "PodDisruptionBudget/linkerd-identity")
}

func TestTheInjectorUnderstandsTheConfigurationThatTheChartWrites(t *testing.T) {
	docs, err := render(t, map[string]any{
		"identityTrustAnchorsPEM": anchors,
		"image":                   map[string]any{"repository": "meshsim.local/fakemesh", "tag": "abc"},
		"proxy":                   map[string]any{"resources": map[string]any{"cpu": map[string]any{"request": "100m"}}},
	})
	require.NoError(t, err)
	cm := decode[corev1.ConfigMap](t, docs, "ConfigMap/linkerd-config")
	c, err := injector.ParseConfig([]byte(cm.Data["values"]))
	require.NoError(t, err)
	require.Equal(t, injector.Image{Repository: "meshsim.local/fakemesh", Tag: "abc", PullPolicy: "IfNotPresent"}, c.Image)
	require.Equal(t, "cluster.local", c.IdentityTrustDomain)
	require.Equal(t, "100m", c.Proxy.Resources.CPU.Request)
	require.True(t, c.Proxy.Await)
	require.Equal(t, "all-unauthenticated", c.Proxy.DefaultInboundPolicy)
}

func TestTheWebhookFailsOpenOrClosedAndSparesTheStack(t *testing.T) {
	docs, err := render(t, map[string]any{"identityTrustAnchorsPEM": anchors, "webhookFailurePolicy": "Fail"})
	require.NoError(t, err)
	w := decode[admissionv1.MutatingWebhookConfiguration](t, docs, "MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config")
	require.Equal(t, admissionv1.Fail, *w.Webhooks[0].FailurePolicy)
	require.NotEmpty(t, w.Webhooks[0].ClientConfig.CABundle)
	require.Equal(t, []string{"pods", "services"}, w.Webhooks[0].Rules[0].Resources)
	require.Equal(t, []string{"kube-system", "cert-manager", "vault", "linkerd"}, w.Webhooks[0].NamespaceSelector.MatchExpressions[1].Values)
	secret := decode[corev1.Secret](t, docs, "Secret/linkerd-proxy-injector-k8s-tls")
	require.Equal(t, w.Webhooks[0].ClientConfig.CABundle, secret.Data["tls.crt"])
}

func TestWebhookCertificatesCanComeFromCertManager(t *testing.T) {
	docs, err := render(t, map[string]any{
		"identityTrustAnchorsPEM": anchors,
		"proxyInjector":           map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-proxy-injector"},
	})
	require.NoError(t, err)
	w := decode[admissionv1.MutatingWebhookConfiguration](t, docs, "MutatingWebhookConfiguration/linkerd-proxy-injector-webhook-config")
	require.Equal(t, "linkerd/linkerd-proxy-injector", w.Annotations["cert-manager.io/inject-ca-from"])
	require.Empty(t, w.Webhooks[0].ClientConfig.CABundle)
	require.NotContains(t, docs, "Secret/linkerd-proxy-injector-k8s-tls")
}

func TestTheIssuerCanBeTheChartsAndTheAnchorsSomebodyElses(t *testing.T) {
	docs, err := render(t, map[string]any{"identity": map[string]any{
		"externalCA": true,
		"issuer":     map[string]any{"scheme": "linkerd.io/tls", "tls": map[string]any{"crtPEM": "CERT\n", "keyPEM": "KEY\n"}},
	}})
	require.NoError(t, err)
	require.NotContains(t, docs, "ConfigMap/linkerd-identity-trust-roots")
	secret := decode[corev1.Secret](t, docs, "Secret/linkerd-identity-issuer")
	require.Equal(t, map[string]string{"crt.pem": "CERT", "key.pem": "KEY"}, secret.StringData)
	require.NotContains(t, docs["ConfigMap/linkerd-config"], "KEY", "the key stands nowhere else")
	identity := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-identity")
	require.Contains(t, identity.Spec.Template.Spec.Containers[0].Args, "--issuer-scheme=linkerd.io/tls")
}

func TestHighAvailabilityHasBudgetsAndAntiAffinity(t *testing.T) {
	docs, err := render(t, map[string]any{
		"identityTrustAnchorsPEM": anchors, "controllerReplicas": 3,
		"enablePodDisruptionBudget": true, "enablePodAntiAffinity": true,
	})
	require.NoError(t, err)
	for _, name := range []string{"linkerd-identity", "linkerd-dst", "linkerd-proxy-injector"} {
		require.Contains(t, docs, "PodDisruptionBudget/"+name)
	}
	d := decode[appsv1.Deployment](t, docs, "Deployment/linkerd-destination")
	require.EqualValues(t, 3, *d.Spec.Replicas)
	require.Equal(t, "destination", d.Spec.Template.Spec.Affinity.PodAntiAffinity.
		RequiredDuringSchedulingIgnoredDuringExecution[0].LabelSelector.MatchLabels["linkerd.io/control-plane-component"])
}

func TestWhatTheStandInCannotDoIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		values map[string]any
		says   string
	}{
		"no anchors":     {map[string]any{}, "identityTrustAnchorsPEM is needed"},
		"another scheme": {map[string]any{"identityTrustAnchorsPEM": anchors, "identity": map[string]any{"issuer": map[string]any{"scheme": "spiffe"}}}, "only kubernetes.io/tls and linkerd.io/tls"},
		"no issuer":      {map[string]any{"identityTrustAnchorsPEM": anchors, "identity": map[string]any{"issuer": map[string]any{"scheme": "linkerd.io/tls"}}}, "identity.issuer.tls.crtPEM is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, tc.values)
			require.ErrorContains(t, err, tc.says)
		})
	}
}
