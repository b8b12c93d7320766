// Package policy decides which inbound traffic a proxy lets through, and which
// way its outbound requests go. It compiles the rules that the controller sends
// once, into values that do not change; deciding on a request allocates nothing.
package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// Default is one of the five default-inbound-policy values.
type Default string

// The values of default-inbound-policy.
const (
	AllUnauthenticated     Default = "all-unauthenticated"
	AllAuthenticated       Default = "all-authenticated"
	ClusterAuthenticated   Default = "cluster-authenticated"
	ClusterUnauthenticated Default = "cluster-unauthenticated"
	Deny                   Default = "deny"
)

// ParseDefault reads a default-inbound-policy value.
func ParseDefault(text string) (Default, error) {
	all := []Default{AllUnauthenticated, AllAuthenticated, ClusterAuthenticated, ClusterUnauthenticated, Deny}
	if d := Default(text); slices.Contains(all, d) {
		return d, nil
	}
	return "", fmt.Errorf("%q is no default inbound policy: want one of %s, %s, %s, %s, %s",
		text, all[0], all[1], all[2], all[3], all[4])
}

// Probe is a health check of the pod that is let in from anywhere.
type Probe struct {
	Port uint16
	Path string
}

// ParseProbes reads "8081/healthz,8081/readyz".
func ParseProbes(text string) ([]Probe, error) {
	var probes []Probe
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		port, path, _ := strings.Cut(item, "/")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("probe %q: %q is no port", item, port)
		}
		probes = append(probes, Probe{Port: uint16(n), Path: "/" + path})
	}
	return probes, nil
}

// String writes the probe as ParseProbes reads it.
func (p Probe) String() string { return strconv.Itoa(int(p.Port)) + p.Path }

// ParseNetworks reads CIDRs with commas between them.
func ParseNetworks(text string) ([]netip.Prefix, error) {
	var nets []netip.Prefix
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		p, err := netip.ParsePrefix(item)
		if err != nil {
			return nil, fmt.Errorf("network %q: %w", item, err)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}

// Everywhere are the networks of any address.
func Everywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// Defaults are what a pod goes by where no Server selects its ports.
type Defaults struct {
	Policy        Default
	Networks      []netip.Prefix // what cluster-… takes for the cluster
	Probes        []Probe
	ProbeNetworks []netip.Prefix // where probes come from
}

// Rules are those of a pod without any Server.
func (d Defaults) Rules() *meshapi.InboundRules {
	out := &meshapi.InboundRules{Others: d.port(0), Ports: map[uint32]*meshapi.PortRules{}}
	for _, p := range d.Probes {
		if port := uint32(p.Port); out.Ports[port] == nil {
			out.Ports[port] = d.port(p.Port)
		}
	}
	return out
}

func (d Defaults) port(port uint16) *meshapi.PortRules {
	return &meshapi.PortRules{
		Server: builtin(string(d.Policy)), Authorizations: d.authorizations(), Routes: d.Routes(port),
	}
}

// Routes are those of a port that no HTTPRoute is attached to: every request,
// and the probes.
func (d Defaults) Routes(port uint16) []*meshapi.Route {
	routes := []*meshapi.Route{{Resource: builtin("default"), Rules: []*meshapi.Rule{{}}}}
	probe := &meshapi.Rule{}
	for _, p := range d.Probes {
		if p.Port == port {
			path, _, _ := strings.Cut(p.Path, "?")
			probe.Matches = append(probe.Matches, &meshapi.Match{
				Method: "GET", Path: &meshapi.PathMatch{Kind: meshapi.PathMatch_EXACT, Value: path},
			})
		}
	}
	if len(probe.Matches) == 0 {
		return routes
	}
	return append(routes, &meshapi.Route{
		Resource: builtin("probe"), Rules: []*meshapi.Rule{probe},
		Authorizations: []*meshapi.Authorization{{
			Resource: builtin("probe"), Networks: Networks(d.ProbeNetworks), Unauthenticated: true,
		}},
	})
}

func (d Defaults) authorizations() []*meshapi.Authorization {
	a := &meshapi.Authorization{Resource: builtin(string(d.Policy))}
	switch d.Policy {
	case AllUnauthenticated, AllAuthenticated:
		a.Networks = Networks(Everywhere())
	case ClusterUnauthenticated, ClusterAuthenticated:
		a.Networks = Networks(d.Networks)
	default:
		return nil
	}
	switch d.Policy {
	case AllAuthenticated, ClusterAuthenticated:
		a.Identities = []string{"*"}
	default:
		a.Unauthenticated = true
	}
	return []*meshapi.Authorization{a}
}

func builtin(name string) *meshapi.Resource { return &meshapi.Resource{Kind: "default", Name: name} }

// Networks writes networks as the API has them.
func Networks(nets []netip.Prefix) []*meshapi.Network {
	out := make([]*meshapi.Network, len(nets))
	for i, n := range nets {
		out[i] = &meshapi.Network{Cidr: n.String()}
	}
	return out
}
