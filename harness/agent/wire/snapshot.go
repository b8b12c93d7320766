package wire

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Snapshot is what a node's wire carried since the one before it.
type Snapshot struct {
	Node    string    `json:"node"`
	Seq     int       `json:"seq"` // counts from 1, so that a lost one is noticed
	At      time.Time `json:"at"`  // its end, by the node's clock
	Seconds float64   `json:"seconds"`
	Totals
	Flows int   `json:"flows"` // in the table
	Rows  []Row `json:"rows"`
	// CPUSeconds and RSSBytes are what the capture itself took, the latter in all.
	CPUSeconds float64 `json:"cpuSeconds"`
	RSSBytes   int64   `json:"rssBytes"`
}

// Totals count packets, and what was not seen.
type Totals struct {
	Packets uint64 `json:"packets"`
	Drops   uint64 `json:"drops"`   // packets that the kernel had no room for
	Evicted uint64 `json:"evicted"` // flows that were forgotten for want of room
	Gaps    uint64 `json:"gaps"`    // places where bytes of a flow never came by
	Lost    uint64 `json:"lost"`    // flows that no row had room for
}

// Row is the flows of one kind between a client and a server that carried bytes.
type Row struct {
	Client   netip.Addr `json:"client"`
	Server   netip.Addr `json:"server"`
	Port     uint16     `json:"port"` // of the server
	Class    Class      `json:"class"`
	Version  string     `json:"version,omitempty"` // of TLS: 1.3
	SNI      string     `json:"sni,omitempty"`
	ALPN     string     `json:"alpn,omitempty"`
	Middle   bool       `json:"middle,omitempty"`   // followed from their middle
	Upgraded bool       `json:"upgraded,omitempty"` // PostgreSQL that went on in TLS

	Opened int    `json:"opened,omitempty"` // that carried their first bytes
	Active int    `json:"active"`           // that carried any
	Bytes  uint64 `json:"bytes"`
	Leaks  uint64 `json:"leaks,omitempty"` // times that a planted string was to be read
	// Needles are the names of those strings.
	Needles []string `json:"needles,omitempty"`
	Example Example  `json:"example"`
}

// Example is one flow of a row.
type Example struct {
	At         time.Time `json:"at"` // its first bytes since the last snapshot
	ClientPort uint16    `json:"clientPort"`
}

type rowKey struct {
	client, server [4]byte
	port           uint16
	opening
	middle bool
}

// count adds what a flow carried to its row, and begins anew.
func (t *Table) count(f *flow) {
	k := rowKey{client: f.client.ip, server: f.server.ip, port: f.server.port, opening: f.opening}
	k.middle = f.sides[fromClient].middle || f.sides[fromServer].middle
	r := t.rows[k]
	if r == nil {
		if len(t.rows) >= t.options.MaxRows {
			t.sum.Lost++
			return
		}
		r = &Row{
			Client: netip.AddrFrom4(k.client), Server: netip.AddrFrom4(k.server), Port: k.port,
			Class: f.class, Version: f.version, SNI: f.sni, ALPN: f.alpn, Middle: k.middle, Upgraded: f.upgraded,
			Example: Example{At: f.first.UTC(), ClientPort: f.client.port},
		}
		t.rows[k] = r
	}
	r.Active++
	if f.fresh {
		r.Opened++
	}
	r.Bytes += f.bytes
	if f.leaks > 0 && r.Leaks == 0 {
		r.Example = Example{At: f.first.UTC(), ClientPort: f.client.port}
	}
	r.Leaks += f.leaks
	for i, n := range t.options.Needles {
		if f.needles&(1<<i) != 0 && !slices.Contains(r.Needles, n.Name) {
			r.Needles = append(r.Needles, n.Name)
		}
	}
	f.fresh, f.bytes, f.leaks, f.needles = false, 0, 0, 0
}

// Snapshot returns what has been seen since the last one. A flow that has not
// shown yet what it is, or of which bytes are missing, waits for the next, once.
func (t *Table) Snapshot(at time.Time) Snapshot {
	list := t.touched
	t.touched = nil
	for _, f := range list {
		if !f.touched {
			continue // forgotten meanwhile
		}
		if t.waits(f) {
			f.waited = true
			t.touched = append(t.touched, f)
			continue
		}
		f.touched, f.waited = false, false
		t.count(f)
	}
	t.sweep()
	s := Snapshot{At: at.UTC(), Totals: t.sum, Flows: len(t.flows), Rows: make([]Row, 0, len(t.rows))}
	for _, r := range t.rows {
		s.Rows = append(s.Rows, *r)
	}
	slices.SortFunc(s.Rows, func(a, b Row) int {
		return cmp.Or(a.Server.Compare(b.Server), cmp.Compare(a.Port, b.Port), a.Client.Compare(b.Client),
			cmp.Compare(a.Class, b.Class), cmp.Compare(a.SNI, b.SNI), cmp.Compare(a.Example.ClientPort, b.Example.ClientPort))
	})
	clear(t.rows)
	t.sum = Totals{}
	return s
}

// waits tells whether the flow may still show what it is, or get bytes that are
// missing. One that has waited already is taken as it is.
func (t *Table) waits(f *flow) bool {
	if !f.waited && !f.closed {
		return !f.settled || len(f.sides[fromClient].ahead)+len(f.sides[fromServer].ahead) > 0
	}
	for which := range f.sides {
		t.skip(f.first, f, which)
	}
	if !f.settled {
		f.giveUp()
		t.held -= f.dropHeads()
	}
	return false
}

// sweep takes out the flows that ended a snapshot ago.
func (t *Table) sweep() {
	for _, f := range t.flows {
		switch {
		case f.closed && f.lingers && !f.touched:
			t.forget(f)
		case f.closed:
			f.lingers = true
		}
	}
}
