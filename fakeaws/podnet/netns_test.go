//go:build netns

package podnet

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/clusters/nodenet"
)

// Network namespaces stand for the load balancer's container, two nodes on its
// bridge, and a pod on each of them. The nodes are set up as kind's are, with
// strict reverse path filters and either pod network's masquerade. Run as root:
// go test -tags netns ./fakeaws/podnet
const (
	role             = "PODNET_TEST_ROLE"
	bridgeNS, bridge = "pn-net", "br0"
)

var machines = []struct{ node, pod, nodeIP, podIP, pods string }{
	{"pn-node1", "pn-pod1", "10.77.0.11", "10.78.1.2", "10.78.1.0/24"},
	{"pn-node2", "pn-pod2", "10.77.0.12", "10.78.2.2", "10.78.2.0/24"},
}

const (
	albNS, albIP = "pn-alb", "10.77.0.2"
	allPods      = "10.78.0.0/16"
)

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "pod": // tells who asks
		_ = http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) }))
		os.Exit(1)
	case "masquerade": // as nodenet does on a node
		if err := (nodenet.Netlink{}).Masquerade(netip.MustParsePrefix(os.Getenv("PODS")), netip.MustParsePrefix(allPods)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	case "alb": // keeps its routes, then asks every pod
		os.Exit(ask())
	}
	os.Exit(m.Run())
}

func ask() int {
	var nodes []*corev1.Node
	for _, m := range machines {
		nodes = append(nodes, node(m.node, m.pods, m.nodeIP))
	}
	n := New(nodenet.Netlink{}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	for _, some := range [][]*corev1.Node{nodes[:1], nodes} { // one node comes later
		if err := n.Keep(some); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	client := &http.Client{Timeout: 3 * time.Second}
	for _, m := range machines {
		res, err := client.Get("http://" + m.podIP + ":8080/")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		from, _ := io.ReadAll(res.Body)
		fmt.Printf("%s saw %s\n", m.pod, strings.Split(string(from), ":")[0])
	}
	return 0
}

func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	require.NoError(t, err, "%v: %s", argv, out)
	return string(out)
}

// link joins two namespaces; in that of the bridge the end becomes one of its ports.
func link(t *testing.T, name, ns, peer, peerNS string) {
	t.Helper()
	sh(t, "ip", "link", "add", name, "type", "veth", "peer", "name", peer)
	for dev, in := range map[string]string{name: ns, peer: peerNS} {
		sh(t, "ip", "link", "set", dev, "netns", in)
		if in == bridgeNS {
			sh(t, "ip", "-n", in, "link", "set", dev, "master", bridge)
		}
		sh(t, "ip", "-n", in, "link", "set", dev, "up")
	}
}

// world builds the namespaces; masquerade sets up a node's.
func world(t *testing.T, masquerade func(t *testing.T, node, pods string)) {
	t.Helper()
	clear := func() {
		for _, ns := range append([]string{bridgeNS, albNS}, machines[0].node, machines[0].pod, machines[1].node, machines[1].pod) {
			_ = exec.Command("ip", "netns", "del", ns).Run()
		}
	}
	clear()
	t.Cleanup(clear)
	add := func(ns string) {
		sh(t, "ip", "netns", "add", ns)
		sh(t, "ip", "-n", ns, "link", "set", "lo", "up")
	}
	add(bridgeNS)
	sh(t, "ip", "-n", bridgeNS, "link", "add", bridge, "type", "bridge")
	sh(t, "ip", "-n", bridgeNS, "link", "set", bridge, "up")
	add(albNS)
	link(t, "pnalb", bridgeNS, "pnalb1", albNS)
	sh(t, "ip", "-n", albNS, "addr", "add", albIP+"/24", "dev", "pnalb1")
	for i, m := range machines {
		add(m.node)
		add(m.pod)
		for _, setting := range []string{"net.ipv4.conf.default.rp_filter=1", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.ip_forward=1"} {
			sh(t, "ip", "netns", "exec", m.node, "sysctl", "-qw", setting)
		}
		up := fmt.Sprintf("pnup%d", i)
		link(t, fmt.Sprintf("pnport%d", i), bridgeNS, up, m.node)
		sh(t, "ip", "-n", m.node, "addr", "add", m.nodeIP+"/24", "dev", up)
		// as the ptp plugin does: the node is the pod's gateway, and has a route to it alone
		gateway := strings.TrimSuffix(m.podIP, "2") + "1"
		veth, eth := fmt.Sprintf("pnveth%d", i), fmt.Sprintf("pneth%d", i)
		link(t, veth, m.node, eth, m.pod)
		sh(t, "ip", "-n", m.node, "addr", "add", gateway+"/32", "dev", veth)
		sh(t, "ip", "-n", m.node, "route", "add", m.podIP+"/32", "dev", veth)
		sh(t, "ip", "-n", m.pod, "addr", "add", m.podIP+"/24", "dev", eth)
		sh(t, "ip", "-n", m.pod, "route", "add", "default", "via", gateway)
		masquerade(t, m.node, m.pods)
	}
}

// inside runs this test's own program in a namespace.
func inside(t *testing.T, ns string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("ip", "netns", "exec", ns, self)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

func TestPodsAreReachedUnderTheLoadBalancersOwnAddress(t *testing.T) {
	for name, masquerade := range map[string]func(t *testing.T, node, pods string){
		"with nodenet's masquerade": func(t *testing.T, node, pods string) {
			out, err := inside(t, node, role+"=masquerade", "PODS="+pods).CombinedOutput()
			require.NoError(t, err, "%s", out)
		},
		"with kindnet's masquerade": func(t *testing.T, node, _ string) {
			nat := func(args ...string) {
				sh(t, append([]string{"ip", "netns", "exec", node, "iptables-nft", "-w", "-t", "nat"}, args...)...)
			}
			nat("-N", "KIND-MASQ-AGENT")
			nat("-A", "POSTROUTING", "-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", "KIND-MASQ-AGENT")
			nat("-A", "KIND-MASQ-AGENT", "-d", allPods, "-j", "RETURN")
			nat("-A", "KIND-MASQ-AGENT", "-j", "MASQUERADE")
		},
	} {
		t.Run(name, func(t *testing.T) {
			world(t, masquerade)
			for _, m := range machines {
				server := inside(t, m.pod, role+"=pod")
				require.NoError(t, server.Start())
				t.Cleanup(func() {
					_ = server.Process.Kill()
					_ = server.Wait()
				})
			}
			var out []byte
			require.Eventually(t, func() bool { // the pods' servers take a moment
				var err error
				out, err = inside(t, albNS, role+"=alb").Output()
				return err == nil
			}, 20*time.Second, 200*time.Millisecond, "%s", out)
			require.Equal(t, "pn-pod1 saw "+albIP+"\npn-pod2 saw "+albIP+"\n", string(out))
			routes := sh(t, "ip", "-n", albNS, "route")
			require.Contains(t, routes, "10.78.1.0/24 via 10.77.0.11 dev pnalb1 proto 110")
			require.Contains(t, routes, "10.78.2.0/24 via 10.77.0.12 dev pnalb1 proto 110")
		})
	}
}
