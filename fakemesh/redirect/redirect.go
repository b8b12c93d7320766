// Package redirect sends a pod's TCP traffic through its proxy, by nftables
// rules in the pod's network namespace. It needs NET_ADMIN and NET_RAW only.
package redirect

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"meshsim.dev/meshsim/fakemesh/ports"
)

// Rules say what goes where.
type Rules struct {
	InboundPort  uint16 // the proxy's port for what comes in
	OutboundPort uint16 // the proxy's port for what the pod dials
	ProxyUID     uint32 // whose own traffic is left alone
	SkipInbound  ports.Set
	SkipOutbound ports.Set
}

// table holds everything; setting up begins with removing it.
const table = "linkerd"

// Apply puts the rules in place of any set earlier, in one transaction.
func Apply(r Rules) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: table}
	// Adding first makes the removal good whether or not it was there.
	conn.AddTable(t)
	conn.DelTable(t)
	conn.AddTable(t)
	inbound(conn, t, r)
	outbound(conn, t, r)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("set the nftables rules (CAP_NET_ADMIN and the kernel's nf_tables, nft_redir and nft_chain_nat are needed): %w", err)
	}
	return nil
}

func inbound(conn *nftables.Conn, t *nftables.Table, r Rules) {
	chain := conn.AddChain(&nftables.Chain{
		Name: "inbound", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	rule := adder(conn, t, chain)
	skip(rule, append(ports.Set{{First: r.InboundPort, Last: r.InboundPort}}, r.SkipInbound...))
	rule(join(tcp(), redirect(r.InboundPort)))
}

func outbound(conn *nftables.Conn, t *nftables.Table, r Rules) {
	chain := conn.AddChain(&nftables.Chain{
		Name: "outbound", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(-100),
	})
	rule := adder(conn, t, chain)
	rule(join(ownedBy(r.ProxyUID), leave()))
	rule(join(overLoopback(), leave()))
	rule(join(toLoopback(), leave()))
	skip(rule, r.SkipOutbound)
	rule(join(tcp(), redirect(r.OutboundPort)))
}

func adder(conn *nftables.Conn, t *nftables.Table, chain *nftables.Chain) func([]expr.Any) {
	return func(exprs []expr.Any) {
		conn.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: exprs})
	}
}

func skip(rule func([]expr.Any), set ports.Set) {
	for _, r := range set {
		rule(join(tcp(), destinationPort(r), leave()))
	}
}

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func leave() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}} }

func tcp() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
}

func destinationPort(r ports.Range) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: bigEndian(r.First), ToData: bigEndian(r.Last)},
	}
}

func ownedBy(uid uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(uid)},
	}
}

func overLoopback() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}

func toLoopback() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.IPv4Mask(255, 0, 0, 0), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{127, 0, 0, 0}},
	}
}

func redirect(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: bigEndian(port)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}

func bigEndian(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
