package control

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// inbound makes the rules of a pod, and the keys whose change may change them.
// A pod that is not known yet goes by its defaults.
func (x *Index) inbound(namespace, name string, d policy.Defaults) (*meshapi.InboundRules, hub.Keys) {
	keys := hub.Keys{}
	keys.Add(podKey(namespace, name))
	keys.Add(policyKey(namespace))
	rules := d.Rules()
	pod := get[corev1.Pod](x.Pods, namespace, name)
	if pod == nil {
		return rules, keys
	}
	taken := map[uint16]string{}
	for _, srv := range by[*kinds.Server](x.Servers, cache.NamespaceIndex, namespace) {
		for _, port := range kinds.SelectedPorts(srv, pod) {
			if first, both := taken[port]; both {
				x.log.Warn("two Servers select a port", "pod", namespace+"/"+name, "port", port, "counts", first, "does not", srv.Name)
				continue
			}
			taken[port] = srv.Name
			rules.Ports[uint32(port)] = x.served(srv, port, d, keys)
		}
	}
	return rules, keys
}

// served are the rules of a port under a Server.
func (x *Index) served(srv *kinds.Server, port uint16, d policy.Defaults, keys hub.Keys) *meshapi.PortRules {
	protocol, err := convert.Protocol(srv.Spec.ProxyProtocol)
	if err != nil {
		x.log.Warn("a Server's protocol is detected", "server", srv.Namespace+"/"+srv.Name, "error", err)
	}
	out := &meshapi.PortRules{
		Server:   &meshapi.Resource{Group: kinds.Group, Kind: "server", Name: srv.Name},
		Protocol: protocol,
	}
	out.Authorizations = x.serverAuthorizations(srv, keys)
	for _, r := range x.routesBy(cache.NamespaceIndex, srv.Namespace) {
		if !slices.ContainsFunc(r.Spec.ParentRefs, func(p kinds.ParentRef) bool { return attaches(p, r.Namespace, srv) }) {
			continue
		}
		made, err := convert.Inbound(r.gv.Group, r.HTTPRoute)
		if err != nil {
			x.log.Warn("an HTTPRoute is ignored", "route", r.Namespace+"/"+r.Name, "error", err)
			continue
		}
		made.Authorizations = x.policies(srv.Namespace, keys, func(target kinds.Ref) bool {
			return target.Is(r.gv.Group, "HTTPRoute") && target.Name == r.Name
		})
		out.Routes = append(out.Routes, made)
	}
	if len(out.Routes) == 0 {
		out.Routes = d.Routes(port)
	}
	return out
}

// attaches says whether a parent of a route of namespace is the Server.
func attaches(p kinds.ParentRef, namespace string, srv *kinds.Server) bool {
	return p.Is(kinds.Group, "Server") && p.Name == srv.Name && p.In(namespace) == srv.Namespace &&
		namespace == srv.Namespace && p.Port == nil && p.SectionName == nil
}

// serverAuthorizations are those that let clients into a Server by any route.
func (x *Index) serverAuthorizations(srv *kinds.Server, keys hub.Keys) []*meshapi.Authorization {
	var out []*meshapi.Authorization
	for _, a := range by[*kinds.ServerAuthorization](x.ServerAuthorizations, cache.NamespaceIndex, srv.Namespace) {
		choice := a.Spec.Server
		if choice.Name != srv.Name && (choice.Selector == nil || !kinds.Selects(choice.Selector, srv.Labels)) {
			continue
		}
		made, err := x.settings.Client(a.Namespace, a.Spec.Client)
		if err != nil {
			x.log.Warn("a ServerAuthorization lets in nobody", "name", a.Namespace+"/"+a.Name, "error", err)
			continue
		}
		made.Resource = &meshapi.Resource{Group: kinds.Group, Kind: "serverauthorization", Name: a.Name}
		out = append(out, made)
	}
	return append(out, x.policies(srv.Namespace, keys, func(target kinds.Ref) bool {
		return target.Is(kinds.Group, "Server") && target.Name == srv.Name ||
			target.Is(kinds.CoreGroup, "Namespace") && target.Name == srv.Namespace
	})...)
}

// policies are the AuthorizationPolicies of a namespace with the wanted target.
func (x *Index) policies(namespace string, keys hub.Keys, wanted func(target kinds.Ref) bool) []*meshapi.Authorization {
	var out []*meshapi.Authorization
	for _, p := range by[*kinds.AuthorizationPolicy](x.AuthorizationPolicies, cache.NamespaceIndex, namespace) {
		if !wanted(p.Spec.TargetRef) {
			continue
		}
		made, err := x.policy(p, keys)
		if err != nil {
			x.log.Warn("an AuthorizationPolicy lets in nobody", "name", namespace+"/"+p.Name, "error", err)
			continue
		}
		out = append(out, made)
	}
	return out
}

// policy is an AuthorizationPolicy with what it refers to, all of which a
// client must fulfil. Without any reference it lets in everybody.
func (x *Index) policy(p *kinds.AuthorizationPolicy, keys hub.Keys) (*meshapi.Authorization, error) {
	identities, networks, err := convert.Authentications(p.Spec.RequiredAuthenticationRefs)
	if err != nil {
		return nil, err
	}
	out := &meshapi.Authorization{
		Resource:        &meshapi.Resource{Group: kinds.Group, Kind: "authorizationpolicy", Name: p.Name},
		Networks:        policy.Networks(policy.Everywhere()),
		Unauthenticated: identities == nil,
	}
	if identities != nil {
		if out.Identities, err = x.identities(p.Namespace, *identities, keys); err != nil {
			return nil, err
		}
	}
	if networks != nil {
		namespace := in(*networks, p.Namespace)
		keys.Add(authnKey(namespace))
		found := get[kinds.NetworkAuthentication](x.Networks, namespace, networks.Name)
		if found == nil {
			return nil, missing("NetworkAuthentication", namespace, networks.Name)
		}
		if out.Networks, err = convert.Networks(found.Spec.Networks); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (x *Index) identities(own string, ref kinds.Ref, keys hub.Keys) ([]string, error) {
	if ref.Is(kinds.CoreGroup, "ServiceAccount") {
		id, err := x.settings.Account(own, ref)
		return []string{id}, err
	}
	namespace := in(ref, own)
	keys.Add(authnKey(namespace))
	found := get[kinds.MeshTLSAuthentication](x.MeshTLS, namespace, ref.Name)
	if found == nil {
		return nil, missing("MeshTLSAuthentication", namespace, ref.Name)
	}
	return x.settings.Identities(namespace, found.Spec)
}

func in(ref kinds.Ref, own string) string {
	if ref.Namespace != "" {
		return ref.Namespace
	}
	return own
}
