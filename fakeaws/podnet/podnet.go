// Package podnet leads a container that stands beside a kind cluster's nodes
// to the cluster's pods. It keeps one route to each node's pod range through
// that node, as the nodes do for each other. It needs CAP_NET_ADMIN and a
// network that the nodes are on, too; IPv4 only.
package podnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/clusters/nodenet"
)

// Kernel is the part of nodenet's that is needed here.
type Kernel interface {
	Routes() ([]nodenet.Route, error)
	AddRoute(nodenet.Route) error // or replace one to the same pods
	RemoveRoute(nodenet.Route) error
}

var _ Kernel = nodenet.Netlink{}

// Network knows which pods can be reached. Safe for concurrent use.
type Network struct {
	kernel Kernel
	log    *slog.Logger

	mu    sync.RWMutex
	there []netip.Prefix // what there is a route to
}

// New returns a network that reaches nobody until Keep.
func New(kernel Kernel, log *slog.Logger) *Network {
	return &Network{kernel: kernel, log: log}
}

// Keep makes the routes as the nodes want them. What can be done is done; the
// error tells of the rest.
func (n *Network) Keep(nodes []*corev1.Node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.there = nil
	have, err := n.kernel.Routes()
	if err != nil {
		return fmt.Errorf("look for routes to pods: %w", err)
	}
	want := nodenet.Routes("", nodes)
	add, remove := nodenet.Changes(have, want)
	var errs []error
	failed := map[nodenet.Route]bool{}
	for _, r := range add {
		if err := n.kernel.AddRoute(r); err != nil {
			errs = append(errs, err)
			failed[r] = true
			continue
		}
		n.log.Info("route to pods added", "pods", r.Pods, "via", r.Via)
	}
	for _, r := range remove {
		if err := n.kernel.RemoveRoute(r); err != nil {
			errs = append(errs, err)
			continue
		}
		n.log.Info("route to pods removed", "pods", r.Pods)
	}
	for _, r := range want {
		if !failed[r] {
			n.there = append(n.there, r.Pods)
		}
	}
	return errors.Join(errs...)
}

// Reaches tells whether there is a route to a pod.
func (n *Network) Reaches(pod netip.Addr) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, pods := range n.there {
		if pods.Contains(pod) {
			return true
		}
	}
	return false
}
