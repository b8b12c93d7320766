package nodenet

import (
	"errors"
	"fmt"
	"net/netip"
	"sort"

	corev1 "k8s.io/api/core/v1"
)

// Route leads to another node's pods.
type Route struct {
	Pods netip.Prefix
	Via  netip.Addr
}

// Plan is what the network of one node must be.
type Plan struct {
	Pods   netip.Prefix // the node's own pod range
	Routes []Route      // sorted by pod range
}

// ErrNoRange says that the node called self has no pod range yet.
var ErrNoRange = errors.New("the node has no IPv4 pod range yet")

// PlanFor works out the network of the node called self. Nodes that are being
// deleted stay reachable; nodes without a range or an address are left out.
func PlanFor(self string, nodes []*corev1.Node) (Plan, error) {
	p := Plan{Routes: Routes(self, nodes)}
	for _, n := range nodes {
		if n.Name != self {
			continue
		}
		if pods, ok := podRange(n); ok {
			p.Pods = pods
			return p, nil
		}
	}
	return Plan{}, fmt.Errorf("node %s: %w", self, ErrNoRange)
}

// Routes lists the ways to the pods of every node but the one called self,
// sorted by pod range.
func Routes(self string, nodes []*corev1.Node) []Route {
	var routes []Route
	for _, n := range nodes {
		pods, ranged := podRange(n)
		via, addressed := internalIP(n)
		if n.Name != self && ranged && addressed {
			routes = append(routes, Route{Pods: pods, Via: via})
		}
	}
	sort.Slice(routes, func(i, j int) bool { return routes[i].Pods.Addr().Less(routes[j].Pods.Addr()) })
	return routes
}

func podRange(n *corev1.Node) (netip.Prefix, bool) {
	for _, text := range append([]string{n.Spec.PodCIDR}, n.Spec.PodCIDRs...) {
		if p, err := netip.ParsePrefix(text); err == nil && p.Addr().Is4() {
			return p.Masked(), true
		}
	}
	return netip.Prefix{}, false
}

func internalIP(n *corev1.Node) (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// Changes says how the routes that are there become the wanted ones.
func Changes(have, want []Route) (add, remove []Route) {
	there := make(map[Route]bool, len(have))
	for _, r := range have {
		there[r] = true
	}
	wanted := make(map[netip.Prefix]bool, len(want))
	for _, r := range want {
		wanted[r.Pods] = true
		if !there[r] {
			add = append(add, r) // replaces one with another gateway
		}
	}
	for _, r := range have {
		if !wanted[r.Pods] {
			remove = append(remove, r)
		}
	}
	return add, remove
}
