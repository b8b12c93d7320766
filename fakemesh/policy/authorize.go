package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// Ref names a resource of the policy API, real or built in, in metrics.
type Ref struct{ Group, Kind, Name string }

func refOf(r *meshapi.Resource) Ref {
	return Ref{Group: r.GetGroup(), Kind: r.GetKind(), Name: r.GetName()}
}

// Client is who asks.
type Client struct {
	Addr     netip.Addr
	Identity string // "" when not proved by mTLS
}

// authorization is a compiled rule that lets clients in.
type authorization struct {
	ref             Ref
	networks        []network
	unauthenticated bool
	identities      identities
}

type network struct {
	cidr   netip.Prefix
	except []netip.Prefix
}

// identities are names that clients may prove.
type identities struct {
	any      bool
	exact    map[string]struct{}
	suffixes []string // each begins with a dot
}

func (a *authorization) admits(c Client) bool {
	if !a.unauthenticated && !a.identities.has(c.Identity) {
		return false
	}
	for i := range a.networks {
		if a.networks[i].contains(c.Addr) {
			return true
		}
	}
	return false
}

func (n *network) contains(addr netip.Addr) bool {
	if !n.cidr.Contains(addr) {
		return false
	}
	return !slices.ContainsFunc(n.except, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func (s *identities) has(name string) bool {
	if name == "" {
		return false
	}
	if s.any {
		return true
	}
	if _, ok := s.exact[name]; ok {
		return true
	}
	return slices.ContainsFunc(s.suffixes, func(end string) bool { return strings.HasSuffix(name, end) })
}

func compileAuthorizations(list []*meshapi.Authorization) ([]authorization, error) {
	out := make([]authorization, 0, len(list)+1)
	for _, a := range list {
		c, err := compileAuthorization(a)
		if err != nil {
			return nil, fmt.Errorf("authorization %s: %w", a.GetResource().GetName(), err)
		}
		out = append(out, c)
	}
	return out, nil
}

func compileAuthorization(a *meshapi.Authorization) (authorization, error) {
	out := authorization{ref: refOf(a.GetResource()), unauthenticated: a.GetUnauthenticated()}
	for _, n := range a.GetNetworks() {
		c, err := compileNetwork(n)
		if err != nil {
			return out, err
		}
		out.networks = append(out.networks, c)
	}
	var err error
	out.identities, err = compileIdentities(a.GetIdentities())
	return out, err
}

func compileNetwork(n *meshapi.Network) (network, error) {
	cidr, err := ParseNetwork(n.GetCidr())
	if err != nil {
		return network{}, err
	}
	out := network{cidr: cidr}
	for _, text := range n.GetExcept() {
		except, err := ParseNetwork(text)
		if err != nil {
			return network{}, err
		}
		out.except = append(out.except, except)
	}
	return out, nil
}

// ParseNetwork reads a CIDR, or an address, which is a network of one.
func ParseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no network", text)
	}
	return p.Masked(), nil
}

var errIdentity = errors.New("want a name, or * alone or as the first label")

// CheckIdentity says whether text is a name that clients may prove, or "*" for
// any of them, or "*." and the end of a name.
func CheckIdentity(text string) error {
	rest := strings.TrimPrefix(text, "*.")
	if text == "*" {
		return nil
	}
	for label := range strings.SplitSeq(rest, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notLabel) {
			return fmt.Errorf("identity %q: %w", text, errIdentity)
		}
	}
	return nil
}

func notLabel(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }

func compileIdentities(list []string) (identities, error) {
	out := identities{}
	for _, text := range list {
		if err := CheckIdentity(text); err != nil {
			return out, err
		}
		switch {
		case text == "*":
			out.any = true
		case strings.HasPrefix(text, "*."):
			out.suffixes = append(out.suffixes, text[1:])
		default:
			if out.exact == nil {
				out.exact = map[string]struct{}{}
			}
			out.exact[text] = struct{}{}
		}
	}
	return out, nil
}
