package wire

import (
	"strings"
	"time"
)

// end is one end of a flow.
type end struct {
	ip   [4]byte
	port uint16
}

func (e end) less(o end) bool {
	if e.ip != o.ip {
		return string(e.ip[:]) < string(o.ip[:])
	}
	return e.port < o.port
}

// key names a flow whichever way a packet goes.
type key struct{ low, high end }

func keyOf(from, to end) key {
	if from.less(to) {
		return key{from, to}
	}
	return key{to, from}
}

// flow is one TCP connection.
type flow struct {
	key
	older, newer *flow // by when a packet of it was last seen

	client, server end
	begun          bool // a SYN was seen, so that client and server are known
	sides          [2]side
	fins           uint8 // bit 0 the client's, bit 1 the server's
	closed         bool
	lingers        bool // closed before the last snapshot

	opening
	settled     bool // opening will not change any more
	waited      bool // a snapshot has gone by without settling it
	serverFirst bool
	tries       int // segments from its middle that told nothing

	// Since the last snapshot.
	fresh   bool // not counted as opened yet
	touched bool // carried bytes, so it stands in the table's list
	bytes   uint64
	leaks   uint64
	needles uint32 // those seen, a bit each
	first   time.Time
}

// opening is what a flow's beginning told.
type opening struct {
	class    Class
	version  string // of TLS, as the server chose it
	sni      string // the server, as the client named it
	alpn     string // the client's offers, with commas
	upgraded bool   // it began as PostgreSQL and went on in TLS
}

// A side is what one end sends.
const (
	fromClient = 0
	fromServer = 1
)

type side struct {
	started bool
	middle  bool   // it was not seen from its SYN on
	isn     uint32 // of its SYN
	next    uint32 // the sequence number that is to come
	head    []byte // its first bytes, until the flow is settled
	tail    []byte // its last bytes, for needles across a seam
	ahead   []segment
}

// segment came before the one that it follows.
type segment struct {
	seq  uint32
	data []byte
}

// Bounds of what is kept of a flow.
const (
	mostHead  = 8 << 10 // of each side; a hello with post-quantum keys has 2 KiB
	mostAhead = 8       // segments
	mostTries = 8
)

// settle looks at what has come of both sides.
func (f *flow) settle() {
	client := f.sides[fromClient].head
	if f.sides[fromClient].middle || f.sides[fromServer].middle {
		return // middleSeen has looked at each segment
	}
	if len(client) == 0 {
		return
	}
	server := f.sides[fromServer].head
	if asksForTLS(client) {
		if len(server) == 0 || len(client) == postgresHeader {
			f.class = Postgres
			return
		}
		f.upgraded = server[0] == 'S'
		client, server = client[postgresHeader:], server[1:]
	}
	c, decided := classOf(client)
	if !decided {
		return
	}
	f.class = c
	if c == Other && f.serverFirst {
		f.class = ServerFirst
	}
	if c != TLS {
		f.settled = true
		return
	}
	f.settleTLS(client, server)
}

func (f *flow) settleTLS(client, server []byte) {
	offered, complete := parseHello(client, helloOfClient)
	chosen, answered := parseHello(server, helloOfServer)
	f.sni, f.alpn = offered.server, strings.Join(offered.alpn, ",")
	f.version = versionName(chosen.version)
	f.settled = complete && answered ||
		len(f.sides[fromClient].head) >= mostHead || len(f.sides[fromServer].head) >= mostHead
}

// giveUp settles what has had time enough.
func (f *flow) giveUp() {
	switch {
	case f.class != "":
	case f.sides[fromClient].middle || f.sides[fromServer].middle:
		f.class = Unknown
	case f.serverFirst:
		f.class = ServerFirst
	default:
		f.class = Other
	}
	f.settled = true
}

// middleSeen looks at a segment of a flow whose beginning was missed.
func (f *flow) middleSeen(data []byte) {
	f.class = middleOf(data)
	f.tries++
	f.settled = f.class != Unknown || f.tries >= mostTries
}

func (f *flow) dropHeads() (bytes int) {
	for i := range f.sides {
		bytes += len(f.sides[i].head)
		f.sides[i].head = nil
	}
	return bytes
}
