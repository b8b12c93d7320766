// Package policy decides which inbound traffic a proxy lets through.
package policy

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
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

// Ref names a resource of the policy API, real or built in, in metrics.
type Ref struct{ Group, Kind, Name string }

// Decision is whether something is let in, and by which rule.
type Decision struct {
	Allowed bool
	Server  Ref // srv_*
	Route   Ref // route_*; empty for TCP
	Authz   Ref // authz_*; empty on denial
}

// Client is who asks.
type Client struct {
	Addr     netip.Addr
	Identity string // "" when not proved by mTLS
}

// Inbound are the rules of one pod. They do not change while it lives.
type Inbound struct {
	Default  Default
	Networks []netip.Prefix // what cluster-… takes for the cluster
	Probes   []Probe
}

// Connection decides on a whole connection, for traffic that is not HTTP.
func (in *Inbound) Connection(c Client) Decision {
	d := Decision{Server: in.server()}
	if c.Addr.IsLoopback() {
		d.Allowed, d.Authz = true, builtin("localhost")
		return d
	}
	if in.admits(c) {
		d.Allowed, d.Authz = true, builtin(string(in.Default))
	}
	return d
}

// Request decides on one HTTP request to a port.
func (in *Inbound) Request(c Client, port uint16, r *http.Request) Decision {
	if in.isProbe(port, r) {
		return Decision{Allowed: true, Server: in.server(), Route: builtin("probe"), Authz: builtin("probe")}
	}
	d := in.Connection(c)
	d.Route = builtin("default")
	return d
}

func (in *Inbound) isProbe(port uint16, r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	return slices.ContainsFunc(in.Probes, func(p Probe) bool {
		path, _, _ := strings.Cut(p.Path, "?")
		return p.Port == port && path == r.URL.Path
	})
}

func (in *Inbound) admits(c Client) bool {
	switch in.Default {
	case AllUnauthenticated:
		return true
	case AllAuthenticated:
		return c.Identity != ""
	case ClusterUnauthenticated:
		return in.local(c.Addr)
	case ClusterAuthenticated:
		return c.Identity != "" && in.local(c.Addr)
	default:
		return false
	}
}

func (in *Inbound) local(addr netip.Addr) bool {
	return slices.ContainsFunc(in.Networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (in *Inbound) server() Ref { return builtin(string(in.Default)) }

func builtin(name string) Ref { return Ref{Kind: "default", Name: name} }

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
