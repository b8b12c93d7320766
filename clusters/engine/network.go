package engine

import (
	"context"
	"fmt"
	"net/netip"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
)

// network is the edge to the host's links, addresses and packet filter.
type network interface {
	// taken lists the prefixes that the host's addresses and routes use.
	taken() ([]netip.Prefix, error)
	// addBridge makes a bridge link with this address, or sets it right.
	addBridge(name string, address netip.Prefix) error
	// removeBridges removes the named bridge and every bridge with an address in the pool.
	removeBridges(name string, pool netip.Prefix) error
	addRules(ctx context.Context, pool netip.Prefix, comment string) error
	removeRules(ctx context.Context, pool netip.Prefix, comment string) error
}

// pools are what a private engine may take its addresses from, best first. None
// meets kind's pod and service ranges.
var pools = []string{
	"10.213.0.0/16", "10.214.0.0/16", "10.215.0.0/16", "10.216.0.0/16",
	"172.29.0.0/16", "172.30.0.0/16", "192.168.0.0/16", "10.12.0.0/16",
}

// choosePool returns the first pool that meets nothing the host uses.
func choosePool(taken []netip.Prefix) (netip.Prefix, error) {
	for _, text := range pools {
		pool := netip.MustParsePrefix(text)
		free := true
		for _, t := range taken {
			if t.Bits() > 0 && t.Overlaps(pool) {
				free = false
				break
			}
		}
		if free {
			return pool, nil
		}
	}
	return netip.Prefix{}, fault.NewEnvironment(fmt.Errorf("no address range is free for the private engine: tried %v", pools),
		"free one of these ranges on this host (`ip route` lists what is in use)")
}

// bridgeAddress is the default bridge's; the pool's upper half is for networks.
func bridgeAddress(pool netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(pool.Addr().Next(), 24)
}

func networkPool(pool netip.Prefix) netip.Prefix {
	a := pool.Addr().As4()
	a[2] = 128
	return netip.PrefixFrom(netip.AddrFrom4(a), 17)
}

// rules let the pool's containers speak to each other and to the outside, and
// nobody outside begin to speak to them. They stand before the rules of another
// engine, which may drop what it does not know. dockerd is kept from making
// rules of its own, since on start it throws away those of any other dockerd.
func rules(pool netip.Prefix, comment string) []rule {
	p, note := pool.String(), []string{"-m", "comment", "--comment", comment}
	return []rule{
		{"nat", "POSTROUTING", append([]string{"-s", p, "!", "-d", p, "-j", "MASQUERADE"}, note...)},
		{"filter", "FORWARD", append([]string{"-s", p, "-j", "ACCEPT"}, note...)},
		{"filter", "FORWARD", append([]string{"-d", p, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"}, note...)},
	}
}

type rule struct {
	table, chain string
	match        []string
}

func (r rule) cmd(action string) command.Cmd {
	return command.Cmd{Argv: append([]string{"iptables", "-w", "-t", r.table, action, r.chain}, r.match...)}
}

// netlinkNetwork is the real edge.
type netlinkNetwork struct{ runner command.Runner }

var _ network = netlinkNetwork{}

func (n netlinkNetwork) addRules(ctx context.Context, pool netip.Prefix, comment string) error {
	for _, r := range rules(pool, comment) {
		if _, err := n.runner.Run(ctx, r.cmd("-C")); err == nil {
			continue
		}
		if _, err := n.runner.Run(ctx, r.cmd("-I")); err != nil {
			return fmt.Errorf("add a packet filter rule: %w", err)
		}
	}
	return nil
}

func (n netlinkNetwork) removeRules(ctx context.Context, pool netip.Prefix, comment string) error {
	for _, r := range rules(pool, comment) {
		if _, err := n.runner.Run(ctx, r.cmd("-C")); err != nil {
			continue
		}
		if _, err := n.runner.Run(ctx, r.cmd("-D")); err != nil {
			return fmt.Errorf("remove a packet filter rule: %w", err)
		}
	}
	return nil
}
