package podnet

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/nodenet"
)

// memory is a kernel that keeps routes in memory and refuses what it is told to.
type memory struct {
	routes  []nodenet.Route
	list    error
	refuses map[netip.Prefix]error
}

func (m *memory) Routes() ([]nodenet.Route, error) { return slices.Clone(m.routes), m.list }

func (m *memory) AddRoute(r nodenet.Route) error {
	if err := m.refuses[r.Pods]; err != nil {
		return err
	}
	m.routes = append(slices.DeleteFunc(m.routes, func(o nodenet.Route) bool { return o.Pods == r.Pods }), r)
	return nil
}

func (m *memory) RemoveRoute(r nodenet.Route) error {
	if err := m.refuses[r.Pods]; err != nil {
		return err
	}
	m.routes = slices.DeleteFunc(m.routes, func(o nodenet.Route) bool { return o == r })
	return nil
}

func node(name, pods, address string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: pods},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}}}
}

func route(pods, via string) nodenet.Route {
	return nodenet.Route{Pods: netip.MustParsePrefix(pods), Via: netip.MustParseAddr(via)}
}

func TestRoutesFollowTheNodes(t *testing.T) {
	a, b := node("a", "10.244.1.0/24", "172.18.0.3"), node("b", "10.244.2.0/24", "172.18.0.4")
	moved := node("a", "10.244.1.0/24", "172.18.0.9")
	for _, c := range []struct {
		name  string
		have  []nodenet.Route
		nodes []*corev1.Node
		want  []nodenet.Route
	}{
		{"the first nodes", nil, []*corev1.Node{a, b}, []nodenet.Route{route("10.244.1.0/24", "172.18.0.3"), route("10.244.2.0/24", "172.18.0.4")}},
		{"a node without a pod range", nil, []*corev1.Node{a, node("c", "", "172.18.0.5")}, []nodenet.Route{route("10.244.1.0/24", "172.18.0.3")}},
		{"a node with another address", []nodenet.Route{route("10.244.1.0/24", "172.18.0.3")}, []*corev1.Node{moved}, []nodenet.Route{route("10.244.1.0/24", "172.18.0.9")}},
		{"a node that has gone", []nodenet.Route{route("10.244.1.0/24", "172.18.0.3"), route("10.244.7.0/24", "172.18.0.8")}, []*corev1.Node{a}, []nodenet.Route{route("10.244.1.0/24", "172.18.0.3")}},
		{"no nodes", []nodenet.Route{route("10.244.7.0/24", "172.18.0.8")}, nil, []nodenet.Route{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			kernel := &memory{routes: c.have}
			require.NoError(t, New(kernel, slog.New(slog.DiscardHandler)).Keep(c.nodes))
			require.ElementsMatch(t, c.want, kernel.routes)
		})
	}
}

func TestOnlyPodsBehindARouteAreReached(t *testing.T) {
	kernel := &memory{refuses: map[netip.Prefix]error{netip.MustParsePrefix("10.244.2.0/24"): errors.New("operation not permitted")}}
	n := New(kernel, slog.New(slog.DiscardHandler))
	one, two := netip.MustParseAddr("10.244.1.7"), netip.MustParseAddr("10.244.2.7")
	require.False(t, n.Reaches(one), "not kept yet")

	nodes := []*corev1.Node{node("a", "10.244.1.0/24", "172.18.0.3"), node("b", "10.244.2.0/24", "172.18.0.4")}
	require.ErrorContains(t, n.Keep(nodes), "operation not permitted")
	require.True(t, n.Reaches(one), "the other route is there")
	require.False(t, n.Reaches(two))

	kernel.refuses = nil
	require.NoError(t, n.Keep(nodes))
	require.True(t, n.Reaches(two), "mended")

	kernel.list = errors.New("netlink is closed")
	require.ErrorContains(t, n.Keep(nodes), "look for routes to pods: netlink is closed")
	require.False(t, n.Reaches(one), "what cannot be seen is not believed")
}

func TestARouteThatStaysIsToldButHindersNothing(t *testing.T) {
	stale := route("10.244.7.0/24", "172.18.0.8")
	kernel := &memory{routes: []nodenet.Route{stale}, refuses: map[netip.Prefix]error{stale.Pods: errors.New("busy")}}
	n := New(kernel, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, n.Keep([]*corev1.Node{node("a", "10.244.1.0/24", "172.18.0.3")}), "busy")
	require.True(t, n.Reaches(netip.MustParseAddr("10.244.1.7")))
	require.False(t, n.Reaches(netip.MustParseAddr("10.244.7.7")), "no node has these pods any more")
}
