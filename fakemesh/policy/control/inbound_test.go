package control

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
)

// describe writes a port's rules in short: who is let in, and the routes with
// whom they let in.
func describe(p *meshapi.PortRules) map[string][]string {
	out := map[string][]string{}
	put := func(of string, list []*meshapi.Authorization) {
		out[of] = []string{}
		for _, a := range list {
			text := a.Resource.Kind + "/" + a.Resource.Name
			if a.Unauthenticated {
				text += " anyone"
			}
			for _, id := range a.Identities {
				text += " " + id
			}
			text += " from"
			for _, n := range a.Networks {
				text += " " + n.Cidr
				for _, e := range n.Except {
					text += " but " + e
				}
			}
			out[of] = append(out[of], text)
		}
	}
	put("server "+p.Server.Name, p.Authorizations)
	for _, r := range p.Routes {
		put("route "+r.Resource.Name, r.Authorizations)
	}
	return out
}

const anywhere = " from 0.0.0.0/0 ::/0"

// port gives what a pod's port is like once something is known of it.
func (c *cluster) port(number uint32, ok func(*meshapi.PortRules) bool) *meshapi.PortRules {
	c.t.Helper()
	return c.inbound("prod/web-1").until(func(r *meshapi.InboundRules) bool {
		p := r.Ports[number]
		return p != nil && ok(p)
	}).Ports[number]
}

func served(p *meshapi.PortRules) bool { return p.Server.Kind == "server" }

func TestWithoutServersAPodGoesByTheDefaultThatItWasMadeWith(t *testing.T) {
	c := newCluster(t)
	c.add("Pod", webPod)
	got := c.inbound("prod/web-1").until(func(r *meshapi.InboundRules) bool { return r.Others != nil })
	require.Equal(t, "deny", got.Others.Server.Name)
	require.Empty(t, got.Others.Authorizations)
	require.Equal(t, map[string][]string{
		"server deny": {}, "route default": {}, "route probe": {"default/probe anyone" + anywhere},
	}, describe(got.Ports[8081]))
	_, err := policy.Compile(got)
	require.NoError(t, err)
}

func TestAServerTakesItsPortsFromTheDefault(t *testing.T) {
	for name, tc := range map[string]struct {
		server string
		port   uint32
		want   meshapi.PortRules_Protocol
	}{
		"by number":                 {`{metadata: {name: s}, spec: {podSelector: {matchLabels: {app: web}}, port: 9090, proxyProtocol: gRPC}}`, 9090, meshapi.PortRules_GRPC},
		"by the container's name":   {`{metadata: {name: s}, spec: {podSelector: {}, port: grpc, proxyProtocol: HTTP/2}}`, 9090, meshapi.PortRules_HTTP2},
		"of a port nobody declares": {`{metadata: {name: s}, spec: {podSelector: {}, port: 7000}}`, 7000, meshapi.PortRules_DETECT},
		"by an expression": {`{metadata: {name: s}, spec: {podSelector: {matchExpressions: [{key: app, operator: In, values: [web, x]}]},
			port: 9090, proxyProtocol: opaque}}`, 9090, meshapi.PortRules_OPAQUE},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.add("Pod", webPod)
			c.add("Server", tc.server)
			got := c.port(tc.port, served)
			require.Equal(t, tc.want, got.Protocol)
			require.Equal(t, "policy.linkerd.io/server/s", got.Server.Group+"/"+got.Server.Kind+"/"+got.Server.Name)
			require.Empty(t, got.Authorizations, "nobody is let in until something says so")
		})
	}
}

func TestServersOfOtherPodsAndNamespacesDoNotCount(t *testing.T) {
	c := newCluster(t)
	c.add("Pod", webPod)
	c.add("Server", `{metadata: {name: other}, spec: {podSelector: {matchLabels: {app: other}}, port: 9090}}`)
	c.add("Server", `{metadata: {name: elsewhere, namespace: dev}, spec: {podSelector: {}, port: 9090}}`)
	c.add("Server", `{metadata: {name: named}, spec: {podSelector: {}, port: http}}`)
	c.add("Server", `{metadata: {name: admin}, spec: {podSelector: {}, port: admin}}`)
	f := c.inbound("prod/web-1")
	got := f.until(func(r *meshapi.InboundRules) bool { return r.Ports[8081].Server.Kind == "server" })
	require.NotContains(t, got.Ports, uint32(9090))
	require.Contains(t, describe(got.Ports[8081]), "route probe", "probes are let in by a Server's ports as well")
}

