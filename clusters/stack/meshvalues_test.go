package stack

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/topology"
)

func TestMeshValuesAreTheSameForLinkerdAndItsStandIn(t *testing.T) {
	b := newBench(t)
	v := meshValues(b.Env, "PEM", "nft")
	require.Equal(t, "PEM", v["identityTrustAnchorsPEM"])
	require.Equal(t, map[string]any{"issuer": map[string]any{"scheme": "kubernetes.io/tls"}}, v["identity"])
	require.Equal(t, "Fail", v["webhookFailurePolicy"])
	require.Equal(t, map[string]any{"iptablesMode": "nft", "resources": map[string]any{"cpu": map[string]any{"request": "10m"}}}, v["proxyInit"])
	require.Equal(t, map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-proxy-injector"}, v["proxyInjector"])
	require.Equal(t, 1, v["proxy"].(map[string]any)["cores"])
	require.Equal(t, "250Mi", v["proxy"].(map[string]any)["resources"].(map[string]any)["memory"].(map[string]any)["limit"])
	b.Env.Mesh = MeshLinkerd
	v = meshValues(b.Env, "PEM", "legacy")
	require.Equal(t, map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-policy-validator"}, v["policyValidator"])
	require.Equal(t, map[string]any{"externalSecret": true, "injectCaFrom": "linkerd/linkerd-sp-validator"}, v["profileValidator"])
	require.NoError(t, linkerdImages(b.Env, v))
	require.Equal(t, "meshsim.local/linkerd-controller", v["controllerImage"])
	require.Equal(t, "v1", v["controllerImageVersion"])
	require.Equal(t, map[string]any{"name": "meshsim.local/linkerd-proxy", "version": "v1", "pullPolicy": "IfNotPresent"},
		v["proxy"].(map[string]any)["image"])
	require.NotContains(t, v["proxy"], "cores", "as its chart has it")
	require.NotContains(t, v["proxy"].(map[string]any)["resources"].(map[string]any)["memory"], "limit")
	require.Equal(t, "legacy", v["proxyInit"].(map[string]any)["iptablesMode"])
	require.Equal(t, 1, v["controllerReplicas"])
	require.NotContains(t, v, "highAvailability")
}

func TestTheKindsThatAClusterHasAlreadyCanBeLeftOut(t *testing.T) {
	b := newBench(t)
	given := map[string]any{"enableHttpRoutes": false, "controllerLogLevel": "debug"}
	b.Env.Values = map[string]map[string]any{mesh{}.Name(): given}
	releases, err := mesh{}.releases(b.Env, []byte("PEM"))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"enableHttpRoutes": false}, releases[0].Values)
	require.NotContains(t, releases[1].Values, "enableHttpRoutes")
	require.Equal(t, "debug", releases[1].Values["controllerLogLevel"])
	require.Contains(t, given, "enableHttpRoutes", "what was given stays as it was")
}

func TestTheHighlyAvailableFormIsTheChartsOwnFittedToTheHost(t *testing.T) {
	b := newBench(t)
	b.Env.Mesh, b.Env.HA, b.Env.Fit = MeshLinkerd, true, topology.Fit{CPU: 1, Memory: 1}
	v := meshValues(b.Env, "PEM", "nft")
	whole := map[string]any{"cpu": map[string]any{"request": "100m"}, "memory": map[string]any{"request": "50Mi", "limit": "250Mi"}}
	for key, want := range map[string]any{
		"controllerReplicas": 3, "enablePodDisruptionBudget": true, "enablePodAntiAffinity": true,
		"webhookFailurePolicy": "Fail", "highAvailability": true,
		"deploymentStrategy":     map[string]any{"rollingUpdate": map[string]any{"maxUnavailable": 1, "maxSurge": "25%"}},
		"destinationResources":   whole,
		"proxyInjectorResources": whole,
		"spValidatorResources":   whole,
		"identityResources":      map[string]any{"cpu": map[string]any{"request": "100m"}, "memory": map[string]any{"request": "10Mi", "limit": "250Mi"}},
	} {
		require.Equal(t, want, v[key], key)
	}
	require.Equal(t, map[string]any{"cpu": map[string]any{"request": "100m"}, "memory": map[string]any{"request": "20Mi", "limit": "250Mi"}},
		v["proxy"].(map[string]any)["resources"])

	b.Env.Fit = topology.Fit{CPU: 0.1, Memory: 0.5}
	require.Equal(t, map[string]any{"cpu": map[string]any{"request": "10m"}, "memory": map[string]any{"request": "25Mi", "limit": "250Mi"}},
		meshValues(b.Env, "PEM", "nft")["destinationResources"], "requests are fitted, a limit is not")
	b.Env.Mesh = MeshStandIn
	require.Equal(t, map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "25Mi"}, "limits": map[string]any{"memory": "250Mi"}},
		meshValues(b.Env, "PEM", "nft")["destinationResources"], "the stand-in's chart takes them as Kubernetes spells them")
}

