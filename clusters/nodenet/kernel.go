package nodenet

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Kernel is the part of the kernel's network that nodenet sets.
type Kernel interface {
	// MTU of the link that leads out of the node, in bytes.
	MTU() (int, error)
	// Routes that nodenet made.
	Routes() ([]Route, error)
	AddRoute(Route) error // or replace one to the same pods
	RemoveRoute(Route) error
	// Masquerade hides pods behind the node when they send to addresses
	// outside all; it may be called again.
	Masquerade(pods, all netip.Prefix) error
}

// routeProtocol marks nodenet's routes, so that it never touches another's.
const routeProtocol netlink.RouteProtocol = 110

// Netlink is the kernel of this machine.
type Netlink struct{}

var _ Kernel = Netlink{}

// MTU implements Kernel.
func (Netlink) MTU() (int, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return 0, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() || r.LinkIndex == 0 {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return 0, fmt.Errorf("find the link of the default route: %w", err)
		}
		return link.Attrs().MTU, nil
	}
	return 0, fmt.Errorf("there is no default route")
}

// Routes implements Kernel.
func (Netlink) Routes() ([]Route, error) {
	found, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []Route
	for _, r := range found {
		if r.Dst == nil {
			continue
		}
		addr, _ := netip.AddrFromSlice(r.Dst.IP.To4())
		via, _ := netip.AddrFromSlice(r.Gw.To4())
		ones, _ := r.Dst.Mask.Size()
		routes = append(routes, Route{Pods: netip.PrefixFrom(addr, ones), Via: via})
	}
	return routes, nil
}

// AddRoute implements Kernel.
func (Netlink) AddRoute(r Route) error {
	if err := netlink.RouteReplace(netlinkRoute(r)); err != nil {
		return fmt.Errorf("add the route to %s via %s: %w", r.Pods, r.Via, err)
	}
	return nil
}

// RemoveRoute implements Kernel.
func (Netlink) RemoveRoute(r Route) error {
	if err := netlink.RouteDel(netlinkRoute(r)); err != nil {
		return fmt.Errorf("remove the route to %s: %w", r.Pods, err)
	}
	return nil
}

func netlinkRoute(r Route) *netlink.Route {
	return &netlink.Route{Dst: ipNet(r.Pods), Gw: r.Via.AsSlice(), Protocol: routeProtocol}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Masquerade implements Kernel.
func (Netlink) Masquerade(pods, all netip.Prefix) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("reach nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nodenet"})
	c.FlushTable(table)
	chain := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: masqueradeRule(pods, all)})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set the masquerade rule: %w", err)
	}
	return nil
}

// Where IPv4 has its addresses, in bytes from its header's start.
const (
	sourceOffset      = 12
	destinationOffset = 16
)

// masqueradeRule matches what pods send out of all, which is what leaves the
// pod network, and masquerades it.
func masqueradeRule(pods, all netip.Prefix) []expr.Any {
	return append(append(
		matchAddress(sourceOffset, pods, expr.CmpOpEq),
		matchAddress(destinationOffset, all, expr.CmpOpNeq)...),
		&expr.Counter{}, &expr.Masq{})
}

func matchAddress(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	n := ipNet(p.Masked())
	return []expr.Any{
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: n.Mask, Xor: []byte{0, 0, 0, 0}},
		&expr.Cmp{Op: op, Register: unix.NFT_REG_1, Data: n.IP.To4()},
	}
}
