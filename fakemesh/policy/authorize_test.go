package policy

import (
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

const (
	web     = "web.prod.serviceaccount.identity.linkerd.cluster.local"
	payment = "payment.prod.serviceaccount.identity.linkerd.cluster.local"
	batch   = "batch.jobs.serviceaccount.identity.linkerd.cluster.local"
)

func from(addr, identity string) Client {
	return Client{Addr: netip.MustParseAddr(addr), Identity: identity}
}

func TestAnAuthorizationAsksForAnIdentityAndANetworkAtOnce(t *testing.T) {
	everywhere := Networks(Everywhere())
	for name, tc := range map[string]struct {
		authz  *meshapi.Authorization
		client Client
		want   bool
	}{
		"an identity that is named":               {&meshapi.Authorization{Networks: everywhere, Identities: []string{payment, web}}, from("10.1.2.3", web), true},
		"an identity that is not":                 {&meshapi.Authorization{Networks: everywhere, Identities: []string{payment}}, from("10.1.2.3", web), false},
		"an identity in another case":             {&meshapi.Authorization{Networks: everywhere, Identities: []string{web}}, from("10.1.2.3", strings.ToUpper(web)), false},
		"no identity where one is asked for":      {&meshapi.Authorization{Networks: everywhere, Identities: []string{"*"}}, from("10.1.2.3", ""), false},
		"any identity":                            {&meshapi.Authorization{Networks: everywhere, Identities: []string{"*"}}, from("10.1.2.3", batch), true},
		"an identity by its end":                  {&meshapi.Authorization{Networks: everywhere, Identities: []string{"*.prod.serviceaccount.identity.linkerd.cluster.local"}}, from("10.1.2.3", web), true},
		"an identity of another namespace":        {&meshapi.Authorization{Networks: everywhere, Identities: []string{"*.prod.serviceaccount.identity.linkerd.cluster.local"}}, from("10.1.2.3", batch), false},
		"an end without a name before it":         {&meshapi.Authorization{Networks: everywhere, Identities: []string{"*." + web}}, from("10.1.2.3", web), false},
		"an end that is no whole label":           {&meshapi.Authorization{Networks: everywhere, Identities: []string{"*.b.example"}}, from("10.1.2.3", "ab.example"), false},
		"nobody named":                            {&meshapi.Authorization{Networks: everywhere}, from("10.1.2.3", web), false},
		"no network":                              {&meshapi.Authorization{Unauthenticated: true}, from("10.1.2.3", web), false},
		"nobody need prove anything":              {&meshapi.Authorization{Networks: everywhere, Unauthenticated: true}, from("10.1.2.3", ""), true},
		"an address of the network":               {&meshapi.Authorization{Networks: []*meshapi.Network{{Cidr: "10.0.0.0/8"}}, Unauthenticated: true}, from("10.1.2.3", ""), true},
		"an address of another":                   {&meshapi.Authorization{Networks: []*meshapi.Network{{Cidr: "10.0.0.0/8"}}, Unauthenticated: true}, from("11.1.2.3", ""), false},
		"an address of the second network":        {&meshapi.Authorization{Networks: []*meshapi.Network{{Cidr: "192.168.0.0/16"}, {Cidr: "10.1.2.3"}}, Unauthenticated: true}, from("10.1.2.3", ""), true},
		"an address that is excepted":             {&meshapi.Authorization{Networks: []*meshapi.Network{{Cidr: "10.0.0.0/8", Except: []string{"10.1.0.0/16", "10.2.0.0/16"}}}, Unauthenticated: true}, from("10.1.2.3", ""), false},
		"an address beside what is excepted":      {&meshapi.Authorization{Networks: []*meshapi.Network{{Cidr: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}}, Unauthenticated: true}, from("10.3.2.3", ""), true},
		"the right identity from the wrong place": {&meshapi.Authorization{Networks: []*meshapi.Network{{Cidr: "192.168.0.0/16"}}, Identities: []string{web}}, from("10.1.2.3", web), false},
		"the wrong identity from the right place": {&meshapi.Authorization{Networks: []*meshapi.Network{{Cidr: "10.0.0.0/8"}}, Identities: []string{web}}, from("10.1.2.3", payment), false},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := compileAuthorizations([]*meshapi.Authorization{tc.authz})
			require.NoError(t, err)
			require.Equal(t, tc.want, list[0].admits(tc.client))
		})
	}
}

func authz(name string, ids ...string) *meshapi.Authorization {
	return &meshapi.Authorization{
		Resource: &meshapi.Resource{Group: "policy.linkerd.io", Kind: "authorizationpolicy", Name: name},
		Networks: Networks(Everywhere()), Identities: ids,
	}
}

func httpRoute(name string, prefix string, list ...*meshapi.Authorization) *meshapi.Route {
	return &meshapi.Route{
		Resource: &meshapi.Resource{Group: "policy.linkerd.io", Kind: "HTTPRoute", Name: name}, Authorizations: list,
		Rules: []*meshapi.Rule{{Matches: []*meshapi.Match{{Path: &meshapi.PathMatch{Value: prefix}}}}},
	}
}

// served are rules of port 9090 under the Server web, and deny elsewhere.
func served(t testing.TB, p *meshapi.PortRules) *Port {
	p.Server = &meshapi.Resource{Group: "policy.linkerd.io", Kind: "server", Name: "web"}
	rules := Defaults{Policy: Deny}.Rules()
	rules.Ports[9090] = p
	return compiled(t, rules).Port(9090)
}

