package wire

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

const (
	webPod   = "10.244.1.5:40000"
	stockPod = "10.244.2.9:9090"
	canary   = "5eed5eed5eed5eed"
	otherPod = "10.244.1.7:41000"
	database = "10.244.3.3:5432"
)

func watching() *Table { return NewTable(Options{Needles: []Needle{{"run", []byte(canary)}}}) }

// only returns the one row of a snapshot.
func only(t *testing.T, table *Table) Row {
	t.Helper()
	s := table.Snapshot(noon)
	require.Len(t, s.Rows, 1)
	return s.Rows[0]
}

func TestATLSFlowIsToldWithItsVersionNameAndProtocols(t *testing.T) {
	asked, answered := handshakeOf(t, &tls.Config{ServerName: "stock", NextProtos: []string{"h2"}}, &tls.Config{NextProtos: []string{"h2"}}, canary)
	for _, size := range []int{1, 7, 1400} {
		table := watching()
		talkTo(t, table, webPod, stockPod).open().say(fromClient, asked[:600], size).say(fromServer, answered, size).say(fromClient, asked[600:], size).close()
		require.Equal(t, Row{
			Client: netip.MustParseAddr("10.244.1.5"), Server: netip.MustParseAddr("10.244.2.9"), Port: 9090,
			Class: TLS, Version: "1.3", SNI: "stock", ALPN: "h2", Opened: 1, Active: 1, Bytes: uint64(len(asked) + len(answered)),
			Example: Example{At: noon, ClientPort: 40000},
		}, only(t, table), "what is encrypted shows no canary; segments of %d", size)
	}
}

func TestReadableFlowsAreToldWithTheirCanary(t *testing.T) {
	for _, c := range []struct {
		name            string
		asks, answers   string
		class           Class
		upgraded        bool
		serverSpeaks1st bool
	}{
		{name: "HTTP/1", asks: "GET / HTTP/1.1\r\ntraceparent: 00-" + canary + "\r\n\r\n", answers: "HTTP/1.1 200 OK\r\n\r\n", class: HTTP1},
		{name: "HTTP/2", asks: preface + canary, answers: "\x00", class: HTTP2},
		{name: "PostgreSQL", asks: startup(3<<16, "user\x00"+canary+"\x00\x00"), answers: "R", class: Postgres},
		{name: "a server that speaks first", asks: "HELO " + canary, answers: "220 hello\r\n", class: ServerFirst, serverSpeaks1st: true},
		{name: "anything", asks: "PING " + canary, answers: "PONG", class: Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := watching()
			k := talkTo(t, table, webPod, stockPod).open()
			if c.serverSpeaks1st {
				k.answers(c.answers).asks(c.asks)
			} else {
				k.asks(c.asks).answers(c.answers)
			}
			r := only(t, table)
			require.Equal(t, c.class, r.Class)
			require.Equal(t, uint64(1), r.Leaks)
			require.Equal(t, []string{"run"}, r.Needles)
			require.False(t, r.Class.Encrypted())
		})
	}
}

func TestPostgreSQLThatGoesOnInTLSIsEncrypted(t *testing.T) {
	asked, answered := handshakeOf(t, &tls.Config{}, &tls.Config{}, "word")
	table := watching()
	talkTo(t, table, webPod, database).open().asks(startup(postgresTLS, "")).answers("S").say(fromClient, asked, 1400).say(fromServer, answered, 1400)
	r := only(t, table)
	require.Equal(t, []any{TLS, "1.3", true}, []any{r.Class, r.Version, r.Upgraded})

	table = watching()
	talkTo(t, table, webPod, database).open().asks(startup(postgresTLS, "")).answers("N").asks(startup(3<<16, "user\x00shop\x00\x00")).answers("R")
	require.Equal(t, Postgres, only(t, table).Class, "the server does not speak TLS")
}

func TestAPacketThatComesByTwiceCountsOnce(t *testing.T) {
	table := watching()
	k := talkTo(t, table, webPod, stockPod)
	k.copies = 2
	k.open().asks("GET /" + canary).answers("HTTP/1.1 200 OK").close()
	r := only(t, table)
	require.Equal(t, []any{1, 1, uint64(21 + 15), uint64(1)}, []any{r.Opened, r.Active, r.Bytes, r.Leaks})
}

func TestSegmentsOutOfOrderAreRead(t *testing.T) {
	table := watching()
	k := talkTo(t, table, webPod, stockPod).open()
	text := []byte("GET /" + canary + " HTTP/1.1\r\n\r\n")
	seq := k.next[fromClient]
	for _, part := range [][2]int{{14, 25}, {0, 8}, {20, len(text)}, {8, 16}} { // with overlaps
		k.pass(fromClient, layers.TCP{ACK: true, Seq: seq + uint32(part[0])}, text[part[0]:part[1]])
	}
	s := table.Snapshot(noon)
	require.Len(t, s.Rows, 1)
	require.Equal(t, []any{HTTP1, uint64(len(text)), uint64(1)}, []any{s.Rows[0].Class, s.Rows[0].Bytes, s.Rows[0].Leaks})
	require.Zero(t, s.Gaps)
}

