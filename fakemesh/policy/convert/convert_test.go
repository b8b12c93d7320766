package convert

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

var mesh = Mesh{Mesh: meshid.Mesh{Namespace: "linkerd", TrustDomain: "cluster.local"}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}

func httpRoute(t testing.TB, spec string) *kinds.HTTPRoute {
	t.Helper()
	r := &kinds.HTTPRoute{}
	r.Namespace, r.Name = "prod", "r"
	require.NoError(t, yaml.UnmarshalStrict([]byte(spec), &r.Spec), spec)
	return r
}

func TestARouteIsMadeOfAnHTTPRoute(t *testing.T) {
	r := httpRoute(t, `{hostnames: [shop.example, "*.example"], rules: [{
		matches: [{path: {type: Exact, value: /a}, method: GET, headers: [{name: x-team, value: green}], queryParams: [{type: RegularExpression, name: v, value: "[0-9]"}]}, {}],
		filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}},
			{type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.example, port: 8443, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}],
		backendRefs: [{name: web, port: 9090, weight: 3, filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [server]}}]}, {name: canary, port: 9090}],
		timeouts: {request: 1m30s, backendRequest: 10s}}]}`)
	got, err := Outbound(kinds.Group, r, func(b kinds.BackendRef) *meshapi.Backend { return &meshapi.Backend{Address: b.Name} })
	require.NoError(t, err)
	want := &meshapi.Route{}
	require.NoError(t, protojson.Unmarshal([]byte(`{
		"resource": {"group": "policy.linkerd.io", "kind": "HTTPRoute", "namespace": "prod", "name": "r"},
		"hosts": ["shop.example", "*.example"],
		"rules": [{
			"matches": [{"path": {"kind": "EXACT", "value": "/a"}, "method": "GET", "headers": [{"name": "x-team", "value": "green"}],
				"queries": [{"name": "v", "value": "[0-9]", "regex": true}]}, {}],
			"filters": {"request": {"set": [{"name": "a", "value": "b"}], "add": [{"name": "c", "value": "d"}], "remove": ["e"]},
				"redirect": {"scheme": "https", "hostname": "new.example", "port": 8443, "status": 301, "path": "/b", "replacePrefix": true}},
			"backends": [{"address": "web", "weight": 3, "filters": {"response": {"remove": ["server"]}}}, {"address": "canary", "weight": 1}],
			"timeout": "10s"}]}`), want))
	require.Equal(t, protojson.Format(want), protojson.Format(got))
}

func TestHowLongARequestMayTake(t *testing.T) {
	for spec, want := range map[string]time.Duration{
		`{}`: 0, `{timeouts: {}}`: 0, `{timeouts: {request: 0s}}`: 0, `{timeouts: {request: 2s}}`: 2 * time.Second,
		`{timeouts: {backendRequest: 500ms}}`: 500 * time.Millisecond, `{timeouts: {request: 2s, backendRequest: 1s}}`: time.Second,
	} {
		r, err := Outbound(kinds.Group, httpRoute(t, `{rules: [`+spec+`]}`), nil)
		require.NoError(t, err, spec)
		require.Equal(t, want, r.Rules[0].Timeout.AsDuration(), spec)
	}
}

func TestRoutesThatMakeNoSense(t *testing.T) {
	backend := func(kinds.BackendRef) *meshapi.Backend { return &meshapi.Backend{} }
	for spec, says := range map[string]string{
		`{hostnames: ["*"]}`: `hostname "*"`,
		`{rules: [{}, {matches: [{path: {type: RegularExpression, value: "("}}]}]}`:                                                                  "rule 2: expression",
		`{rules: [{matches: [{path: {value: orders}}]}]}`:                                                                                            "does not begin with a slash",
		`{rules: [{matches: [{path: {type: Glob, value: /x}}]}]}`:                                                                                    `type "Glob" is not known`,
		`{rules: [{matches: [{headers: [{type: Glob, name: a, value: b}]}]}]}`:                                                                       `type "Glob" of a is not known`,
		`{rules: [{filters: [{type: RequestMirror, requestMirror: {}}]}]}`:                                                                           "the filter RequestMirror is not supported",
		`{rules: [{filters: [{type: RequestRedirect}]}]}`:                                                                                            "lacks what it is to do",
		`{rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]}]}`:                                                            "want http or https",
		`{rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307}}]}]}`:                                                        "want 301 or 302",
		`{rules: [{filters: [{type: RequestRedirect, requestRedirect: {port: 0}}]}]}`:                                                                "port 0, which is none",
		`{rules: [{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath}}}]}]}`:                                          "lacks the path",
		`{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: "a b", value: c}]}}]}]}`:                             "cannot be sent",
		`{rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}}, {type: RequestHeaderModifier, requestHeaderModifier: {}}]}]}`: "is there twice",
		`{rules: [{timeouts: {request: soon}}]}`:                                                                                                     `"soon" is no duration`,
		`{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}`:                                                                                   "is longer than that of the request",
		`{rules: [{backendRefs: [{name: web, port: 1, filters: [{type: ExtensionRef, extensionRef: {}}]}]}]}`:                                        "backend web: the filter ExtensionRef is not supported",
	} {
		_, err := Outbound(kinds.Group, httpRoute(t, spec), backend)
		require.ErrorContains(t, err, says, spec)
	}
	_, err := Inbound(kinds.Group, httpRoute(t, `{rules: [{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}]}]}`))
	require.ErrorContains(t, err, "ResponseHeaderModifier is not supported on a Server")
}

