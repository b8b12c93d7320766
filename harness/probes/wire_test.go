package probes

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/agent/wire"
	"meshsim.dev/meshsim/harness/watch"
	"meshsim.dev/meshsim/results"
)

// epoch is the run's start by the nodes' clocks.
var epoch = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

func party(addr netip.Addr) watch.Party {
	switch addr.String() {
	case "10.244.1.5":
		return watch.Party{Name: "order-processing", Pod: "order-1", Node: "n1", Shop: true}
	case "10.244.2.9":
		return watch.Party{Name: "inventory-management", Pod: "stock-1", Node: "n2", Shop: true}
	case "10.244.2.3":
		return watch.Party{Name: "postgres", Pod: "postgres-0", Node: "n2"}
	case "10.244.1.7":
		return watch.Party{Name: "monitoring/prometheus", Pod: "prometheus-1", Node: "n1"}
	case "10.96.0.7":
		return watch.Party{Name: "prod-app/inventory-management", Virtual: true}
	case "172.18.0.2":
		return watch.Party{Name: results.PartyNode, Node: "n2"}
	}
	return watch.Party{Name: results.PartyOutside}
}

// told is a snapshot of two seconds that ends at a second of the run.
func told(node string, end float64, rows ...wire.Row) wire.Snapshot {
	return wire.Snapshot{Node: node, At: epoch.Add(seconds(end)), Seconds: 2, Totals: wire.Totals{Packets: 10}, Rows: rows}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func flowTo(client, server string, port uint16, class wire.Class) wire.Row {
	return wire.Row{
		Client: netip.MustParseAddr(client), Server: netip.MustParseAddr(server), Port: port, Class: class,
		Opened: 1, Active: 1, Bytes: 100, Example: wire.Example{At: epoch, ClientPort: 40000},
	}
}

// feed has both nodes tell what they saw until a second of the run, each
// snapshot coming a tenth of a second after its end.
func feed(b *WireBook, from, until float64, rows func(node string, end float64) []wire.Row) {
	for end := from + 2; end <= until; end += 2 {
		for _, node := range []string{"n1", "n2"} {
			b.Add(int64(seconds(end+0.1)), told(node, end, rows(node, end)...))
		}
	}
}

func quiet(string, float64) []wire.Row { return nil }

func TestFlowsAreToldByServiceAndSayWhyTheyMayBeReadable(t *testing.T) {
	b := NewWireBook(party, []string{"n1", "n2"})
	b.Begin(0, 0)
	leaky := flowTo("10.244.1.5", "10.244.2.9", 9090, wire.HTTP2)
	leaky.Leaks, leaky.Needles = 3, []string{"canary"}
	secret := flowTo("10.244.1.5", "10.244.2.9", 9090, wire.TLS)
	secret.Version, secret.SNI, secret.ALPN = "1.3", "inventory-management.prod-app", "h2"
	edge := flowTo("172.18.0.2", "10.244.2.9", 8080, wire.HTTP1)
	edge.Leaks, edge.Needles = 1, []string{"canary"}
	rows := []wire.Row{
		leaky, secret, edge, flowTo("10.244.1.5", "10.244.2.3", 5432, wire.Postgres),
		flowTo("10.244.1.7", "10.244.2.9", 4191, wire.HTTP1), flowTo("10.244.1.5", "10.96.0.7", 9090, wire.HTTP2),
		flowTo("172.18.0.2", "172.18.0.2", 10250, wire.TLS),
	}
	feed(b, 0, 4, func(_ string, end float64) []wire.Row {
		if end == 2 {
			return rows // both nodes see them
		}
		return nil
	})
	b.Cut(int64(seconds(3)), 50)
	all := b.Told(int64(seconds(10)), seconds(5))
	require.Len(t, all, 1)
	w := all[0]
	for i := range w.Flows {
		require.NotEmpty(t, w.Flows[i].Examples)
		w.Flows[i].Examples = nil
	}
	const database, outside, others = "the database, which is not meshed", "from or to a node or from outside: kubelet's probes, the load balancer", "not between the shop's services"
	require.Equal(t, []results.Flow{
		{Source: "monitoring/prometheus", Destination: "inventory-management", Port: 4191, Kind: "http1", Count: 1, Bytes: 100, Exempt: others},
		{Source: "node", Destination: "inventory-management", Port: 8080, Kind: "http1", Count: 1, Bytes: 100, Exempt: outside},
		{Source: "order-processing", Destination: "inventory-management", Port: 9090, Kind: "http2", Count: 1, Bytes: 100},
		{Source: "order-processing", Destination: "inventory-management", Port: 9090, Kind: "tls", Version: "1.3", ALPN: "h2", Count: 1, Bytes: 100},
		{Source: "order-processing", Destination: "postgres", Port: 5432, Kind: "postgresql", Count: 1, Bytes: 100, Exempt: database},
	}, w.Flows)
	require.Equal(t, []any{int64(50), int64(3), int64(0)}, []any{w.Planted, w.Found, w.Dropped})
	require.Equal(t, []string{"12:00:00.000 order-1:40000 → stock-1:9090 on n2: http2, canary read"}, w.Where)
	require.Equal(t, []any{[]string{"n1", "n2"}, []string{}}, []any{w.Nodes, w.Missing})
}

func TestADatabaseWithAProxyIsNoMoreExempt(t *testing.T) {
	service := watch.Party{Name: "order-processing", Pod: "order-1", Shop: true, Meshed: true}
	bareService := watch.Party{Name: "order-processing", Pod: "order-2", Shop: true}
	primary, replica := watch.Party{Name: "postgres", Pod: "postgres-0", Meshed: true}, watch.Party{Name: "postgres-replica", Pod: "postgres-replica-0", Meshed: true}
	unmeshed := watch.Party{Name: "postgres", Pod: "postgres-0"}
	prometheus, node := watch.Party{Name: "monitoring/prometheus", Pod: "p-1"}, watch.Party{Name: results.PartyNode}
	for name, c := range map[string]struct {
		source, destination watch.Party
		why                 string
	}{
		"a service and the database":                  {service, primary, ""},
		"a service without a proxy, and the database": {bareService, primary, ""},
		"the replica and its primary":                 {replica, primary, ""},
		"the replica and a primary without a proxy":   {replica, unmeshed, "the database, which is not meshed"},
		"a service and a database without one":        {service, unmeshed, "the database, which is not meshed"},
		"a probe by the kubelet":                      {node, primary, "from or to a node or from outside: kubelet's probes, the load balancer"},
		"somebody else":                               {prometheus, primary, "not between the shop's services"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.why, exempt(c.source, c.destination)) })
	}
}