// publishedPaths are the values that the published chart knows.
func publishedPaths(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/linkerd-control-plane-1.16.11.txt")
	require.NoError(t, err)
	var paths []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			paths = append(paths, line)
		}
	}
	require.Greater(t, len(paths), 150)
	return paths
}

func leafPaths(values map[string]any, prefix string) (paths []string) {
	for key, v := range values {
		if inner, ok := v.(map[string]any); ok {
			paths = append(paths, leafPaths(inner, prefix+key+".")...)
			continue
		}
		paths = append(paths, prefix+key)
	}
	return paths
}

func TestEveryValueIsOneThatThePublishedChartKnows(t *testing.T) {
	b := newBench(t)
	b.Env.Mesh = MeshLinkerd
	known := publishedPaths(t)
	for _, ha := range []bool{false, true} {
		b.Env.HA = ha
		v := meshValues(b.Env, "PEM", "nft")
		require.NoError(t, linkerdImages(b.Env, v))
		paths := leafPaths(v, "")
		require.Greater(t, len(paths), 25)
		for _, path := range paths {
			require.Contains(t, known, path, "Helm would take it without a word and nothing would come of it")
		}
	}
}

// publishedLike writes a chart that uses its values as the published one does.
func publishedLike(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), linkerdControlPlane)
	for file, text := range map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: linkerd-control-plane\nversion: 1.16.11\nappVersion: stable-2.14.10\n",
		"values.yaml": `linkerdVersion: stable-2.14.10
controllerImage: cr.l5d.io/linkerd/controller
controllerImageVersion: ""
controllerReplicas: 1
imagePullPolicy: IfNotPresent
webhookFailurePolicy: Ignore
identityTrustAnchorsPEM: ""
identity: {externalCA: false, issuer: {scheme: linkerd.io/tls}}
policyController: {image: {name: cr.l5d.io/linkerd/policy-controller, version: "", pullPolicy: ""}}
proxy: {image: {name: cr.l5d.io/linkerd/proxy, version: "", pullPolicy: ""}, cores: 0, resources: {cpu: {limit: "", request: ""}, memory: {limit: "", request: ""}}}
proxyInit: {iptablesMode: legacy, image: {name: cr.l5d.io/linkerd/proxy-init, version: v2.2.3, pullPolicy: ""}, resources: {cpu: {limit: 100m, request: 100m}, memory: {limit: 20Mi, request: 20Mi}}}
proxyInjector: {externalSecret: false, injectCaFrom: ""}
profileValidator: {externalSecret: false, injectCaFrom: ""}
policyValidator: {externalSecret: false, injectCaFrom: ""}
`,
		"templates/identity.yaml": `{{- if not .Values.identity.externalCA }}
apiVersion: v1
kind: ConfigMap
metadata: {name: linkerd-identity-trust-roots}
data: {ca-bundle.crt: {{ .Values.identityTrustAnchorsPEM | trim | quote }}}
{{- end }}
---
{{- if eq .Values.identity.issuer.scheme "linkerd.io/tls" }}
apiVersion: v1
kind: Secret
metadata: {name: linkerd-identity-issuer}
data: {crt.pem: {{ b64enc (required "an issuer" .Values.identity.issuer.tls.crtPEM) }}}
{{- end }}
`,
		"templates/destination.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: linkerd-destination}
