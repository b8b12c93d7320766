package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// policies judges in a namespace with one pod and the Servers named.
func policies(servers ...kinds.Server) *Policies {
	return &Policies{
		Mesh:    convert.Mesh{Mesh: meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"}},
		Servers: func(context.Context, string) ([]kinds.Server, error) { return servers, nil },
		Pods: func(string) []*corev1.Pod {
			return []*corev1.Pod{{
				ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: "web-1", Labels: map[string]string{"app": "web", "tier": "front"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 9090}}}}},
			}}
		},
		Log: silent,
	}
}

func request(t testing.TB, group, kind, spec string) *admissionv1.AdmissionRequest {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(`{apiVersion: ` + group + `/v1, kind: ` + kind + `, metadata: {namespace: prod, name: x, managedFields: [{manager: kubectl}]}, spec: ` + spec + `}`))
	require.NoError(t, err, spec)
	return &admissionv1.AdmissionRequest{
		Operation: admissionv1.Create, Namespace: "prod", Name: "x",
		Kind: metav1.GroupVersionKind{Group: group, Kind: kind}, Object: runtime.RawExtension{Raw: raw},
	}
}

func TestPoliciesThatMakeSenseAndThoseThatDoNot(t *testing.T) {
	server := func(name string, port intstr.IntOrString, labels map[string]string) kinds.Server {
		return kinds.Server{
			ObjectMeta: metav1.ObjectMeta{Namespace: "prod", Name: name},
			Spec:       kinds.ServerSpec{PodSelector: &metav1.LabelSelector{MatchLabels: labels}, Port: port},
		}
	}
	p := policies(
		server("x", intstr.FromInt32(9090), map[string]string{"app": "web"}),
		server("front", intstr.FromString("grpc"), map[string]string{"tier": "front"}),
		server("later", intstr.FromInt32(7000), map[string]string{"app": "later"}),
		server("all", intstr.FromInt32(6000), nil),
	)
	const own, gateway = kinds.Group, kinds.GatewayGroup
	for _, tc := range []struct{ group, kind, spec, says string }{
		{own, "Server", `{podSelector: {}, port: 8081}`, ""},
		{own, "Server", `{podSelector: {matchLabels: {app: other}}, port: 9090, proxyProtocol: gRPC}`, ""},
		{own, "Server", `{podSelector: {matchLabels: {app: other}}, port: grpc}`, ""},
		{own, "Server", `{podSelector: {matchLabels: {app: web}}, port: 9090}`, "Server prod/front already says who may use port grpc"},
		{own, "Server", `{podSelector: {matchLabels: {app: later}}, port: 7000}`, "Server prod/later already says"},
		{own, "Server", `{podSelector: {matchLabels: {app: nobody}}, port: 6000}`, "Server prod/all already says"},
		{own, "Server", `{podSelector: {}, port: 7000}`, "Server prod/later already says"},
		{own, "Server", `{podSelector: {}, port: 8081, proxyProtocol: http}`, `proxyProtocol "http" is not known`},
		{own, "Server", `{podSelector: {}, port: 0}`, "port 0"},
		{own, "Server", `{podSelector: {}, port: 70000}`, "port 70000"},
		{own, "Server", `{podSelector: {}, port: "a_port"}`, "port a_port"},
		{own, "Server", `{port: 8081}`, "podSelector is needed"},
		{own, "Server", `{podSelector: {matchExpressions: [{key: a, operator: In}]}, port: 8081}`, "podSelector"},
		{own, "Server", `{podSelector: {}, port: 8081, protocol: gRPC}`, `unknown field "protocol"`},
		{own, "Server", `{podSelector: [], port: 8081}`, "cannot be read"},

		{own, "ServerAuthorization", `{server: {name: web}, client: {unauthenticated: true}}`, ""},
		{own, "ServerAuthorization", `{server: {selector: {}}, client: {meshTLS: {identities: ["*"]}, networks: [{cidr: 10.0.0.0/8}]}}`, ""},
		{own, "ServerAuthorization", `{server: {}, client: {unauthenticated: true}}`, "either a name or a selector"},
		{own, "ServerAuthorization", `{server: {name: web}, client: {}}`, "must say unauthenticated or meshTLS"},
		{own, "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {}}}`, "at least one of identities"},
		{own, "ServerAuthorization", `{server: {name: web}, client: {unauthenticated: true, meshTLS: {identities: ["*"]}}}`, "cannot be unauthenticated"},
		{own, "ServerAuthorization", `{server: {name: web}, client: {meshTLS: {unauthenticatedTLS: true, identities: ["*"]}}}`, "cannot be unauthenticatedTLS"},
		{own, "ServerAuthorization", `{server: {name: web}, client: {unauthenticated: true, networks: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]}}`, "nothing is left"},

		{own, "AuthorizationPolicy", `{targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: []}`, ""},
		{own, "AuthorizationPolicy", `{targetRef: {group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: a}]}`, ""},
		{own, "AuthorizationPolicy", `{targetRef: {group: core, kind: Namespace, name: prod}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: a}, {group: policy.linkerd.io, kind: NetworkAuthentication, name: b}]}`, ""},
		{own, "AuthorizationPolicy", `{targetRef: {kind: Namespace, name: dev}, requiredAuthenticationRefs: []}`, "cannot be another namespace: dev"},
		{own, "AuthorizationPolicy", `{targetRef: {kind: Server, name: web}, requiredAuthenticationRefs: []}`, "targetRef cannot be a Server"},
		{own, "AuthorizationPolicy", `{targetRef: {group: apps, kind: Deployment, name: web}, requiredAuthenticationRefs: []}`, "targetRef cannot be a Deployment.apps"},
		{own, "AuthorizationPolicy", `{targetRef: {group: policy.linkerd.io, kind: Server}, requiredAuthenticationRefs: []}`, "without its name"},
		{own, "AuthorizationPolicy", `{targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: a}, {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: b}]}`, "only one of a kind can be required"},
		{own, "AuthorizationPolicy", `{targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{kind: Secret, name: a}]}`, "cannot name a Secret"},
		{own, "AuthorizationPolicy", `{targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{kind: ServiceAccount}]}`, "without its name"},

		{own, "MeshTLSAuthentication", `{identities: ["*.prod.serviceaccount.identity.linkerd.cluster.local"]}`, ""},
		{own, "MeshTLSAuthentication", `{identities: []}`, "at least one of identities"},
		{own, "MeshTLSAuthentication", `{identities: [a], identityRefs: [{kind: Namespace, name: dev}]}`, "cannot both be named"},
		{own, "MeshTLSAuthentication", `{identityRefs: [{kind: Deployment, name: dev}]}`, "cannot name a Deployment"},

		{own, "NetworkAuthentication", `{networks: [{cidr: 0.0.0.0/0}]}`, ""},
		{own, "NetworkAuthentication", `{networks: []}`, "at least one network"},
		{own, "NetworkAuthentication", `{networks: [{cidr: 10.0.0.0/8, but: [10.1.0.0/16]}]}`, `unknown field "but"`},

		{own, "HTTPRoute", `{parentRefs: [{group: core, kind: Service, name: web}], rules: [{backendRefs: [{name: canary}]}]}`, ""},
		{own, "HTTPRoute", `{parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], rules: [{matches: [{path: {value: /x}}]}]}`, ""},
		{own, "HTTPRoute", `{parentRefs: [{group: policy.linkerd.io, kind: Server, name: web, namespace: dev}]}`, "a Server of another namespace: dev"},
		{own, "HTTPRoute", `{parentRefs: [{group: policy.linkerd.io, kind: Server, name: web, port: 9090}]}`, "cannot name a port of a Server"},
		{own, "HTTPRoute", `{parentRefs: [{group: policy.linkerd.io, kind: Server, name: web, sectionName: a}]}`, "cannot name a section"},
		{own, "HTTPRoute", `{parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], rules: [{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {}}]}]}`, "not supported on a Server"},
		{own, "HTTPRoute", `{rules: [{matches: [{path: {type: RegularExpression, value: "["}}]}]}`, "rule 1: expression"},
		{own, "HTTPRoute", `{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}`, "longer than that of the request"},
		{own, "HTTPRoute", `{rules: [{match: []}]}`, `unknown field "match"`},
		{gateway, "HTTPRoute", `{parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: canary, port: 9090}]}]}`, ""},
		{gateway, "HTTPRoute", `{rules: [{backendRefs: [{name: canary}]}]}`, "Service canary without a port"},
		{gateway, "HTTPRoute", `{rules: [{backendRefs: [{group: example.com, kind: Bucket, name: files}]}]}`, ""},
		{own, "Widget", `{}`, "Widget.policy.linkerd.io is of no kind"},
	} {
		t.Run(tc.kind+" "+tc.spec, func(t *testing.T) {
			r := p.Review(t.Context(), request(t, tc.group, tc.kind, tc.spec))
			require.Equal(t, tc.says == "", r.Allowed, "%v", r.Result)
			if tc.says != "" {
				require.Contains(t, r.Result.Message, tc.says)
				require.EqualValues(t, 403, r.Result.Code)
			}
		})
	}
}

func TestAnObjectThatGoesIsNotJudged(t *testing.T) {
	r := request(t, kinds.Group, "Server", `{}`)
	r.Operation = admissionv1.Delete
	require.True(t, policies().Review(t.Context(), r).Allowed)
}

func TestAServerThatCannotBeJudgedIsNotLetIn(t *testing.T) {
	p := policies()
	p.Servers = func(context.Context, string) ([]kinds.Server, error) {
		return nil, errors.New("the API server is away")
	}
	r := p.Review(t.Context(), request(t, kinds.Group, "Server", `{podSelector: {}, port: 8081}`))
	require.False(t, r.Allowed)
	require.EqualValues(t, 500, r.Result.Code)
	require.Contains(t, r.Result.Message, "the API server is away")
}

func TestServiceProfiles(t *testing.T) {
	const name = "web.prod.svc.cluster.local"
	review := func(name, spec string) *admissionv1.AdmissionResponse {
		raw, err := yaml.YAMLToJSON([]byte(`{apiVersion: linkerd.io/v1alpha2, kind: ServiceProfile, metadata: {namespace: prod, name: ` + name + `}, spec: ` + spec + `}`))
		require.NoError(t, err)
		return (&Profiles{Log: silent}).Review(t.Context(), &admissionv1.AdmissionRequest{
			Operation: admissionv1.Update, Kind: metav1.GroupVersionKind{Group: "linkerd.io", Kind: "ServiceProfile"},
			Object: runtime.RawExtension{Raw: raw},
		})
	}
	for _, tc := range []struct{ name, spec, says string }{
		{name, `{routes: [{name: GET /, condition: {method: GET, pathRegex: "/[a-z]*"}, responseClasses: [{condition: {status: {min: 500, max: 599}}, isFailure: true}], timeout: 300ms, isRetryable: true}]}`, ""},
		{name, `{routes: [{name: a, condition: {all: [{method: GET}, {not: {pathRegex: /x}}]}}], retryBudget: {retryRatio: 0.2, minRetriesPerSecond: 10, ttl: 10s}, opaquePorts: ["25"], dstOverrides: [{authority: a, weight: 500m}]}`, ""},
		{"web", `{}`, `"web" is no fully qualified domain name`},
		{name, `{routes: [{condition: {method: GET}}]}`, "a name is needed"},
		{name, `{routes: [{name: a}]}`, `route "a": a condition is needed`},
		{name, `{routes: [{name: a, condition: {}}]}`, "says nothing"},
		{name, `{routes: [{name: a, condition: {any: [{}]}}]}`, "says nothing"},
		{name, `{routes: [{name: a, condition: {pathRegex: "("}}]}`, "pathRegex"},
		{name, `{routes: [{name: a, condition: {method: GET}, timeout: soon}]}`, `"soon" is no duration`},
		{name, `{routes: [{name: a, condition: {method: GET}, responseClasses: [{condition: {status: {min: 500, max: 700}}}]}]}`, "no range of HTTP's"},
		{name, `{retryBudget: {ttl: soon}}`, "retryBudget"},
		{name, `{route: []}`, `unknown field "route"`},
	} {
		r := review(tc.name, tc.spec)
		require.Equal(t, tc.says == "", r.Allowed, "%s %v", tc.spec, r.Result)
		if tc.says != "" {
			require.Contains(t, r.Result.Message, tc.says)
		}
	}
}

func FuzzReview(f *testing.F) {
	f.Add(uint8(0), `{"podSelector":{"matchExpressions":[{"key":"a","operator":"Exists"}]},"port":"x"}`)
	f.Add(uint8(3), `{"identityRefs":[{"kind":"Namespace"}]}`)
	f.Add(uint8(5), `{"rules":[{"filters":[{"type":"RequestRedirect","requestRedirect":{"path":{"type":"ReplaceFullPath"}}}]}]}`)
	f.Add(uint8(6), `{"routes":[{"name":"a","condition":{"all":[null],"not":{}}}]}`)
	all := []string{"Server", "ServerAuthorization", "AuthorizationPolicy", "MeshTLSAuthentication", "NetworkAuthentication", "HTTPRoute", "ServiceProfile"}
	f.Fuzz(func(t *testing.T, n uint8, spec string) {
		if !json.Valid([]byte(spec)) {
			return
		}
		kind := all[int(n)%len(all)]
		req := &admissionv1.AdmissionRequest{
			Namespace: "prod", Kind: metav1.GroupVersionKind{Group: kinds.Group, Kind: kind},
			Object: runtime.RawExtension{Raw: fmt.Appendf(nil, `{"metadata":{"name":"a.b"},"spec":%s}`, spec)},
		}
		if r := policies().Review(t.Context(), req); !r.Allowed && r.Result.Message == "" {
			t.Fatal("refused without a reason")
		}
		if r := (&Profiles{Log: silent}).Review(t.Context(), req); !r.Allowed && r.Result.Message == "" {
			t.Fatal("refused without a reason")
		}
	})
}
