package wire

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

func TestTheKernelsFilterKeepsWhatIsFollowed(t *testing.T) {
	pods, err := ParseNetworks("10.244.1.0/24,10.244.2.0/24")
	require.NoError(t, err)
	nodes, err := ParseNetworks("172.18.0.2,172.18.0.3")
	require.NoError(t, err)
	some := Networks{Pods: pods, Nodes: nodes}
	for _, c := range []struct {
		name, from, to string
		networks       Networks
		want           bool
	}{
		{"pod to pod", "10.244.1.5", "10.244.2.9", some, true},
		{"pod to node", "10.244.1.5", "172.18.0.3", some, true},
		{"node to pod", "172.18.0.2", "10.244.2.9", some, true},
		{"node to node", "172.18.0.2", "172.18.0.3", some, false},
		{"pod to a Service", "10.244.1.5", "10.96.0.1", some, false},
		{"a Service to a pod", "10.96.0.1", "10.244.1.5", some, false},
		{"outside to pod", "172.18.0.9", "10.244.1.5", some, false},
		{"loopback", "127.0.0.1", "127.0.0.1", some, false},
		{"anything where no networks are named", "1.2.3.4", "5.6.7.8", Networks{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := netip.MustParseAddr(c.from), netip.MustParseAddr(c.to)
			require.Equal(t, c.want, c.networks.follow(from.As4(), to.As4()))
			program, err := c.networks.filter()
			require.NoError(t, err)
			vm, err := bpf.NewVM(program)
			require.NoError(t, err)
			_, err = bpf.Assemble(program)
			require.NoError(t, err)
			p := packetOf(t, netip.AddrPortFrom(from, 4000), netip.AddrPortFrom(to, 80), layers.TCP{SYN: true}, nil)
			kept, err := vm.Run(p)
			require.NoError(t, err)
			require.Equal(t, c.want, kept > 0)
		})
	}
}

func TestTheKernelsFilterDropsWhatIsNoTCP(t *testing.T) {
	program, err := Networks{}.filter()
	require.NoError(t, err)
	vm, err := bpf.NewVM(program)
	require.NoError(t, err)
	p := packetOf(t, netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort("5.6.7.8:9"), layers.TCP{SYN: true}, nil)
	for name, change := range map[string]func([]byte){
		"UDP": func(b []byte) { b[9] = 17 }, "IPv6": func(b []byte) { b[0] = 0x60 }, "a later fragment": func(b []byte) { b[7] = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			b := append([]byte{}, p...)
			change(b)
			kept, err := vm.Run(b)
			require.NoError(t, err)
			require.Zero(t, kept)
		})
	}
}

func TestTheLargestFilterFitsTheKernel(t *testing.T) {
	var n Networks
	for i := range mostNetworks {
		n.Pods = append(n.Pods, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))
		n.Nodes = append(n.Nodes, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 0, 0, byte(i)}), 32))
	}
	program, err := n.filter()
	require.NoError(t, err)
	require.Less(t, len(program), 4096)
	_, err = bpf.Assemble(program)
	require.NoError(t, err)
}

func TestNetworksAreReadStrictly(t *testing.T) {
	for name, word := range map[string]string{"no network": "10.0.0", "IPv6": "fd00::/8", "too many": strings.Repeat("10.0.0.1,", mostNetworks+1)} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseNetworks(word)
			require.Error(t, err)
		})
	}
	none, err := ParseNetworks("")
	require.NoError(t, err)
	require.Empty(t, none)
}
