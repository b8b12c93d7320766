package mesh

import (
	"net/netip"
	"strings"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/test/loopmesh"
)

const group = "policy.linkerd.io"

// rules are those that take turns while the pods run. Each lets the clients in,
// by another resource.
func rules() []*meshapi.InboundRules {
	return []*meshapi.InboundRules{nil, byServer(), byRoutes(), byNetwork()}
}

// base are the rules of pods that no Server selects.
func base(p policy.Default) (policy.Defaults, *meshapi.InboundRules) {
	d := policy.Defaults{
		Policy: p, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ProbeNetworks: policy.Everywhere(),
		Probes: []policy.Probe{{Port: contract.PortAdmin, Path: "/ready"}},
	}
	return d, d.Rules()
}

func authorization(name string) *meshapi.Authorization {
	return &meshapi.Authorization{
		Resource: &meshapi.Resource{Group: group, Kind: "authorizationpolicy", Name: name},
		Networks: policy.Networks(policy.Everywhere()), Identities: []string{loopmesh.IdentityOf("client")},
	}
}

// byServer lets clients in by their identity, whatever they ask for.
func byServer() *meshapi.InboundRules {
	d, all := base(policy.Deny)
	for _, port := range []uint16{portWeb, portOpaque} {
		all.Ports[uint32(port)] = &meshapi.PortRules{
			Server:         &meshapi.Resource{Group: group, Kind: "server", Name: "app"},
			Authorizations: []*meshapi.Authorization{authorization("clients")}, Routes: d.Routes(port),
		}
	}
	return all
}

// byRoutes lets them in by what they ask for.
func byRoutes() *meshapi.InboundRules {
	all := byServer()
	web := all.Ports[portWeb]
	web.Authorizations = nil
	route := func(name string, path *meshapi.PathMatch) *meshapi.Route {
		return &meshapi.Route{
			Resource:       &meshapi.Resource{Group: group, Kind: "httproute", Name: name},
			Rules:          []*meshapi.Rule{{Matches: []*meshapi.Match{{Method: "POST", Path: path}}}},
			Authorizations: []*meshapi.Authorization{authorization(name)},
		}
	}
	web.Routes = []*meshapi.Route{
		route("orders", &meshapi.PathMatch{Kind: meshapi.PathMatch_EXACT, Value: "/order"}),
		route("calls", &meshapi.PathMatch{Kind: meshapi.PathMatch_PREFIX, Value: "/grpc.testing.TestService"}),
	}
	return all
}

// byNetwork lets everybody in who is in the cluster.
func byNetwork() *meshapi.InboundRules {
	_, all := base(policy.ClusterUnauthenticated)
	return all
}

// admitted are the resources by which the application's requests and connections
// were let in. On loopback everybody is let in at last, as a pod's own containers
// are: who came by that would have been refused on a real network.
func admitted(metrics string) (by map[string]bool, refused bool) {
	by = map[string]bool{}
	for line := range strings.Lines(metrics) {
		if !strings.Contains(line, `target_port="8080"`) && !strings.Contains(line, `target_port="9000"`) {
			continue
		}
		switch {
		case strings.Contains(line, "_authz_deny_total{"), strings.Contains(line, "_authz_terminate_total{"),
			strings.HasPrefix(line, "inbound_http_route_not_found_total{"):
			refused = true
		case strings.Contains(line, "_authz_allow_total{"):
			_, rest, _ := strings.Cut(line, `authz_name="`)
			name, _, _ := strings.Cut(rest, `"`)
			by[name] = true
		}
	}
	return by, refused
}
