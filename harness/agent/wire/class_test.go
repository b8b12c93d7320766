package wire

import (
	"crypto/tls"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// startup is PostgreSQL's first message with a code.
func startup(code uint32, rest string) string {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	return string(binary.BigEndian.AppendUint32(b, code)) + rest
}

func TestAClientsFirstBytesTellWhatItSpeaks(t *testing.T) {
	for _, c := range []struct {
		name, bytes string
		want        Class
		decided     bool
	}{
		{"nothing yet", "", "", false},
		{"HTTP/1", "GET /api HTTP/1.1\r\n", HTTP1, true},
		{"half a method", "DELE", "", false},
		{"HTTP/2", preface, HTTP2, true},
		{"half of HTTP/2's preface", preface[:20], "", false},
		{"what begins like a method and is none", "GETTING", Other, true},
		{"a TLS client", "\x16\x03\x01\x01\x00\x01", TLS, true},
		{"half a TLS record", "\x16\x03\x01", "", false},
		{"a record that is no handshake's first", "\x16\x03\x01\x01\x00\x02", Other, true},
		{"a record of a version that there is not", "\x16\x07\x01\x01\x00\x01", Other, true},
		{"PostgreSQL", startup(3<<16, "user\x00shop\x00\x00"), Postgres, true},
		{"PostgreSQL that asks for TLS", startup(postgresTLS, ""), Postgres, true},
		{"half of PostgreSQL's length", "\x00\x00", "", false},
		{"zeros", "\x00\x00\x00\x00\x00\x00\x00\x00", Other, true},
		{"anything else", "*1\r\n$4\r\nPING\r\n", Other, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, decided := classOf([]byte(c.bytes))
			require.Equal(t, []any{c.want, c.decided}, []any{got, decided})
		})
	}
}

func TestASegmentFromTheMiddleIsKnownByItsMessages(t *testing.T) {
	frame := "\x00\x00\x04\x08\x00\x00\x00\x00\x01abcd"
	for _, c := range []struct {
		name, bytes string
		want        Class
	}{
		{"a TLS record", "\x17\x03\x03\x00\x20" + "anything", TLS},
		{"an answer by HTTP/1", "HTTP/1.1 200 OK\r\n", HTTP1},
		{"a question by HTTP/1", "GET / HTTP/1.1\r\n", HTTP1},
		{"a frame of HTTP/2", frame, HTTP2},
		{"two frames of HTTP/2", frame + frame, HTTP2},
		{"frames with something behind them", frame + "more", Unknown},
		{"PostgreSQL's ready", "Z\x00\x00\x00\x05I", Postgres},
		{"PostgreSQL's query", "Q\x00\x00\x00\x0dSELECT 1\x00", Postgres},
		{"what could be anything", "hello", Unknown},
		{"nothing", "", Unknown},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, middleOf([]byte(c.bytes))) })
	}
}

func TestAHelloTellsVersionNameAndProtocols(t *testing.T) {
	asked, answered := handshakeOf(t, &tls.Config{ServerName: "web.prod-app.serviceaccount.identity.linkerd.cluster.local", NextProtos: []string{"transport.l5d.io/v1", "h2"}},
		&tls.Config{NextProtos: []string{"h2"}}, "word")
	h, complete := parseHello(asked, helloOfClient)
	require.True(t, complete)
	require.Equal(t, hello{0x0304, "web.prod-app.serviceaccount.identity.linkerd.cluster.local", []string{"transport.l5d.io/v1", "h2"}}, h)
	h, complete = parseHello(answered, helloOfServer)
	require.True(t, complete)
	require.Equal(t, "1.3", versionName(h.version))

	_, complete = parseHello(asked[:200], helloOfClient)
	require.False(t, complete, "the rest is on its way")
	h, complete = parseHello(answered, helloOfClient)
	require.True(t, complete)
	require.Equal(t, hello{}, h, "the other's")
}

func TestAnOlderVersionIsTheServersChoice(t *testing.T) {
	asked, answered := handshakeOf(t, &tls.Config{}, &tls.Config{MaxVersion: tls.VersionTLS12}, "word")
	offered, _ := parseHello(asked, helloOfClient)
	chosen, complete := parseHello(answered, helloOfServer)
	require.True(t, complete)
	require.Equal(t, []string{"1.3", "1.2"}, []string{versionName(offered.version), versionName(chosen.version)})
}

func TestAHelloInSeveralRecordsIsOne(t *testing.T) {
	asked, _ := handshakeOf(t, &tls.Config{ServerName: "web"}, &tls.Config{}, "word")
	n := int(binary.BigEndian.Uint16(asked[3:]))
	message := asked[recordHeader : recordHeader+n]
	var split []byte
	for _, part := range [][]byte{message[:40], message[40:]} {
		split = append(split, 22, 3, 1, byte(len(part)>>8), byte(len(part)))
		split = append(split, part...)
	}
	h, complete := parseHello(split, helloOfClient)
	require.True(t, complete)
	require.Equal(t, "web", h.server)
}

func TestANameFromTheWireIsMadeHarmless(t *testing.T) {
	require.Equal(t, "a?b?c?", printable([]byte("a\nb,c\x1b"), 10))
	require.Equal(t, "abc", printable([]byte("abcdef"), 3))
}

func FuzzClassOf(f *testing.F) {
	for _, seed := range []string{"GET / HTTP/1.1", preface, "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", startup(postgresTLS, "")} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, decided := classOf(b)
		require.Equal(t, decided, c != "")
		if decided { // more bytes change nothing
			again, still := classOf(append(append([]byte{}, b...), "and more"...))
			require.True(t, still)
			require.Equal(t, c, again)
		}
		require.NotEmpty(t, middleOf(b))
	})
}

func FuzzParseHello(f *testing.F) {
	asked, answered := handshakeOf(f, &tls.Config{ServerName: "web", NextProtos: []string{"h2"}}, &tls.Config{}, "word")
	f.Add(asked, uint8(helloOfClient))
	f.Add(answered, uint8(helloOfServer))
	f.Fuzz(func(t *testing.T, b []byte, kind uint8) {
		h, complete := parseHello(b, kind)
		require.LessOrEqual(t, len(h.server), longestName)
		require.LessOrEqual(t, len(h.alpn), mostProtocols)
		if complete {
			again, still := parseHello(append(append([]byte{}, b...), 23, 3, 3, 0, 1, 0), kind)
			require.True(t, still)
			require.Equal(t, h, again)
		}
	})
}
