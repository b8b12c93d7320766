package crds

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakemesh/chart/charttest"
)

// render gives the CRDs by name.
func render(t *testing.T, values map[string]any) map[string]*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	docs, err := charttest.Render(t, FS, "linkerd-crds", values)
	require.NoError(t, err)
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for name, doc := range docs {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, yaml.UnmarshalStrict([]byte(doc), crd), name)
		crds[crd.Name] = crd
	}
	return crds
}

func TestTheKindsAndVersionsAreThoseOfTheContract(t *testing.T) {
	versions := func(crds map[string]*apiextensionsv1.CustomResourceDefinition) map[string][]string {
		got := map[string][]string{}
		for name, crd := range crds {
			require.Equal(t, crd.Spec.Names.Plural+"."+crd.Spec.Group, name)
			require.Equal(t, apiextensionsv1.NamespaceScoped, crd.Spec.Scope)
			require.Equal(t, "linkerd", crd.Labels["linkerd.io/control-plane-ns"])
			for _, v := range crd.Spec.Versions {
				require.True(t, v.Served)
				text := v.Name
				if v.Storage {
					text += " stored"
				}
				got[name] = append(got[name], text)
			}
		}
		return got
	}
	want := map[string][]string{
		"servers.policy.linkerd.io":                {"v1alpha1", "v1beta1 stored"},
		"serverauthorizations.policy.linkerd.io":   {"v1alpha1", "v1beta1 stored"},
		"authorizationpolicies.policy.linkerd.io":  {"v1alpha1 stored"},
		"meshtlsauthentications.policy.linkerd.io": {"v1alpha1 stored"},
		"networkauthentications.policy.linkerd.io": {"v1alpha1 stored"},
		"httproutes.policy.linkerd.io":             {"v1alpha1", "v1beta1", "v1beta2", "v1beta3 stored"},
		"serviceprofiles.linkerd.io":               {"v1alpha2 stored"},
	}
	require.Equal(t, want, versions(render(t, map[string]any{"enableHttpRoutes": false})))
	want["httproutes.gateway.networking.k8s.io"] = []string{"v1beta1 stored"}
	require.Equal(t, want, versions(render(t, nil)))
}

// structural is a version's schema as the API server takes it.
func structural(t *testing.T, v apiextensionsv1.CustomResourceDefinitionVersion) *schema.Structural {
	t.Helper()
	internal := &apiextensions.JSONSchemaProps{}
	require.NoError(t, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(v.Schema.OpenAPIV3Schema, internal, nil))
	s, err := schema.NewStructural(internal)
	require.NoError(t, err)
	return s
}

func TestTheSchemasAreStructural(t *testing.T) {
	for name, crd := range render(t, nil) {
		for _, v := range crd.Spec.Versions {
			require.Empty(t, schema.ValidateStructural(nil, structural(t, v)), "%s %s", name, v.Name)
		}
	}
}

// judge holds an object against the schema of its kind's stored version. What
// the schema does not know is dropped first, as the API server does it.
func judge(t *testing.T, crds map[string]*apiextensionsv1.CustomResourceDefinition, kind, spec string) error {
	t.Helper()
	for name, crd := range crds {
		if name != kind && crd.Spec.Names.Kind != kind {
			continue
		}
		object := map[string]any{"apiVersion": crd.Spec.Group + "/v1", "kind": crd.Spec.Names.Kind, "metadata": map[string]any{"name": "x"}}
		var body any
		require.NoError(t, yaml.Unmarshal([]byte(spec), &body))
		object["spec"] = body
		for _, v := range crd.Spec.Versions {
			if !v.Storage {
				continue
			}
			s := structural(t, v)
			pruning.Prune(object, s, true)
			return validate.NewSchemaValidator(s.ToKubeOpenAPI(), nil, "", strfmt.Default).Validate(object).AsError()
		}
	}
	t.Fatalf("no kind %s", kind)
	return nil
}

