package nodenet

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, pods string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: pods}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func route(pods, via string) Route {
	return Route{Pods: netip.MustParsePrefix(pods), Via: netip.MustParseAddr(via)}
}

func TestAPlanHasTheOwnRangeAndARouteToEachOtherNode(t *testing.T) {
	dual := node("e", "fd00::/64", "fd00::5", "172.18.0.5")
	dual.Spec.PodCIDRs = []string{"fd00::/64", "10.244.4.0/24"}
	host := node("g", "10.244.6.0/24")
	host.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "172.18.0.7"}}
	p, err := PlanFor("b", []*corev1.Node{
		node("c", "10.244.10.0/24", "172.18.0.3"),
		node("b", "10.244.1.0/24", "172.18.0.2"),
		node("a", "10.244.0.7/24", "172.18.0.1"),
		node("d", "", "172.18.0.4"),      // no range yet
		node("f", "10.244.5.0/24"),       // no address yet
		node("h", "nonsense", "nowhere"), // neither
		dual, host,
	})
	require.NoError(t, err)
	require.Equal(t, netip.MustParsePrefix("10.244.1.0/24"), p.Pods)
	require.Equal(t, []Route{
		route("10.244.0.0/24", "172.18.0.1"), route("10.244.4.0/24", "172.18.0.5"), route("10.244.10.0/24", "172.18.0.3"),
	}, p.Routes)
}

func TestANodeWithoutARangeHasNoPlan(t *testing.T) {
	for name, nodes := range map[string][]*corev1.Node{
		"no nodes": nil, "not there": {node("a", "10.244.0.0/24")}, "no range": {node("b", "")}, "IPv6 only": {node("b", "fd00::/64")},
	} {
		_, err := PlanFor("b", nodes)
		require.ErrorIs(t, err, ErrNoRange, name)
	}
}

func TestChangesAddWhatIsMissingAndRemoveWhatIsGone(t *testing.T) {
	a, b, c := route("10.0.0.0/24", "1.1.1.1"), route("10.0.1.0/24", "1.1.1.2"), route("10.0.2.0/24", "1.1.1.3")
	moved := route("10.0.1.0/24", "1.1.1.9")
	for name, x := range map[string]struct{ have, want, add, remove []Route }{
		"nothing to do":     {have: []Route{a, b}, want: []Route{b, a}},
		"a new node":        {have: []Route{a}, want: []Route{a, b}, add: []Route{b}},
		"a node that went":  {have: []Route{a, c}, want: []Route{a}, remove: []Route{c}},
		"another address":   {have: []Route{a, b}, want: []Route{a, moved}, add: []Route{moved}},
		"all at once":       {have: []Route{b, c}, want: []Route{a, moved}, add: []Route{a, moved}, remove: []Route{c}},
		"the last one went": {have: []Route{a}, remove: []Route{a}},
	} {
		add, remove := Changes(x.have, x.want)
		require.Equal(t, x.add, add, name)
		require.Equal(t, x.remove, remove, name)
	}
}

func FuzzPlanFor(f *testing.F) {
	f.Add("10.244.0.0/24", "172.18.0.2", "10.244.1.0/24", "172.18.0.3")
	f.Add("fd00::/64", "", "10.0.0.0/33", "::ffff:1.2.3.4")
	f.Fuzz(func(t *testing.T, pods, ip, otherPods, otherIP string) {
		p, err := PlanFor("me", []*corev1.Node{node("me", pods, ip), node("other", otherPods, otherIP)})
		if err != nil {
			return
		}
		if !p.Pods.IsValid() || !p.Pods.Addr().Is4() || p.Pods != p.Pods.Masked() {
			t.Fatalf("own range %v", p.Pods)
		}
		for _, r := range p.Routes {
			if !r.Pods.Addr().Is4() || !r.Via.Is4() {
				t.Fatalf("route %v", r)
			}
		}
		if _, err := Conflist(p.Pods, 1500); err != nil {
			t.Fatal(err)
		}
	})
}