func TestALongFlowCountsOnceInASlice(t *testing.T) {
	b := NewWireBook(party, []string{"n1", "n2"})
	b.Begin(0, 0)
	at := func(opened, active int) func(string, float64) []wire.Row {
		return func(string, float64) []wire.Row {
			r := flowTo("10.244.1.5", "10.244.2.9", 9090, wire.TLS)
			r.Opened, r.Active = opened, active
			return []wire.Row{r}
		}
	}
	feed(b, 0, 2, at(1, 3)) // two are older
	feed(b, 2, 8, at(0, 2))
	feed(b, 8, 10, at(2, 4))
	b.Cut(int64(seconds(9.5)), 0)
	feed(b, 10, 14, at(0, 4))
	b.Cut(int64(seconds(14)), 0)
	all := b.Told(int64(seconds(30)), seconds(5))
	require.Equal(t, []int64{5, 4}, []int64{all[0].Flows[0].Count, all[1].Flows[0].Count})
	require.Equal(t, int64(500), all[0].Flows[0].Bytes)
}

func TestWhatBeganBeforeACutBelongsBeforeIt(t *testing.T) {
	b := NewWireBook(party, []string{"n1", "n2"})
	b.Begin(0, 0)
	feed(b, 0, 4, quiet)
	b.Cut(int64(seconds(5)), 0) // amid the snapshot from 4 to 6
	feed(b, 4, 12, func(node string, end float64) []wire.Row {
		if end == 6 {
			return []wire.Row{flowTo("10.244.1.5", "10.244.2.9", 9090, wire.HTTP2)}
		}
		return nil
	})
	b.Cut(int64(seconds(11)), 0)
	all := b.Told(int64(seconds(20)), seconds(5))
	require.Len(t, all, 2)
	require.Len(t, all[0].Flows, 1)
	require.Empty(t, all[1].Flows)
	require.Equal(t, []int64{0, int64(seconds(5)), int64(seconds(5)), int64(seconds(11))}, []int64{all[0].From, all[0].To, all[1].From, all[1].To})
}

