package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/bpf"
)

// Networks say which flows are followed: those between two pods and those
// between a pod and a node. Without pods' networks it is every flow. IPv4 alone.
type Networks struct {
	Pods  []netip.Prefix
	Nodes []netip.Prefix // addresses of nodes, one each
}

// mostNetworks of each kind go into the kernel's filter, whose jumps are short.
const mostNetworks = 64

// ParseNetworks reads comma-separated prefixes, or addresses.
func ParseNetworks(words string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for word := range strings.SplitSeq(words, ",") {
		if word == "" {
			continue
		}
		p, err := netip.ParsePrefix(word)
		if err != nil {
			addr, addrErr := netip.ParseAddr(word)
			if addrErr != nil {
				return nil, fmt.Errorf("%q is no network", word)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if !p.Addr().Is4() {
			return nil, fmt.Errorf("network %s is not IPv4", p)
		}
		all = append(all, p.Masked())
	}
	if len(all) > mostNetworks {
		return nil, fmt.Errorf("%d networks are more than %d", len(all), mostNetworks)
	}
	return all, nil
}

func within(networks []netip.Prefix, ip [4]byte) bool {
	addr := netip.AddrFrom4(ip)
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// follow tells whether a flow between two addresses is of interest.
func (n Networks) follow(from, to [4]byte) bool {
	if len(n.Pods) == 0 {
		return true
	}
	switch {
	case within(n.Pods, from):
		return within(n.Pods, to) || within(n.Nodes, to)
	case within(n.Nodes, from):
		return within(n.Pods, to)
	}
	return false
}

// Where IPv4's header has what the filter looks at.
const (
	offsetFragment = 6
	offsetProtocol = 9
	offsetFrom     = 12
	offsetTo       = 16
	protocolTCP    = 6
	fragmentMask   = 0x1fff
	whole          = 1 << 18 // bytes that are kept of a packet: all
)

// filter is follow for the kernel, which then wakes nobody for the rest. It
// looks at packets from their IP header on.
func (n Networks) filter() ([]bpf.Instruction, error) {
	f := &assembly{labels: map[string]int{}}
	f.add(bpf.LoadAbsolute{Off: 0, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xf0})
	f.unless(bpf.JumpEqual, 0x40, "drop")
	f.add(bpf.LoadAbsolute{Off: offsetProtocol, Size: 1})
	f.unless(bpf.JumpEqual, protocolTCP, "drop")
	f.add(bpf.LoadAbsolute{Off: offsetFragment, Size: 2})
	f.unless(bpf.JumpBitsNotSet, fragmentMask, "drop")
	if len(n.Pods) > 0 {
		f.either(offsetFrom, n.Pods, "from pod")
		f.either(offsetFrom, n.Nodes, "from node")
		f.jump("drop")
		f.label("from pod")
		f.either(offsetTo, n.Nodes, "keep")
		f.label("from node")
		f.either(offsetTo, n.Pods, "keep")
		f.jump("drop")
	}
	f.label("keep")
	f.add(bpf.RetConstant{Val: whole})
	f.label("drop")
	f.add(bpf.RetConstant{Val: 0})
	return f.link()
}

// assembly is a filter whose jumps go to names.
type assembly struct {
	code   []bpf.Instruction
	jumps  map[int]string // by place, of the unconditional ones
	labels map[string]int
}

func (f *assembly) add(code ...bpf.Instruction) { f.code = append(f.code, code...) }
func (f *assembly) label(name string)           { f.labels[name] = len(f.code) }

// jump goes on at a label; it reaches any distance, as a condition does not.
func (f *assembly) jump(to string) {
	if f.jumps == nil {
		f.jumps = map[int]string{}
	}
	f.jumps[len(f.code)] = to
	f.add(bpf.Jump{})
}

// unless goes on at a label when the condition does not hold.
func (f *assembly) unless(cond bpf.JumpTest, value uint32, to string) {
	f.add(bpf.JumpIf{Cond: cond, Val: value, SkipTrue: 1})
	f.jump(to)
}

// either goes on at a label when the address at an offset is in a network.
func (f *assembly) either(offset uint32, networks []netip.Prefix, to string) {
	for _, p := range networks {
		addr := p.Addr().As4()
		mask := uint32(0)
		if p.Bits() > 0 {
			mask = ^uint32(0) << (32 - p.Bits())
		}
		f.add(bpf.LoadAbsolute{Off: offset, Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		f.add(bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(addr[:]), SkipTrue: 1})
		f.jump(to)
	}
}

func (f *assembly) link() ([]bpf.Instruction, error) {
	for at, name := range f.jumps {
		to, ok := f.labels[name]
		if !ok || to <= at {
			return nil, fmt.Errorf("filter: label %q is not ahead", name)
		}
		f.code[at] = bpf.Jump{Skip: uint32(to - at - 1)}
	}
	return f.code, nil
}