func TestWhatASchemaTakesAndWhatItRefuses(t *testing.T) {
	crds := render(t, nil)
	for _, tc := range []struct{ kind, spec, says string }{
		{"Server", `{podSelector: {}, port: 9090}`, ""},
		{"Server", `{podSelector: {matchLabels: {app: web}}, port: grpc, proxyProtocol: gRPC}`, ""},
		{"Server", `{podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}, port: grpc, proxyProtocol: HTTP/2}`, ""},
		{"Server", `{port: 9090}`, "podSelector"},
		{"Server", `{podSelector: {}}`, "port"},
		{"Server", `{podSelector: {}, port: 70000}`, "65535"},
		{"Server", `{podSelector: {}, port: "a port"}`, "port"},
		{"Server", `{podSelector: {}, port: 9090, proxyProtocol: http}`, "proxyProtocol"},
		{"Server", `{podSelector: {matchExpressions: [{key: app, operator: Is}]}, port: 9090}`, "operator"},
		{"ServerAuthorization", `{server: {name: web}, client: {unauthenticated: true}}`, ""},
		{"ServerAuthorization", `{server: {selector: {matchLabels: {a: b}}}, client: {networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}], meshTLS: {serviceAccounts: [{name: web}]}}}`, ""},
		{"ServerAuthorization", `{server: {}, client: {}}`, "oneOf"},
		{"ServerAuthorization", `{server: {name: web, selector: {}}, client: {}}`, "oneOf"},
		{"ServerAuthorization", `{server: {name: web}, client: {meshTLS: {identities: ["Web!"]}}}`, "identities"},
		{"AuthorizationPolicy", `{targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]}`, ""},
		{"AuthorizationPolicy", `{targetRef: {kind: Server, name: web}}`, "requiredAuthenticationRefs"},
		{"AuthorizationPolicy", `{targetRef: {name: web}, requiredAuthenticationRefs: []}`, "kind"},
		{"MeshTLSAuthentication", `{identities: ["*", "*.prod.serviceaccount.identity.linkerd.cluster.local"]}`, ""},
		{"MeshTLSAuthentication", `{identityRefs: [{kind: ServiceAccount}]}`, ""},
		{"MeshTLSAuthentication", `{}`, "oneOf"},
		{"MeshTLSAuthentication", `{identities: []}`, "identities"},
		{"MeshTLSAuthentication", `{identities: ["a"], identityRefs: [{kind: Namespace, name: b}]}`, "oneOf"},
		{"NetworkAuthentication", `{networks: [{cidr: 0.0.0.0/0}]}`, ""},
		{"NetworkAuthentication", `{networks: []}`, "networks"},
		{"httproutes.policy.linkerd.io", `{parentRefs: [{group: core, kind: Service, name: web, port: 9090}], rules: [{backendRefs: [{name: web, port: 9090, weight: 90}, {name: canary, port: 9090, weight: 10}], timeouts: {request: 1m30s}}]}`, ""},
		{"httproutes.policy.linkerd.io", `{rules: [{matches: [{path: {type: Exact, value: /x}, method: GET, headers: [{name: x-a, value: b}]}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]}`, ""},
		{"httproutes.policy.linkerd.io", `{rules: [{matches: [{method: FETCH}]}]}`, "method"},
		{"httproutes.policy.linkerd.io", `{rules: [{backendRefs: [{name: web, weight: -1}]}]}`, "weight"},
		{"httproutes.policy.linkerd.io", `{rules: [{timeouts: {request: soon}}]}`, "request"},
		{"httproutes.policy.linkerd.io", `{rules: [{filters: [{type: URLRewrite}]}]}`, "type"},
		{"httproutes.gateway.networking.k8s.io", `{rules: [{filters: [{type: URLRewrite, urlRewrite: {hostname: a.example}}]}]}`, ""},
		{"httproutes.gateway.networking.k8s.io", `{parentRefs: [{kind: Service}]}`, "name"},
		{"ServiceProfile", `{routes: [{name: GET /, condition: {method: GET, pathRegex: /}}]}`, ""},
		{"ServiceProfile", `{routes: [{name: GET /}]}`, "condition"},
	} {
		err := judge(t, crds, tc.kind, tc.spec)
		if tc.says == "" {
			require.NoError(t, err, "%s %s", tc.kind, tc.spec)
			continue
		}
		require.ErrorContains(t, err, tc.says, "%s %s", tc.kind, tc.spec)
	}
}
