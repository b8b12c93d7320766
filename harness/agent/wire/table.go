package wire

import (
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Options say what a Table follows, and how much it may keep.
type Options struct {
	Networks Networks
	Needles  []Needle
	MaxFlows int // default 16384; the one that was quiet longest makes room
	MaxRows  int // of a snapshot, default 4096
	MaxHeld  int // bytes of payload that wait to be understood, default 8 MiB
}

func (o Options) filled() Options {
	for _, d := range []struct {
		field *int
		value int
	}{{&o.MaxFlows, 16384}, {&o.MaxRows, 4096}, {&o.MaxHeld, 8 << 20}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return o
}

// Table follows flows. It is for one goroutine.
type Table struct {
	options Options
	search  searcher

	flows   map[key]*flow
	ends    flow // older is the newest flow, newer the oldest: a ring
	touched []*flow
	held    int // bytes in heads and segments ahead

	rows map[rowKey]*Row
	sum  Totals

	ip  layers.IPv4
	tcp layers.TCP
}

// NewTable makes an empty table.
func NewTable(o Options) *Table {
	o = o.filled()
	t := &Table{options: o, search: newSearcher(o.Needles), flows: map[key]*flow{}, rows: map[rowKey]*Row{}}
	t.ends.older, t.ends.newer = &t.ends, &t.ends
	return t
}

// Packet takes one packet, from its IP header on. It keeps nothing of it.
func (t *Table) Packet(at time.Time, packet []byte) {
	t.sum.Packets++
	if t.ip.DecodeFromBytes(packet, gopacket.NilDecodeFeedback) != nil || t.ip.Protocol != layers.IPProtocolTCP || t.ip.FragOffset != 0 {
		return
	}
	if t.tcp.DecodeFromBytes(t.ip.Payload, gopacket.NilDecodeFeedback) != nil {
		return
	}
	from := end{[4]byte(t.ip.SrcIP), uint16(t.tcp.SrcPort)}
	to := end{[4]byte(t.ip.DstIP), uint16(t.tcp.DstPort)}
	if !t.options.Networks.follow(from.ip, to.ip) {
		return
	}
	f := t.find(at, from, to)
	if f == nil {
		return
	}
	t.renew(f)
	which := fromClient
	if from != f.client {
		which = fromServer
	}
	s := &f.sides[which]
	seq := t.tcp.Seq
	if t.tcp.SYN {
		seq++ // it takes a number of its own
	}
	if !s.started {
		s.started, s.next, s.isn, s.middle = true, seq, t.tcp.Seq, !t.tcp.SYN
	}
	if len(t.tcp.Payload) > 0 {
		t.arrive(at, f, which, seq, t.tcp.Payload)
	}
	t.end(f, which)
}

// find returns the packet's flow. One that only says goodbye makes none.
func (t *Table) find(at time.Time, from, to end) *flow {
	k := keyOf(from, to)
	f := t.flows[k]
	opens := t.tcp.SYN && !t.tcp.ACK
	if f != nil && opens && (f.client != from || f.sides[fromClient].isn != t.tcp.Seq || !f.begun) {
		t.forget(f) // its ports serve a new connection
		f = nil
	}
	if f != nil {
		return f
	}
	if !t.tcp.SYN && len(t.tcp.Payload) == 0 || t.tcp.RST {
		return nil
	}
	if len(t.flows) >= t.options.MaxFlows {
		t.sum.Evicted++
		t.forget(t.ends.newer)
	}
	f = &flow{key: k, client: from, server: to, begun: t.tcp.SYN, fresh: true, first: at}
	// A SYN that is answered comes from the server; else services listen below clients' ports.
	if t.tcp.SYN && t.tcp.ACK || !t.tcp.SYN && from.port < to.port {
		f.client, f.server = to, from
	}
	t.flows[k] = f
	t.link(f)
	return f
}

// arrive takes bytes in their order, once.
func (t *Table) arrive(at time.Time, f *flow, which int, seq uint32, data []byte) {
	s := &f.sides[which]
	switch ahead := int32(seq - s.next); {
	case ahead < 0:
		if old := -int64(ahead); old < int64(len(data)) {
			t.take(at, f, which, data[old:])
		}
	case ahead == 0:
		t.take(at, f, which, data)
	case len(s.ahead) < mostAhead && t.held+len(data) <= t.options.MaxHeld:
		if !slices.ContainsFunc(s.ahead, func(o segment) bool { return o.seq == seq && len(o.data) == len(data) }) {
			s.ahead = append(s.ahead, segment{seq, slices.Clone(data)})
			t.held += len(data)
			t.touch(at, f)
		}
		return
	default:
		s.ahead = append(s.ahead, segment{seq, slices.Clone(data)})
		t.held += len(data)
		t.skip(at, f, which)
		return
	}
	t.catchUp(at, f, which)
}

// catchUp takes the segments whose turn it is now.
func (t *Table) catchUp(at time.Time, f *flow, which int) {
	s := &f.sides[which]
	for {
		i := slices.IndexFunc(s.ahead, func(o segment) bool { return int32(o.seq-s.next) <= 0 })
		if i < 0 {
			return
		}
		o := s.ahead[i]
		s.ahead = slices.Delete(s.ahead, i, i+1)
		t.held -= len(o.data)
		if old := int64(s.next - o.seq); old < int64(len(o.data)) {
			t.take(at, f, which, o.data[old:])
		}
	}
}

// skip goes on behind bytes that never came.
func (t *Table) skip(at time.Time, f *flow, which int) {
	s := &f.sides[which]
	for len(s.ahead) > 0 {
		nearest := slices.MinFunc(s.ahead, func(a, b segment) int { return int(int32(a.seq-s.next)) - int(int32(b.seq-s.next)) })
		t.sum.Gaps++
		s.next, s.tail = nearest.seq, s.tail[:0]
		t.catchUp(at, f, which)
	}
}

// take is handed each byte of a side once, in order but for gaps.
func (t *Table) take(at time.Time, f *flow, which int, data []byte) {
	s := &f.sides[which]
	s.next += uint32(len(data))
	t.touch(at, f)
	f.bytes += uint64(len(data))
	s.tail = t.search.search(s.tail, data, func(needle int) {
		f.leaks++
		f.needles |= 1 << needle
	})
	if f.settled {
		return
	}
	if s.middle || f.sides[1-which].middle {
		f.middleSeen(data)
	} else {
		if which == fromServer && len(f.sides[fromClient].head) == 0 {
			f.serverFirst = true
		}
		keep := max(0, min(len(data), mostHead-len(s.head), t.options.MaxHeld-t.held))
		s.head = append(s.head, data[:keep]...)
		t.held += keep
		f.settle()
	}
	if f.settled {
		t.held -= f.dropHeads()
	}
}

// touch puts the flow down for the next snapshot.
func (t *Table) touch(at time.Time, f *flow) {
	if f.touched {
		return
	}
	f.touched, f.first = true, at
	t.touched = append(t.touched, f)
}

// end notes a goodbye. The flow stays for the copies of its last packets.
func (t *Table) end(f *flow, which int) {
	if t.tcp.FIN {
		f.fins |= 1 << which
	}
	if f.fins == 3 || t.tcp.RST {
		f.closed = true
	}
}

func (t *Table) link(f *flow) {
	f.older, f.newer = t.ends.older, &t.ends
	f.older.newer, t.ends.older = f, f
}

func (t *Table) unlink(f *flow) {
	f.older.newer, f.newer.older = f.newer, f.older
}

func (t *Table) renew(f *flow) {
	t.unlink(f)
	t.link(f)
}

// forget takes a flow out, once what it carried has been counted.
func (t *Table) forget(f *flow) {
	for which := range f.sides {
		t.skip(f.first, f, which)
	}
	if f.touched {
		if !f.settled {
			f.giveUp()
		}
		t.count(f)
		f.touched = false // its place in the list is passed over
	}
	t.held -= f.dropHeads()
	t.unlink(f)
	delete(t.flows, f.key)
}