func TestOfTwoServersOnOnePortTheOlderCounts(t *testing.T) {
	c := newCluster(t)
	c.add("Pod", webPod)
	c.add("Server", `{metadata: {name: a, creationTimestamp: "2026-01-02T00:00:00Z"}, spec: {podSelector: {}, port: 9090}}`)
	c.add("Server", `{metadata: {name: b, creationTimestamp: "2026-01-01T00:00:00Z"}, spec: {podSelector: {}, port: grpc}}`)
	require.Equal(t, "b", c.port(9090, func(p *meshapi.PortRules) bool { return p.Server.Name == "b" }).Server.Name)
}

func TestWhoIsLetIntoAServer(t *testing.T) {
	const id = ".serviceaccount.identity.linkerd.cluster.local"
	for name, tc := range map[string]struct {
		objects [][2]string
		want    []string
	}{
		"by a ServerAuthorization for anybody, which is the cluster's networks": {
			[][2]string{{"ServerAuthorization", `{metadata: {name: x}, spec: {server: {name: web}, client: {unauthenticated: true}}}`}},
			[]string{"serverauthorization/x anyone from 10.0.0.0/8"},
		},
		"by a ServerAuthorization for some": {
			[][2]string{{"ServerAuthorization", `{metadata: {name: x}, spec: {server: {selector: {matchLabels: {tier: front}}}, client: {networks: [{cidr: 0.0.0.0/0, except: [10.1.0.0/16]}],
				meshTLS: {identities: ["*.jobs.example"], serviceAccounts: [{name: a}, {name: b, namespace: dev}]}}}}`}},
			[]string{"serverauthorization/x *.jobs.example a.prod" + id + " b.dev" + id + " from 0.0.0.0/0 but 10.1.0.0/16"},
		},
		"by a ServerAuthorization for any TLS": {
			[][2]string{{"ServerAuthorization", `{metadata: {name: x}, spec: {server: {name: web}, client: {meshTLS: {unauthenticatedTLS: true}}}}`}},
			[]string{"serverauthorization/x * from 10.0.0.0/8"},
		},
		"not by a ServerAuthorization for another Server": {
			[][2]string{{"ServerAuthorization", `{metadata: {name: x}, spec: {server: {name: other}, client: {unauthenticated: true}}}`}}, []string{},
		},
		"not by a ServerAuthorization that names nobody": {
			[][2]string{{"ServerAuthorization", `{metadata: {name: x}, spec: {server: {name: web}, client: {meshTLS: {}}}}`}}, []string{},
		},
		"by a policy on the Server, identities and networks at once": {
			[][2]string{
				{"AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [
					{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: shop}, {group: policy.linkerd.io, kind: NetworkAuthentication, name: pods, namespace: net}]}}`},
				{"MeshTLSAuthentication", `{metadata: {name: shop}, spec: {identityRefs: [{kind: ServiceAccount, name: a}, {kind: Namespace, name: dev}, {kind: ServiceAccount}]}}`},
				{"NetworkAuthentication", `{metadata: {name: pods, namespace: net}, spec: {networks: [{cidr: 10.244.0.0/16}, {cidr: 1.2.3.4}]}}`},
			},
			[]string{"authorizationpolicy/p a.prod" + id + " *.dev" + id + " *.prod" + id + " from 10.244.0.0/16 1.2.3.4/32"},
		},
		"by a policy with a service account": {
			[][2]string{{"AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: a, namespace: dev}]}}`}},
			[]string{"authorizationpolicy/p a.dev" + id + anywhere},
		},
		"by a policy without references, which is everybody": {
			[][2]string{{"AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: []}}`}},
			[]string{"authorizationpolicy/p anyone" + anywhere},
		},
		"by a policy on the namespace": {
			[][2]string{{"AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {kind: Namespace, name: prod}, requiredAuthenticationRefs: []}}`}},
			[]string{"authorizationpolicy/p anyone" + anywhere},
		},
		"not by a policy of another namespace": {
			[][2]string{{"AuthorizationPolicy", `{metadata: {name: p, namespace: dev}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: []}}`}}, []string{},
		},
		"not by a policy whose reference leads nowhere": {
			[][2]string{{"AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: gone}]}}`}}, []string{},
		},
		"not by a policy that requires two identities at once": {
			[][2]string{{"AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{kind: ServiceAccount, name: a}, {kind: ServiceAccount, name: b}]}}`}}, []string{},
		},
		"not by a policy on a route": {
			[][2]string{{"AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: web}, requiredAuthenticationRefs: []}}`}}, []string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.add("Pod", webPod)
			for _, o := range tc.objects {
				c.add(o[0], o[1])
			}
			// The mark comes last: then all that was added before is known.
			c.add("ServerAuthorization", `{metadata: {name: zz-mark}, spec: {server: {name: web}, client: {unauthenticated: true, networks: [{cidr: 9.9.9.9}]}}}`)
			c.add("Server", `{metadata: {name: web, labels: {tier: front}}, spec: {podSelector: {}, port: 9090}}`)
			const mark = "serverauthorization/zz-mark anyone from 9.9.9.9/32"
			want := map[string][]string{"server web": append(tc.want, mark), "route default": {}}
			f := c.inbound("prod/web-1")
			require.Eventually(t, func() bool {
				got := f.until(func(r *meshapi.InboundRules) bool { return r.Ports[9090] != nil }).Ports[9090]
				return len(describe(got)["server web"]) == len(want["server web"])
			}, patience, patience/100)
			got := describe(f.last.Ports[9090])
			require.ElementsMatch(t, want["server web"], got["server web"])
			require.Empty(t, got["route default"])
			_, err := policy.Compile(f.last)
			require.NoError(t, err)
		})
	}
}

func TestARouteTakesThePlaceOfTheDefaultAndTheProbe(t *testing.T) {
	c := newCluster(t)
	c.add("Pod", webPod)
	c.add("Server", `{metadata: {name: admin}, spec: {podSelector: {}, port: admin}}`)
	f := c.inbound("prod/web-1")
	routes := func(n int) func(*meshapi.InboundRules) bool {
		return func(r *meshapi.InboundRules) bool {
			return r.Ports[8081].Server.Kind == "server" && len(r.Ports[8081].Routes) == n
		}
	}
	f.until(routes(2))
	route := `{metadata: {name: metrics}, spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: admin}], rules: [{matches: [{path: {type: Exact, value: /metrics}, method: GET}]}]}}`
	c.add("HTTPRoute", route)
	f.until(routes(1))
	require.Equal(t, map[string][]string{"server admin": {}, "route metrics": {}}, describe(f.last.Ports[8081]))
	c.add("AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: metrics}, requiredAuthenticationRefs: []}}`)
	f.until(func(r *meshapi.InboundRules) bool { return len(r.Ports[8081].Routes[0].Authorizations) == 1 })
	require.Equal(t, map[string][]string{"server admin": {}, "route metrics": {"authorizationpolicy/p anyone" + anywhere}}, describe(f.last.Ports[8081]))

	// The same name in the other group is another route, with another policy.
	c.add("GatewayHTTPRoute", `{metadata: {name: metrics}, spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: admin}]}}`)
	f.until(routes(2))
	require.Equal(t, "gateway.networking.k8s.io", f.last.Ports[8081].Routes[1].Resource.Group)
	require.Empty(t, f.last.Ports[8081].Routes[1].Authorizations)
	c.remove("HTTPRoute", route)
	f.until(routes(1))
}

func TestRoutesThatCannotBeAttachedAreIgnored(t *testing.T) {
	c := newCluster(t)
	c.add("Pod", webPod)
	c.add("Server", `{metadata: {name: web}, spec: {podSelector: {}, port: 9090}}`)
	for i, spec := range []string{
		`parentRefs: [{group: policy.linkerd.io, kind: Server, name: web, port: 9090}]`,
		`parentRefs: [{group: policy.linkerd.io, kind: Server, name: web, namespace: dev}]`,
		`parentRefs: [{group: policy.linkerd.io, kind: Server, name: other}]`,
		`parentRefs: [{kind: Server, name: web}]`,
		`parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], rules: [{matches: [{path: {type: RegularExpression, value: "("}}]}]`,
	} {
		c.add("HTTPRoute", `{metadata: {name: r`+string(rune('a'+i))+`}, spec: {`+spec+`}}`)
	}
	c.add("HTTPRoute", `{metadata: {name: good}, spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], rules: [{}]}}`)
	got := c.port(9090, func(p *meshapi.PortRules) bool { return p.Routes[0].Resource.Name == "good" })
	require.Len(t, got.Routes, 1)
}

func TestAChangeOfWhatAPolicyRefersToIsTold(t *testing.T) {
	c := newCluster(t)
	c.add("Pod", webPod)
	c.add("Server", `{metadata: {name: web}, spec: {podSelector: {}, port: 9090}}`)
	c.add("AuthorizationPolicy", `{metadata: {name: p}, spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}, requiredAuthenticationRefs: [{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: ids, namespace: sec}]}}`)
	f := c.inbound("prod/web-1")
	let := func(ids ...string) {
		t.Helper()
		f.until(func(r *meshapi.InboundRules) bool {
			a := r.Ports[9090].GetAuthorizations()
			return len(ids) == 0 && r.Ports[9090] != nil && len(a) == 0 || len(a) == 1 && len(a[0].Identities) == len(ids)
		})
		for i, id := range ids {
			require.Equal(t, id, f.last.Ports[9090].Authorizations[0].Identities[i])
		}
	}
	let()
	c.add("MeshTLSAuthentication", `{metadata: {name: ids, namespace: sec}, spec: {identities: [a]}}`)
	let("a")
	c.change("MeshTLSAuthentication", `{metadata: {name: ids, namespace: sec}, spec: {identities: [a, b]}}`)
	let("a", "b")
	c.remove("MeshTLSAuthentication", `{metadata: {name: ids, namespace: sec}, spec: {identities: [a, b]}}`)
	let()
	c.remove("Server", `{metadata: {name: web}, spec: {podSelector: {}, port: 9090}}`)
	f.until(func(r *meshapi.InboundRules) bool { return r.Ports[9090] == nil })
}

func TestAPodsLabelsMayChange(t *testing.T) {
	c := newCluster(t)
	c.add("Server", `{metadata: {name: web}, spec: {podSelector: {matchLabels: {app: web}}, port: 9090}}`)
	f := c.inbound("prod/web-1")
	f.until(func(r *meshapi.InboundRules) bool { return r.Ports[9090] == nil })
	c.add("Pod", webPod)
	f.until(func(r *meshapi.InboundRules) bool { return r.Ports[9090] != nil })
	c.change("Pod", `{metadata: {name: web-1, labels: {app: old}}}`)
	f.until(func(r *meshapi.InboundRules) bool { return r.Ports[9090] == nil })
}

func TestWhoAsksWronglyIsRefused(t *testing.T) {
	c := newCluster(t)
	for _, req := range []*meshapi.WatchInboundRequest{
		{Pod: "web-1"}, {Pod: "/web-1"}, {Pod: "prod/web-1", DefaultPolicy: "all"}, {Pod: "prod/web-1", Probes: "http/x"},
	} {
		stream, err := c.client.WatchInbound(c.ctx, req)
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err), req)
	}
	for _, addr := range []string{"web:80", "10.0.0.1", "[::1]:80"} {
		stream, err := c.client.WatchOutbound(c.ctx, &meshapi.WatchOutboundRequest{Address: addr})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err), addr)
	}
}