func TestAServerWithoutAuthorizationDeniesAllButThePodItself(t *testing.T) {
	p := served(t, &meshapi.PortRules{Routes: Defaults{}.Routes(9090)})
	d := p.Connection(from("10.1.2.3", web))
	require.Equal(t, Decision{Server: Ref{"policy.linkerd.io", "server", "web"}}, d)
	r := httptest.NewRequest("GET", "/", nil)
	require.False(t, p.Request(from("10.1.2.3", web), r).Allowed)
	d = p.Request(from("127.0.0.1", ""), r)
	require.True(t, d.Allowed)
	require.Equal(t, Ref{Kind: "default", Name: "localhost"}, d.Authz)
}

func TestARouteLetsInItsOwnClientsAndItsServers(t *testing.T) {
	p := served(t, &meshapi.PortRules{
		Authorizations: []*meshapi.Authorization{authz("admins", payment)},
		Routes:         []*meshapi.Route{httpRoute("orders", "/orders", authz("shoppers", web)), httpRoute("stock", "/stock")},
	})
	for target, tc := range map[string]struct {
		client    Client
		allowed   bool
		authz, at string
	}{
		"/orders/1?own":    {from("10.1.2.3", web), true, "shoppers", "orders"},
		"/orders?servers":  {from("10.1.2.3", payment), true, "admins", "orders"},
		"/orders?stranger": {from("10.1.2.3", batch), false, "", "orders"},
		"/stock?others":    {from("10.1.2.3", web), false, "", "stock"},
		"/stock?servers":   {from("10.1.2.3", payment), true, "admins", "stock"},
	} {
		d := p.Request(tc.client, httptest.NewRequest("GET", target, nil))
		require.Equal(t, tc.allowed, d.Allowed, target)
		require.Equal(t, tc.authz, d.Authz.Name, target)
		require.Equal(t, tc.at, d.Route.Name, target)
	}
	d := p.Request(from("10.1.2.3", payment), httptest.NewRequest("GET", "/healthz", nil))
	require.Equal(t, Decision{Server: Ref{"policy.linkerd.io", "server", "web"}, NoRoute: true}, d)
	require.False(t, p.Connection(from("10.1.2.3", web)).Allowed, "a route's clients get no bare connection")
	require.True(t, p.Connection(from("10.1.2.3", payment)).Allowed)
}

func TestAPortOfHTTPLetsNoOtherBytesIn(t *testing.T) {
	for protocol, want := range map[meshapi.PortRules_Protocol]bool{
		meshapi.PortRules_DETECT: true, meshapi.PortRules_OPAQUE: true, meshapi.PortRules_TLS: true,
		meshapi.PortRules_HTTP1: false, meshapi.PortRules_HTTP2: false, meshapi.PortRules_GRPC: false,
	} {
		p := served(t, &meshapi.PortRules{
			Protocol: protocol, Authorizations: []*meshapi.Authorization{authz("all", "*")}, Routes: Defaults{}.Routes(9090),
		})
		require.Equal(t, want, p.Connection(from("10.1.2.3", web)).Allowed, protocol)
		require.True(t, p.Connection(from("127.0.0.1", "")).Allowed, protocol)
		require.True(t, p.Request(from("10.1.2.3", web), httptest.NewRequest("GET", "/", nil)).Allowed, protocol)
	}
}

func TestRulesThatSayNothingSensibleAreRefused(t *testing.T) {
	good := func() *meshapi.InboundRules { return Defaults{Policy: Deny}.Rules() }
	for says, change := range map[string]func(*meshapi.InboundRules){
		"the rules say nothing of other ports": func(r *meshapi.InboundRules) { r.Others = nil },
		"70000 is no port":                     func(r *meshapi.InboundRules) { r.Ports[70000] = r.Others },
		`port 80: authorization x: "10" is no network`: func(r *meshapi.InboundRules) {
			r.Ports[80] = &meshapi.PortRules{Authorizations: []*meshapi.Authorization{{
				Resource: &meshapi.Resource{Name: "x"}, Networks: []*meshapi.Network{{Cidr: "10"}}}}}
		},
		`identity "web*"`: func(r *meshapi.InboundRules) {
			r.Others.Authorizations = []*meshapi.Authorization{{Identities: []string{"web*"}}}
		},
		`path "orders" does not begin with a slash`: func(r *meshapi.InboundRules) {
			r.Others.Routes = []*meshapi.Route{httpRoute("x", "orders")}
		},
	} {
		r := good()
		change(r)
		_, err := Compile(r)
		require.ErrorContains(t, err, says)
	}
}

func FuzzIdentities(f *testing.F) {
	for _, s := range []string{"*", "*.x", "a.b", "*.", "-a", "a..b", "*.*", web} {
		f.Add(s, web)
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		ids, err := compileIdentities([]string{pattern})
		if err != nil || !ids.has(name) {
			return
		}
		end := strings.TrimPrefix(pattern, "*")
		if name == "" || !strings.HasSuffix(name, end) || pattern[0] != '*' && name != pattern {
			t.Fatalf("%q lets in %q", pattern, name)
		}
	})
}

func FuzzParseNetwork(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.1.2.3", "::/0", "1.2.3.4/33", "fe80::1%eth0", "10.1.2.3/8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseNetwork(s)
		if err != nil {
			return
		}
		if again, err := ParseNetwork(p.String()); err != nil || again != p || p.Masked() != p {
			t.Fatalf("%q is %s, which is %s (%v)", s, p, again, err)
		}
	})
}
