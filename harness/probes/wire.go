package probes

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/harness/agent/wire"
	"meshsim.dev/meshsim/harness/watch"
	"meshsim.dev/meshsim/results"
)

// WireBook adds up what the captures on the nodes tell, in slices of the run
// that end where a phase or a step does. Its methods may be called from several
// goroutines. Times are nanoseconds since the run's start.
type WireBook struct {
	who   func(netip.Addr) watch.Party
	nodes []string // that are to be followed

	mu     sync.Mutex
	slices []*wireSlice // ascending; the last one goes on
	clocks map[string]*nodeClock
}

// wireSlice is what was seen from one cut to the next.
type wireSlice struct {
	from, to int64 // to is 0 while it goes on
	planted  int64 // what had been planted when it began
	sown     int64 // while it lasted
	missing  map[string]bool
	captured map[string]*results.Captured
	flows    map[flowKey]*flowCount
}

// nodeClock sets a node's clock beside the run's.
type nodeClock struct {
	offset int64 // to the run's, by the snapshot that came quickest
	until  int64 // the end of its last snapshot, by the run's clock
	last   time.Time
}

// flowKey tells kinds of flows apart.
type flowKey struct {
	source, destination string
	port                uint16
	kind, version, alpn string
}

type flowCount struct {
	exempt          string
	ends            map[flowEnds]*endsCount
	bytes, canaries int64
	examples        []string
}

// flowEnds are the rows that make up a kind of flows.
type flowEnds struct {
	client, server   netip.Addr
	sni              string
	middle, upgraded bool
}

// endsCount counts a row's flows once, though snapshots tell of a long one again
// and again.
type endsCount struct{ carried, opened, most int64 }

// flows is how many there were: those that the first snapshot found and those
// that began since. One that was silent at first may be missed, but not all are.
func (c *flowCount) flows() (n int64) {
	for _, e := range c.ends {
		n += max(e.carried+e.opened, e.most)
	}
	return n
}

func (c *flowCount) add(r wire.Row) {
	at := flowEnds{r.Client, r.Server, r.SNI, r.Middle, r.Upgraded}
	e := c.ends[at]
	if e == nil {
		e = &endsCount{carried: int64(r.Active - r.Opened)}
		c.ends[at] = e
	}
	e.opened += int64(r.Opened)
	e.most = max(e.most, int64(r.Active))
	c.bytes += int64(r.Bytes)
	c.canaries += int64(r.Leaks)
}

const (
	// gapTolerated lies between two snapshots while one is told.
	gapTolerated = 500 * time.Millisecond
	// clockMargin is what the quickest snapshot may have taken to get here.
	clockMargin = 250 * time.Millisecond
	// mostExamples are kept of what should be encrypted and is not; of the rest, one.
	mostExamples = 3
)

// NewWireBook makes a book for captures on the nodes named.
func NewWireBook(who func(netip.Addr) watch.Party, nodes []string) *WireBook {
	return &WireBook{who: who, nodes: slices.Clone(nodes), clocks: map[string]*nodeClock{}}
}

// Begin starts the first slice; what came before it counts for nothing.
func (b *WireBook) Begin(at, planted int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slices = []*wireSlice{newWireSlice(at, planted)}
}

// Heard tells whether every node has told all that it saw until an instant.
func (b *WireBook) Heard(at int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !slices.ContainsFunc(b.nodes, func(name string) bool { return b.clocks[name] == nil || b.clocks[name].until < at })
}

func newWireSlice(from, planted int64) *wireSlice {
	return &wireSlice{from: from, planted: planted, missing: map[string]bool{}, captured: map[string]*results.Captured{}, flows: map[flowKey]*flowCount{}}
}

// Cut ends a slice and begins the next. planted is how many canaries have been
// sent so far.
func (b *WireBook) Cut(at, planted int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.slices) == 0 {
		return
	}
	last := b.slices[len(b.slices)-1]
	if at <= last.from {
		return
	}
	last.to, last.sown = at, planted-last.planted
	b.slices = append(b.slices, newWireSlice(at, planted))
}

// Add takes a snapshot that came at an instant into the slice that it began in:
// what was read then may be of that slice, and the next is judged more strictly.
func (b *WireBook) Add(came int64, s wire.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lasted := time.Duration(s.Seconds * float64(time.Second))
	clock := b.clocks[s.Node]
	if clock == nil {
		clock = &nodeClock{offset: came - s.At.UnixNano(), last: s.At.Add(-lasted)}
		b.clocks[s.Node] = clock
		if begun := came - int64(lasted); len(b.slices) > 0 && begun > b.slices[0].from+int64(clockMargin) {
			b.miss(s.Node, b.slices[0].from, begun) // it came late
		}
	}
	clock.offset = min(clock.offset, came-s.At.UnixNano())
	ended := s.At.UnixNano() + clock.offset
	begun := ended - int64(lasted)
	if gap := s.At.Add(-lasted).Sub(clock.last); gap > gapTolerated {
		b.miss(s.Node, begun-int64(gap), begun)
	}
	clock.last, clock.until = s.At, ended
	if len(b.slices) == 0 {
		return
	}
	in := b.slices[0]
	for _, slice := range b.slices {
		if slice.from <= begun-int64(clockMargin) {
			in = slice
		}
	}
	in.count(s)
	for _, r := range s.Rows {
		b.row(in, s.Node, r)
	}
}

// miss marks the slices in which a node was not followed.
func (b *WireBook) miss(node string, from, to int64) {
	for _, s := range b.slices {
		if s.from < to && (s.to == 0 || s.to > from) {
			s.missing[node] = true
		}
	}
}

