// Package convert makes rules for proxies out of the policy API's objects. What
// an object says that makes no sense is an error: at admission the object is
// refused, and one that is there all the same lets in nobody.
package convert

import (
	"errors"
	"fmt"
	"net/netip"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// Mesh is what conversions must know of the whole mesh.
type Mesh struct {
	meshid.Mesh
	Networks []netip.Prefix // the cluster's
}

// Protocol reads a Server's proxyProtocol; "" is unknown.
func Protocol(text string) (meshapi.PortRules_Protocol, error) {
	switch text {
	case "", kinds.ProtocolUnknown:
		return meshapi.PortRules_DETECT, nil
	case kinds.ProtocolHTTP1:
		return meshapi.PortRules_HTTP1, nil
	case kinds.ProtocolHTTP2:
		return meshapi.PortRules_HTTP2, nil
	case kinds.ProtocolGRPC:
		return meshapi.PortRules_GRPC, nil
	case kinds.ProtocolOpaque:
		return meshapi.PortRules_OPAQUE, nil
	case kinds.ProtocolTLS:
		return meshapi.PortRules_TLS, nil
	default:
		return 0, fmt.Errorf("proxyProtocol %q is not known: want one of %s, %s, %s, %s, %s, %s", text,
			kinds.ProtocolUnknown, kinds.ProtocolHTTP1, kinds.ProtocolHTTP2, kinds.ProtocolGRPC, kinds.ProtocolOpaque, kinds.ProtocolTLS)
	}
}

// Networks reads networks; their exceptions must be parts of them.
func Networks(list []kinds.Network) ([]*meshapi.Network, error) {
	if len(list) == 0 {
		return nil, errors.New("at least one network must be named")
	}
	var out []*meshapi.Network
	for _, n := range list {
		cidr, err := policy.ParseNetwork(n.CIDR)
		if err != nil {
			return nil, err
		}
		made := &meshapi.Network{Cidr: cidr.String()}
		for _, text := range n.Except {
			except, err := policy.ParseNetwork(text)
			if err != nil {
				return nil, err
			}
			if except.Bits() <= cidr.Bits() && except.Contains(cidr.Addr()) {
				return nil, fmt.Errorf("nothing is left of network %s without %s", n.CIDR, text)
			}
			if !cidr.Contains(except.Addr()) {
				return nil, fmt.Errorf("network %s does not hold its exception %s", n.CIDR, text)
			}
			made.Except = append(made.Except, except.String())
		}
		out = append(out, made)
	}
	return out, nil
}

// Identities are those of a MeshTLSAuthentication of a namespace.
func (m Mesh) Identities(namespace string, spec kinds.MeshTLSAuthenticationSpec) ([]string, error) {
	out := append([]string(nil), spec.Identities...)
	for _, ref := range spec.IdentityRefs {
		id, err := m.identityRef(namespace, ref)
		if err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	if len(out) == 0 {
		return nil, errors.New("at least one of identities and identityRefs must be named")
	}
	for _, id := range out {
		if err := policy.CheckIdentity(id); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (m Mesh) identityRef(namespace string, ref kinds.Ref) (string, error) {
	switch {
	case ref.Is(kinds.CoreGroup, "ServiceAccount"):
		if ref.Namespace != "" {
			namespace = ref.Namespace
		}
		account := ref.Name
		if account == "" {
			account = "*"
		}
		return m.account(account, namespace), nil
	case ref.Is(kinds.CoreGroup, "Namespace"):
		if ref.Namespace != "" {
			return "", errors.New("a Namespace is in no namespace: namespace must not be set")
		}
		if ref.Name == "" {
			ref.Name = namespace
		}
		return m.account("*", ref.Name), nil
	default:
		return "", fmt.Errorf("identityRefs cannot name a %s: want a ServiceAccount or a Namespace", ref)
	}
}

// account is the identity of a service account; "*" is each of the namespace.
func (m Mesh) account(name, namespace string) string {
	return meshid.ID{ServiceAccount: name, Namespace: namespace}.Name(m.Mesh)
}

// Account is the identity of a service account that an AuthorizationPolicy of
// namespace requires.
func (m Mesh) Account(namespace string, ref kinds.Ref) (string, error) {
	id, err := m.identityRef(namespace, ref)
	if err == nil {
		err = policy.CheckIdentity(id)
	}
	return id, err
}

// Client reads whom a ServerAuthorization of a namespace lets in.
func (m Mesh) Client(namespace string, c kinds.ClientChoice) (*meshapi.Authorization, error) {
	out := &meshapi.Authorization{Networks: policy.Networks(m.Networks), Unauthenticated: c.Unauthenticated}
	if len(c.Networks) > 0 {
		var err error
		if out.Networks, err = Networks(c.Networks); err != nil {
			return nil, err
		}
	}
	if c.MeshTLS == nil {
		if !c.Unauthenticated {
			return nil, errors.New("client must say unauthenticated or meshTLS")
		}
		return out, nil
	}
	if c.Unauthenticated {
		return nil, errors.New("client cannot be unauthenticated where meshTLS is asked for")
	}
	named := kinds.MeshTLSAuthenticationSpec{Identities: c.MeshTLS.Identities}
	for _, a := range c.MeshTLS.ServiceAccounts {
		named.IdentityRefs = append(named.IdentityRefs, kinds.Ref{Kind: "ServiceAccount", Name: a.Name, Namespace: a.Namespace})
	}
	if c.MeshTLS.UnauthenticatedTLS {
		if len(named.Identities)+len(named.IdentityRefs) > 0 {
			return nil, errors.New("meshTLS cannot be unauthenticatedTLS where identities or serviceAccounts are named")
		}
		// A proxy of this mesh ends no TLS whose client has no identity.
		named.Identities = []string{"*"}
	}
	var err error
	out.Identities, err = m.Identities(namespace, named)
	return out, err
}

// Authentications sorts the references of an AuthorizationPolicy: at most one
// names identities, and at most one networks.
func Authentications(refs []kinds.Ref) (identities, networks *kinds.Ref, err error) {
	for i := range refs {
		ref := &refs[i]
		var into **kinds.Ref
		switch {
		case ref.Is(kinds.Group, "MeshTLSAuthentication"), ref.Is(kinds.CoreGroup, "ServiceAccount"):
			into = &identities
		case ref.Is(kinds.Group, "NetworkAuthentication"):
			into = &networks
		default:
			return nil, nil, fmt.Errorf("requiredAuthenticationRefs cannot name a %s: want a MeshTLSAuthentication, a NetworkAuthentication or a ServiceAccount", ref)
		}
		if *into != nil {
			return nil, nil, fmt.Errorf("requiredAuthenticationRefs name both %s %s and %s %s: only one of a kind can be required",
				(*into).Kind, (*into).Name, ref.Kind, ref.Name)
		}
		if ref.Name == "" {
			return nil, nil, fmt.Errorf("requiredAuthenticationRefs name a %s without its name", ref)
		}
		*into = ref
	}
	return identities, networks, nil
}