func TestANodeThatIsNotFollowedIsMissing(t *testing.T) {
	silent := func(from, until float64) func(*WireBook) {
		return func(b *WireBook) {
			for end := 2.0; end <= 12; end += 2 {
				b.Add(int64(seconds(end)), told("n1", end))
				if end <= from || end > until {
					b.Add(int64(seconds(end)), told("n2", end))
				}
			}
		}
	}
	for _, c := range []struct {
		name string
		feed func(*WireBook)
		want [2][]string
	}{
		{"all the time", silent(0, 99), [2][]string{{"n2"}, {"n2"}}},
		{"for a while in the first slice", silent(2, 4), [2][]string{{"n2"}, {}}},
		{"from the second slice on", silent(8, 99), [2][]string{{}, {"n2"}}},
		{"never", silent(99, 99), [2][]string{{}, {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := NewWireBook(party, []string{"n1", "n2"})
			b.Begin(0, 0)
			b.Cut(int64(seconds(6)), 0)
			c.feed(b)
			b.Cut(int64(seconds(11)), 0)
			all := b.Told(int64(seconds(30)), seconds(5))
			require.Equal(t, c.want, [2][]string{all[0].Missing, all[1].Missing})
		})
	}
}

func TestANodeThatBeginsLateIsMissingUntilThen(t *testing.T) {
	b := NewWireBook(party, []string{"n1", "n2"})
	b.Begin(0, 0)
	for end := 2.0; end <= 12; end += 2 {
		b.Add(int64(seconds(end)), told("n1", end))
		if end == 6 {
			b.Cut(int64(seconds(6)), 0)
		}
		if end >= 10 {
			b.Add(int64(seconds(end)), told("n2", end))
		}
	}
	b.Cut(int64(seconds(12)), 0)
	feed(b, 12, 16, quiet)
	b.Cut(int64(seconds(15)), 0)
	all := b.Told(int64(seconds(30)), seconds(5))
	require.Equal(t, [][]string{{"n2"}, {"n2"}, {}}, [][]string{all[0].Missing, all[1].Missing, all[2].Missing})
}

func TestALogThatCameLateIsNoGap(t *testing.T) {
	b := NewWireBook(party, []string{"n1"})
	b.Begin(0, 0)
	for _, s := range []struct{ came, end float64 }{{2, 2}, {4, 4}, {11, 6}, {11, 8}, {11, 10}, {12, 12}} {
		b.Add(int64(seconds(s.came)), told("n1", s.end))
	}
	b.Cut(int64(seconds(11)), 0)
	require.True(t, b.Heard(int64(seconds(11))))
	require.False(t, b.Heard(int64(seconds(13))))
	require.Empty(t, b.Told(int64(seconds(30)), seconds(5))[0].Missing)
}

func TestLossesAreCarried(t *testing.T) {
	b := NewWireBook(party, []string{"n1", "n2"})
	b.Begin(0, 0)
	s := told("n2", 2)
	s.Drops, s.Evicted, s.Lost, s.Gaps, s.CPUSeconds, s.RSSBytes = 7, 1, 2, 3, 0.5, 100
	b.Add(int64(seconds(2)), s)
	b.Cut(int64(seconds(2)), 0)
	w := b.Told(int64(seconds(30)), seconds(5))[0]
	require.Equal(t, int64(7+1+2+3), w.Dropped)
	require.Equal(t, []results.Captured{{Node: "n2", Seconds: 2, Packets: 10, Drops: 7, Evicted: 1, Lost: 2, Gaps: 3, CPUSeconds: 0.5, RSSBytes: 100}}, w.Captures)
	require.Equal(t, []string{"n1"}, w.Missing)
}

func TestSlicesWaitForTheirSnapshots(t *testing.T) {
	b := NewWireBook(party, []string{"n1", "n2"})
	b.Add(int64(seconds(1)), told("n1", 1, flowTo("10.244.1.5", "10.244.2.9", 9090, wire.HTTP2)))
	b.Begin(int64(seconds(2)), 0)
	b.Cut(int64(seconds(4)), 0)
	require.Empty(t, b.Told(int64(seconds(8)), seconds(5)))
	all := b.Told(int64(seconds(9)), seconds(5))
	require.Len(t, all, 1)
	require.Empty(t, all[0].Flows, "what came before the begin counts for nothing")
	require.Empty(t, b.Told(int64(seconds(99)), seconds(5)), "the last goes on")
}
