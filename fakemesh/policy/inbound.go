package policy

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// Decision is whether something is let in, and by which rule.
type Decision struct {
	Allowed bool
	Server  Ref // srv_*
	Route   Ref // route_*; empty for TCP, and when no route was found
	Authz   Ref // authz_*; empty on denial

	// For HTTP alone.
	NoRoute bool
	Filters *Filters
	Matched int // characters of the path that a prefix matched
}

// Inbound are the rules of one pod. They do not change: others take their place.
type Inbound struct {
	ports  map[uint16]*Port
	others *Port
}

// Port are the rules of one port.
type Port struct {
	Protocol meshapi.PortRules_Protocol
	server   Ref
	authz    []authorization
	routes   []route[inboundRule]
}

type inboundRule struct {
	route   Ref
	authz   []authorization
	filters *Filters
}

// Port finds the rules of a port.
func (in *Inbound) Port(port uint16) *Port {
	if p := in.ports[port]; p != nil {
		return p
	}
	return in.others
}

// Builtin says whether no Server selects the port.
func (p *Port) Builtin() bool { return p.server.Group == "" }

// Connection decides on a whole connection, for traffic that is not HTTP. A
// port that is said to carry HTTP lets in nothing else.
func (p *Port) Connection(c Client) Decision {
	d := Decision{Server: p.server}
	authz := p.authz
	switch p.Protocol {
	case meshapi.PortRules_HTTP1, meshapi.PortRules_HTTP2, meshapi.PortRules_GRPC:
		authz = authz[len(authz)-1:] // localhost
	}
	d.permit(authz, c)
	return d
}

// Request decides on one HTTP request.
func (p *Port) Request(c Client, r *http.Request) Decision {
	found, closest := find(p.routes, &request{Request: r, path: rawPath(r)})
	if found == nil {
		return Decision{Server: p.server, NoRoute: true}
	}
	d := Decision{Server: p.server, Route: found.route, Filters: found.filters, Matched: closest.path}
	d.permit(found.authz, c)
	return d
}

func (d *Decision) permit(list []authorization, c Client) {
	for i := range list {
		if list[i].admits(c) {
			d.Allowed, d.Authz = true, list[i].ref
			return
		}
	}
}

// localhost lets a pod's own containers in, whatever the policy.
func localhost() authorization {
	return authorization{
		ref: Ref{Kind: "default", Name: "localhost"}, unauthenticated: true,
		networks: []network{{cidr: netip.MustParsePrefix("127.0.0.0/8")}, {cidr: netip.MustParsePrefix("::1/128")}},
	}
}

// Compile makes an Inbound of what the controller sent.
func Compile(rules *meshapi.InboundRules) (*Inbound, error) {
	if rules.GetOthers() == nil {
		return nil, errors.New("the rules say nothing of other ports")
	}
	in := &Inbound{ports: map[uint16]*Port{}}
	var err error
	if in.others, err = compilePort(rules.GetOthers()); err != nil {
		return nil, err
	}
	for number, r := range rules.GetPorts() {
		if number == 0 || number > 65535 {
			return nil, fmt.Errorf("%d is no port", number)
		}
		if in.ports[uint16(number)], err = compilePort(r); err != nil {
			return nil, fmt.Errorf("port %d: %w", number, err)
		}
	}
	return in, nil
}

func compilePort(r *meshapi.PortRules) (*Port, error) {
	p := &Port{Protocol: r.GetProtocol(), server: refOf(r.GetServer())}
	var err error
	if p.authz, err = compileAuthorizations(r.GetAuthorizations()); err != nil {
		return nil, err
	}
	p.authz = append(p.authz, localhost())
	for _, rt := range r.GetRoutes() {
		own, err := compileAuthorizations(rt.GetAuthorizations())
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", rt.GetResource().GetName(), err)
		}
		authz := append(own, p.authz...)
		compiled, err := compileRoute(rt, func(rl *meshapi.Rule) (inboundRule, error) {
			filters, err := compileFilters(rl.GetFilters())
			return inboundRule{route: refOf(rt.GetResource()), authz: authz, filters: filters}, err
		})
		if err != nil {
			return nil, err
		}
		p.routes = append(p.routes, compiled)
	}
	return p, nil
}