func TestBytesThatNeverCameAreAGap(t *testing.T) {
	table := watching()
	k := talkTo(t, table, webPod, stockPod).open().asks("GET / HTTP/1.1\r\n")
	k.next[fromClient] += 100
	k.asks("later " + canary)
	s := table.Snapshot(noon)
	require.Empty(t, s.Rows, "they may come yet")
	require.Zero(t, s.Gaps)
	s = table.Snapshot(noon)
	require.Equal(t, []any{uint64(1), uint64(1)}, []any{s.Gaps, s.Rows[0].Leaks})
	require.Zero(t, table.held)
}

func TestEachSnapshotHasWhatIsNew(t *testing.T) {
	table := watching()
	k := talkTo(t, table, webPod, stockPod).open().asks("GET / HTTP/1.1\r\n\r\n")
	first := only(t, table)
	require.Equal(t, []any{1, 1, uint64(18)}, []any{first.Opened, first.Active, first.Bytes})
	require.Empty(t, table.Snapshot(noon).Rows, "nothing was said")
	k.answers("HTTP/1.1 204\r\n")
	again := only(t, table)
	require.Equal(t, []any{0, 1, uint64(14)}, []any{again.Opened, again.Active, again.Bytes})
}

func TestAFlowThatHasNotShownItselfWaitsOneSnapshot(t *testing.T) {
	table := watching()
	talkTo(t, table, webPod, stockPod).open().asks("GE")
	require.Empty(t, table.Snapshot(noon).Rows)
	r := only(t, table)
	require.Equal(t, []any{Other, uint64(2)}, []any{r.Class, r.Bytes})
	require.Zero(t, table.held)
}

func TestAFlowFromItsMiddleIsKnownOrSaidNotToBe(t *testing.T) {
	for _, c := range []struct {
		name, answers string
		want          Class
	}{
		{"TLS", "\x17\x03\x03\x00\x08abcdefgh", TLS}, {"HTTP/1", "HTTP/1.1 200 OK\r\n", HTTP1}, {"neither", "abcdefgh", Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := watching()
			k := talkTo(t, table, webPod, stockPod)
			for range mostTries {
				k.answers(c.answers)
			}
			r := only(t, table)
			require.Equal(t, []any{c.want, true, uint16(9090)}, []any{r.Class, r.Middle, r.Port}, "the lower port is the server's")
		})
	}
}

func TestTheSamePortsServeAnotherConnection(t *testing.T) {
	table := watching()
	talkTo(t, table, webPod, stockPod).open().asks("GET / HTTP/1.1\r\n\r\n").close()
	again := talkTo(t, table, webPod, stockPod)
	again.next = [2]uint32{77, 99}
	again.open().asks(preface).close()
	s := table.Snapshot(noon)
	require.Len(t, s.Rows, 2)
	require.ElementsMatch(t, []Class{HTTP1, HTTP2}, []Class{s.Rows[0].Class, s.Rows[1].Class})
}

func TestFlowsThatEndedAreForgotten(t *testing.T) {
	table := watching()
	talkTo(t, table, webPod, stockPod).open().asks("GET / HTTP/1.1\r\n\r\n").close()
	for range 3 {
		table.Snapshot(noon)
	}
	require.Empty(t, table.flows)
}

func TestTheTableKeepsToItsBounds(t *testing.T) {
	table := NewTable(Options{MaxFlows: 10, MaxRows: 4, MaxHeld: 1000})
	for port := range 50 {
		k := talkTo(t, table, netip.AddrPortFrom(netip.MustParseAddr("10.244.1.5"), uint16(40000+port)).String(),
			netip.AddrPortFrom(netip.MustParseAddr("10.244.2.9"), uint16(9000+port)).String()).open()
		k.asks("\x16\x03\x01\x04\x00\x01" + string(bytes.Repeat([]byte{'x'}, 500)))
		require.LessOrEqual(t, len(table.flows), 10)
		require.LessOrEqual(t, table.held, 1000)
	}
	s := table.Snapshot(noon)
	require.Equal(t, []any{uint64(40), 4, uint64(36)}, []any{s.Evicted, len(s.Rows), s.Lost}, "what was pushed out is counted, and so is what no row had room for")
	s = table.Snapshot(noon)
	require.Equal(t, []any{uint64(0), 4, uint64(6)}, []any{s.Evicted, len(s.Rows), s.Lost}, "those that had not shown what they are waited")
	require.Zero(t, table.held)
}

func FuzzPacket(f *testing.F) {
	a, b := netip.MustParseAddrPort(webPod), netip.MustParseAddrPort(stockPod)
	f.Add(packetOf(f, a, b, layers.TCP{SYN: true, Seq: 1}, nil), packetOf(f, a, b, layers.TCP{ACK: true, Seq: 2}, []byte("GET / HTTP/1.1")))
	f.Add(packetOf(f, b, a, layers.TCP{ACK: true, Seq: 9}, []byte("HTTP/1.1")), packetOf(f, b, a, layers.TCP{FIN: true, Seq: 2}, []byte(preface)))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		table := NewTable(Options{MaxFlows: 2, MaxHeld: 4096, Needles: []Needle{{"run", []byte(canary)}}})
		for _, p := range [][]byte{one, two, two, one} {
			table.Packet(noon, p)
		}
		for range 4 {
			table.Snapshot(noon)
		}
		require.Zero(t, table.held)
		require.LessOrEqual(t, len(table.flows), 2)
	})
}
