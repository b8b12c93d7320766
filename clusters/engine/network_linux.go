package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

func (n netlinkNetwork) taken() ([]netip.Prefix, error) {
	var found []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			found = append(found, p.Masked())
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list the host's routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p, err := netip.ParsePrefix(r.Dst.String()); err == nil {
			found = append(found, p.Masked())
		}
	}
	return found, nil
}

func (n netlinkNetwork) addBridge(name string, address netip.Prefix) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("make bridge %s: %w", name, err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", name, err)
	}
	addr, err := netlink.ParseAddr(address.String())
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give bridge %s the address %s: %w", name, address, err)
	}
	return netlink.LinkSetUp(link)
}

func (n netlinkNetwork) removeBridges(name string, pool netip.Prefix) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the host's links: %w", err)
	}
	var errs []error
	for _, link := range links {
		if link.Type() != "bridge" || (link.Attrs().Name != name && !hasAddressIn(link, pool)) {
			continue
		}
		if err := netlink.LinkDel(link); err != nil {
			errs = append(errs, fmt.Errorf("remove bridge %s: %w", link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}

func hasAddressIn(link netlink.Link, pool netip.Prefix) bool {
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil || !pool.IsValid() {
		return false
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok && pool.Contains(ip) {
			return true
		}
	}
	return false
}