func TestNetworksHoldTheirExceptions(t *testing.T) {
	for text, says := range map[string]string{
		`[]`:             "at least one network",
		`[{cidr: 10/8}]`: `"10/8" is no network`,
		`[{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]`:     "nothing is left of network 10.0.0.0/8 without 10.0.0.0/8",
		`[{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}]`:      "nothing is left",
		`[{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]`:    "does not hold its exception 11.0.0.0/16",
		`[{cidr: 10.0.0.0/8, except: [10.300.0.0/16]}]`:  "is no network",
		`[{cidr: 10.0.0.0/8, except: ["fd00::/64"]}]`:    "does not hold",
		`[{cidr: 10.0.0.0/8, except: [10.1.2.3, "x"]}]`:  "is no network",
		`[{cidr: 10.0.0.0/8, except: [10.1.2.3]}]`:       "",
		`[{cidr: "fd00::/8", except: ["fd00:1::/32"]}]`:  "",
		`[{cidr: 10.1.2.3}, {cidr: 10.99.0.0/16}]`:       "",
		`[{cidr: 10.1.2.3/8, except: [10.128.0.0/9]}]`:   "",
		`[{cidr: 10.0.0.0/8, except: [10.0.0.0/7]}]`:     "nothing is left",
		`[{cidr: 10.0.0.0/8, except: ["10.0.0.0/8 "]}]`:  "is no network",
		`[{cidr: 10.0.0.0/8}, {cidr: 192.168.0.0/16.1}]`: "is no network",
	} {
		var list []kinds.Network
		require.NoError(t, yaml.Unmarshal([]byte(text), &list))
		_, err := Networks(list)
		if says == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, says, text)
	}
}

func TestIdentitiesAreNamesOrRefer(t *testing.T) {
	const end = ".serviceaccount.identity.linkerd.cluster.local"
	for text, want := range map[string][]string{
		`{identities: ["*", a.b, "*.b"]}`:                                     {"*", "a.b", "*.b"},
		`{identityRefs: [{kind: ServiceAccount, name: web}]}`:                 {"web.prod" + end},
		`{identityRefs: [{kind: serviceaccount, name: web, namespace: dev}]}`: {"web.dev" + end},
		`{identityRefs: [{group: core, kind: ServiceAccount}]}`:               {"*.prod" + end},
		`{identityRefs: [{kind: Namespace, name: dev}]}`:                      {"*.dev" + end},
		`{identityRefs: [{kind: Namespace}]}`:                                 {"*.prod" + end},
	} {
		var spec kinds.MeshTLSAuthenticationSpec
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &spec))
		got, err := mesh.Identities("prod", spec)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for text, says := range map[string]string{
		`{}`:                    "at least one of identities and identityRefs",
		`{identities: []}`:      "at least one of identities and identityRefs",
		`{identities: ["Web"]}`: `identity "Web"`,
		`{identities: ["a.*"]}`: `identity "a.*"`,
		`{identityRefs: [{kind: Pod, name: web}]}`:                         "cannot name a Pod",
		`{identityRefs: [{group: apps, kind: ServiceAccount, name: web}]}`: "cannot name a ServiceAccount.apps",
		`{identityRefs: [{kind: Namespace, name: dev, namespace: x}]}`:     "namespace must not be set",
	} {
		var spec kinds.MeshTLSAuthenticationSpec
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &spec))
		_, err := mesh.Identities("prod", spec)
		require.ErrorContains(t, err, says, text)
	}
}

// Whatever makes a route of an HTTPRoute makes one that a proxy can compile:
// a rule that it cannot would keep all others from it.
func FuzzWhatIsConvertedCompiles(f *testing.F) {
	for _, s := range []string{
		`{"hostnames":["*.a.example"],"rules":[{"matches":[{"path":{"type":"RegularExpression","value":"/a|(b)"}}]}]}`,
		`{"rules":[{"filters":[{"type":"RequestRedirect","requestRedirect":{"path":{"type":"ReplacePrefixMatch","replacePrefixMatch":""}}}]}]}`,
		`{"rules":[{"backendRefs":[{"name":"a","weight":-1}],"timeouts":{"request":"1h"}}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := &kinds.HTTPRoute{}
		if json.Unmarshal(raw, &r.Spec) != nil {
			return
		}
		rules := policy.Defaults{Policy: policy.Deny}.Rules()
		if in, err := Inbound(kinds.Group, r); err == nil {
			rules.Others.Routes = append(rules.Others.Routes, in)
			if _, err := policy.Compile(rules); err != nil {
				t.Fatal(err)
			}
		}
		out, err := Outbound(kinds.Group, r, func(kinds.BackendRef) *meshapi.Backend { return &meshapi.Backend{Address: "10.0.0.1:1"} })
		if err != nil {
			return
		}
		if _, err := policy.CompileOutbound(&meshapi.OutboundRules{Routes: []*meshapi.Route{out}}); err != nil {
			t.Fatal(err)
		}
	})
}