spec:
  replicas: {{ .Values.controllerReplicas }}
  {{- with .Values.deploymentStrategy }}
  strategy: {{ toYaml . | nindent 4 }}
  {{- end }}
  template:
    spec:
      {{- if .Values.enablePodAntiAffinity }}
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname}]}}
      {{- end }}
      initContainers:
      - name: linkerd-init
        image: {{ .Values.proxyInit.image.name }}:{{ .Values.proxyInit.image.version }}
        imagePullPolicy: {{ .Values.proxyInit.image.pullPolicy | default .Values.imagePullPolicy }}
        args: [{{ if eq .Values.proxyInit.iptablesMode "nft" }}iptables-nft{{ else if eq .Values.proxyInit.iptablesMode "legacy" }}iptables{{ else }}{{ fail "iptablesMode" }}{{ end }}]
        resources: {requests: {cpu: {{ .Values.proxyInit.resources.cpu.request | quote }}}, limits: {cpu: {{ .Values.proxyInit.resources.cpu.limit | quote }}}}
      containers:
      - name: linkerd-proxy
        image: {{ .Values.proxy.image.name }}:{{ .Values.proxy.image.version | default .Values.linkerdVersion }}
        imagePullPolicy: {{ .Values.proxy.image.pullPolicy | default .Values.imagePullPolicy }}
        env: [{name: LINKERD2_PROXY_CORES, value: {{ .Values.proxy.cores | quote }}}]
      - name: destination
        image: {{ .Values.controllerImage }}:{{ .Values.controllerImageVersion | default .Values.linkerdVersion }}
        imagePullPolicy: {{ .Values.imagePullPolicy }}
        {{- with .Values.destinationResources }}
        resources: {requests: {cpu: {{ .cpu.request | quote }}, memory: {{ .memory.request | quote }}}, limits: {memory: {{ .memory.limit | quote }}}}
        {{- end }}
      - name: policy
        image: {{ .Values.policyController.image.name }}:{{ .Values.policyController.image.version | default .Values.linkerdVersion }}
        imagePullPolicy: {{ .Values.policyController.image.pullPolicy | default .Values.imagePullPolicy }}
{{- if .Values.enablePodDisruptionBudget }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: linkerd-dst}
spec: {maxUnavailable: 1}
{{- end }}
`,
		"templates/webhooks.yaml": `{{- range $value, $service := dict "proxyInjector" "linkerd-proxy-injector" "profileValidator" "linkerd-sp-validator" "policyValidator" "linkerd-policy-validator" }}
{{- $w := index $.Values $value }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata:
  name: {{ $service }}-webhook-config
  annotations: {cert-manager.io/inject-ca-from: {{ $w.injectCaFrom | quote }}}
webhooks:
- name: {{ $service }}.linkerd.io
  failurePolicy: {{ $.Values.webhookFailurePolicy }}
{{- if not $w.externalSecret }}
---
apiVersion: v1
kind: Secret
metadata: {name: {{ $service }}-k8s-tls}
data: {tls.crt: {{ (genSelfSignedCert $service nil nil 365).Cert | b64enc }}}
{{- end }}
{{- end }}
{{- if not .Values.disableHeartBeat }}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: linkerd-heartbeat}
{{- end }}
`,
	} {
		name := filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o644))
	}
	return dir
}

// givenImages are those of a bundle in which the proxy was given by the user.
type givenImages struct {
	fakeImages
	given string // reference
}

func (g givenImages) Image(name string) (bundle.Image, error) {
	i, err := g.fakeImages.Image(name)
	if name == "linkerd-proxy" {
		i.Ref, i.Source = g.given, "./proxy.tar"
	}
	return i, err
}

func TestAChartThatUsesItsValuesAsThePublishedOneDoesRendersTheMeshThatIsMeant(t *testing.T) {
	b := newBench(t)
	crds := filepath.Join(t.TempDir(), linkerdCRDs)
	require.NoError(t, os.MkdirAll(crds, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(crds, "Chart.yaml"), []byte("apiVersion: v2\nname: linkerd-crds\nversion: 1.8.0\n"), 0o644))
	b.Env.Mesh = MeshLinkerd
	b.Env.Images = givenImages{given: "registry.example:5000/my/proxy:patched", fakeImages: fakeImages{
		charts: map[string]string{linkerdControlPlane: publishedLike(t), linkerdCRDs: crds},
	}}
	require.Equal(t, "stable-2.14.10", MeshVersion(b.Env))
	for _, ha := range []bool{false, true} {
		b.Env.HA = ha
		releases, err := mesh{}.releases(b.Env, []byte("-----BEGIN CERTIFICATE-----\n"))
		require.NoError(t, err)
		require.Equal(t, []string{linkerdCRDs, linkerdControlPlane}, []string{releases[0].Name, releases[1].Name}, "the kinds come first")
		plane := releases[1]
		found := render(t, plane.Chart, plane.Namespace, plane.Name, plane.Values)
		require.Equal(t, found, render(t, plane.Chart, plane.Namespace, plane.Name, plane.Values),
			"an upgrade that changes nothing makes no certificate anew (I8)")

		require.Equal(t, "-----BEGIN CERTIFICATE-----", at(t, found["ConfigMap/linkerd-identity-trust-roots"], "data", "ca-bundle.crt"))
		for name := range found {
			require.False(t, strings.HasPrefix(name, "Secret/"), "%s: cert-manager makes every Secret", name)
		}
		require.NotContains(t, found, "CronJob/linkerd-heartbeat")
		for _, service := range []string{"linkerd-proxy-injector", "linkerd-sp-validator", "linkerd-policy-validator"} {
			hook := found["ValidatingWebhookConfiguration/"+service+"-webhook-config"]
			require.Equal(t, NamespaceMesh+"/"+service, hook.GetAnnotations()["cert-manager.io/inject-ca-from"])
			require.Equal(t, "Fail", at(t, hook, "webhooks", 0, "failurePolicy"))
		}

		destination := found["Deployment/linkerd-destination"]
		pod := func(path ...any) any {
			return at(t, destination, append([]any{"spec", "template", "spec"}, path...)...)
		}
		require.Equal(t, "registry.example:5000/my/proxy:patched", pod("containers", 0, "image"))
		require.Equal(t, "Always", pod("containers", 0, "imagePullPolicy"), "a tag of the user's own may have moved")
		require.Equal(t, "0", pod("containers", 0, "env", 0, "value"), "as many cores as the chart says")
		require.Equal(t, "meshsim.local/linkerd-controller:v1", pod("containers", 1, "image"))
		require.Equal(t, "IfNotPresent", pod("containers", 1, "imagePullPolicy"))
		require.Equal(t, "meshsim.local/linkerd-policy-controller:v1", pod("containers", 2, "image"))
		require.Equal(t, "meshsim.local/linkerd-proxy-init:v1", pod("initContainers", 0, "image"))
		require.Equal(t, map[string]any{"requests": map[string]any{"cpu": "10m"}, "limits": map[string]any{"cpu": "100m"}}, pod("initContainers", 0, "resources"))
		if !ha {
			require.EqualValues(t, 1, at(t, destination, "spec", "replicas"))
			require.NotContains(t, found, "PodDisruptionBudget/linkerd-dst")
			require.Nil(t, pod("affinity"))
			continue
		}
		require.EqualValues(t, 3, at(t, destination, "spec", "replicas"))
		require.EqualValues(t, 1, at(t, destination, "spec", "strategy", "rollingUpdate", "maxUnavailable"))
		require.Contains(t, found, "PodDisruptionBudget/linkerd-dst")
		require.NotNil(t, pod("affinity"))
		require.Equal(t, map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "25Mi"}, "limits": map[string]any{"memory": "250Mi"}}, pod("containers", 1, "resources"))
	}
}

func TestThePartsOfLinkerdThatABundleHasAndLacksAreTold(t *testing.T) {
	has, lacks := LinkerdParts(fakeImages{lacks: "linkerd-proxy", charts: map[string]string{linkerdCRDs: "x"}})
	require.Equal(t, []string{"image linkerd-controller", "image linkerd-policy-controller", "image linkerd-proxy-init", "chart linkerd-crds"}, has)
	require.Equal(t, []string{"image linkerd-proxy", "chart linkerd-control-plane"}, lacks)
}

func TestTheStandInsChartRendersTheHighlyAvailableFormToo(t *testing.T) {
	b := newBench(t)
	b.Env.HA = true
	releases, err := mesh{}.releases(b.Env, []byte("-----BEGIN CERTIFICATE-----\n"))
	require.NoError(t, err)
	require.Len(t, releases, 2)
	require.Equal(t, linkerdCRDs, releases[0].Name)
	found := render(t, releases[1].Chart, NamespaceMesh, linkerdControlPlane, releases[1].Values)
	for _, name := range meshDeployments() {
		d := found["Deployment/"+name]
		require.EqualValues(t, 3, at(t, d, "spec", "replicas"), name)
		require.NotNil(t, at(t, d, "spec", "template", "spec", "affinity", "podAntiAffinity"), name)
	}
	budgets := slices.DeleteFunc(slices.Sorted(maps.Keys(found)), func(n string) bool { return !strings.HasPrefix(n, "PodDisruptionBudget/") })
	require.Equal(t, []string{"PodDisruptionBudget/linkerd-dst", "PodDisruptionBudget/linkerd-identity", "PodDisruptionBudget/linkerd-proxy-injector"}, budgets)
}

func TestScrapesAreAllowedByAServerOfTheirOwnWithoutRoutes(t *testing.T) {
	text, err := scrapesManifest()
	require.NoError(t, err)
	objects, err := kube.Decode(text)
	require.NoError(t, err)
	byKind := map[string]map[string]any{}
	for _, u := range objects {
		require.Equal(t, NamespaceShop, u.GetNamespace())
		byKind[u.GetKind()+" "+u.GetAPIVersion()] = u.Object["spec"].(map[string]any)
	}
	require.Len(t, byKind, 3, "no HTTPRoute: it would take the probes' route away (P4)")
	require.Equal(t, map[string]any{
		"podSelector": map[string]any{"matchLabels": map[string]any{"app.kubernetes.io/part-of": "fakeshop"}},
		"port":        "linkerd-admin", "proxyProtocol": "HTTP/1",
	}, byKind["Server policy.linkerd.io/v1beta1"])
	require.Equal(t, map[string]any{
		"targetRef":                  map[string]any{"group": "policy.linkerd.io", "kind": "Server", "name": "proxy-admin"},
		"requiredAuthenticationRefs": []any{map[string]any{"group": "policy.linkerd.io", "kind": "NetworkAuthentication", "name": "cluster-networks"}},
	}, byKind["AuthorizationPolicy policy.linkerd.io/v1alpha1"])
	require.Len(t, byKind["NetworkAuthentication policy.linkerd.io/v1alpha1"]["networks"], 4)
}

func TestAChartOfTheBundleIsRead(t *testing.T) {
	dir := publishedLike(t)
	c, err := loader.LoadDir(dir)
	require.NoError(t, err)
	require.Equal(t, "1.16.11", c.Metadata.Version)
	require.Empty(t, MeshVersion(&Env{Images: fakeImages{}}), "a bundle without the chart says no version")
}