func (s *wireSlice) count(seen wire.Snapshot) {
	c := s.captured[seen.Node]
	if c == nil {
		c = &results.Captured{Node: seen.Node}
		s.captured[seen.Node] = c
	}
	c.Seconds += seen.Seconds
	c.Packets += seen.Packets
	c.Drops += seen.Drops
	c.Evicted += seen.Evicted
	c.Lost += seen.Lost
	c.Gaps += seen.Gaps
	c.CPUSeconds += seen.CPUSeconds
	c.RSSBytes = max(c.RSSBytes, seen.RSSBytes)
}

func (b *WireBook) row(s *wireSlice, node string, r wire.Row) {
	source, destination := b.who(r.Client), b.who(r.Server)
	switch {
	case source.Virtual || destination.Virtual:
		return // half a flow, before the kernel put the pod's address in; the whole is told too
	case source.Pod == "" && destination.Pod == "":
		return // between nodes
	case !b.listensTo(node, source, destination):
		return
	}
	k := flowKey{source.Name, destination.Name, r.Port, kindOf(r), r.Version, r.ALPN}
	c := s.flows[k]
	if c == nil {
		c = &flowCount{exempt: exempt(source, destination), ends: map[flowEnds]*endsCount{}}
		s.flows[k] = c
	}
	c.add(r)
	if len(c.examples) == 0 || c.exempt == "" && k.kind != results.FlowTLS && len(c.examples) < mostExamples {
		c.examples = append(c.examples, exampleOf(node, source, destination, r))
	}
}

// listensTo picks one node of the two that see a flow: the callee's, and the
// caller's when the callee is on none that is followed.
func (b *WireBook) listensTo(node string, source, destination watch.Party) bool {
	if destination.Pod != "" && slices.Contains(b.nodes, destination.Node) {
		return node == destination.Node
	}
	return node == source.Node
}

// kindOf is a row's class as the record names it.
func kindOf(r wire.Row) string {
	if r.Class.Encrypted() && r.Leaks > 0 {
		return results.FlowMixed
	}
	return string(r.Class)
}

// exempt says why a flow may be readable: "" between the shop's services, and
// between them and a database that has a proxy, which is what the mesh is to
// encrypt.
func exempt(source, destination watch.Party) string {
	switch {
	case source.Pod == "" || destination.Pod == "":
		return "from or to a node or from outside: kubelet's probes, the load balancer"
	case bare(source) || bare(destination):
		return "the database, which is not meshed"
	case ofShop(source) && ofShop(destination):
		return ""
	}
	return "not between the shop's services"
}

// bare tells that a party is the database, or its replica, without a proxy.
func bare(p watch.Party) bool { return isDatabase(p) && !p.Meshed }

func ofShop(p watch.Party) bool { return p.Shop || isDatabase(p) }

func isDatabase(p watch.Party) bool { return slices.Contains(stack.Databases(), p.Name) }

// exampleOf describes one flow of a row, and nothing that it said.
func exampleOf(node string, source, destination watch.Party, r wire.Row) string {
	text := fmt.Sprintf("%s %s:%d → %s:%d on %s: %s", r.Example.At.Format("15:04:05.000"),
		cmp.Or(source.Pod, r.Client.String()), r.Example.ClientPort, cmp.Or(destination.Pod, r.Server.String()), r.Port, node, kindOf(r))
	if r.Version != "" {
		text += " " + r.Version
	}
	if r.SNI != "" {
		text += ", for " + r.SNI
	}
	if r.Middle {
		text += ", from its middle"
	}
	for _, n := range r.Needles {
		text += ", " + n + " read"
	}
	return text
}

// Told returns the slices that have ended and whose snapshots must be in by now,
// oldest first, and forgets them.
func (b *WireBook) Told(now int64, patience time.Duration) []results.Wire {
	b.mu.Lock()
	defer b.mu.Unlock()
	var told []results.Wire
	for len(b.slices) > 1 && b.slices[0].to+int64(patience) <= now {
		told = append(told, b.record(b.slices[0]))
		b.slices = b.slices[1:]
	}
	return told
}

func (b *WireBook) record(s *wireSlice) results.Wire {
	w := results.Wire{From: s.from, To: s.to, Nodes: []string{}, Missing: []string{}, Flows: []results.Flow{}, Planted: s.sown}
	for _, name := range b.nodes {
		clock := b.clocks[name]
		if clock == nil || clock.until < s.to || s.missing[name] {
			w.Missing = append(w.Missing, name)
		}
		if clock != nil {
			w.Nodes = append(w.Nodes, name)
		}
		if c := s.captured[name]; c != nil {
			w.Captures = append(w.Captures, *c)
			w.Dropped += int64(c.Drops + c.Evicted + c.Lost + c.Gaps)
		}
	}
	for k, c := range s.flows {
		if c.exempt == "" {
			w.Found += c.canaries
			if c.canaries > 0 {
				w.Where = append(w.Where, c.examples...)
			}
		}
		w.Flows = append(w.Flows, results.Flow{
			Source: k.source, Destination: k.destination, Port: int(k.port), Kind: k.kind, Version: k.version, ALPN: k.alpn,
			Count: c.flows(), Bytes: c.bytes, Exempt: c.exempt, Examples: c.examples,
		})
	}
	slices.SortFunc(w.Flows, func(a, b results.Flow) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Port, b.Port),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Version, b.Version), cmp.Compare(a.ALPN, b.ALPN))
	})
	slices.Sort(w.Where)
	w.Where = w.Where[:min(len(w.Where), mostExamples)]
	return w
}
