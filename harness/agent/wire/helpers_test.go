package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

var noon = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// talk makes the packets of one connection and hands them to a table.
type talk struct {
	t              testing.TB
	table          *Table
	client, server netip.AddrPort
	next           [2]uint32
	copies         int // how often each packet comes by
}

func talkTo(t testing.TB, table *Table, client, server string) *talk {
	return &talk{t: t, table: table, client: netip.MustParseAddrPort(client), server: netip.MustParseAddrPort(server), next: [2]uint32{1000, 4294967290}, copies: 1}
}

// packetOf is one packet of a side, from its IP header on.
func packetOf(t testing.TB, from, to netip.AddrPort, tcp layers.TCP, payload []byte) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP(from.Addr().AsSlice()), DstIP: net.IP(to.Addr().AsSlice())}
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(from.Port()), layers.TCPPort(to.Port())
	require.NoError(t, tcp.SetNetworkLayerForChecksum(ip))
	b := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, &tcp, gopacket.Payload(payload)))
	return b.Bytes()
}

func (k *talk) pass(which int, tcp layers.TCP, payload []byte) {
	from, to := k.client, k.server
	if which == fromServer {
		from, to = to, from
	}
	p := packetOf(k.t, from, to, tcp, payload)
	for range k.copies {
		k.table.Packet(noon, p)
	}
}

func (k *talk) open() *talk {
	k.pass(fromClient, layers.TCP{SYN: true, Seq: k.next[fromClient]}, nil)
	k.pass(fromServer, layers.TCP{SYN: true, ACK: true, Seq: k.next[fromServer]}, nil)
	k.next[fromClient]++
	k.next[fromServer]++
	return k
}

// say sends text in segments of at most size bytes.
func (k *talk) say(which int, text []byte, size int) *talk {
	for len(text) > 0 {
		n := min(size, len(text))
		k.pass(which, layers.TCP{ACK: true, Seq: k.next[which]}, text[:n])
		k.next[which] += uint32(n)
		text = text[n:]
	}
	return k
}

func (k *talk) asks(text string) *talk    { return k.say(fromClient, []byte(text), 1400) }
func (k *talk) answers(text string) *talk { return k.say(fromServer, []byte(text), 1400) }

func (k *talk) close() *talk {
	for _, which := range []int{fromClient, fromServer} {
		k.pass(which, layers.TCP{FIN: true, ACK: true, Seq: k.next[which]}, nil)
		k.next[which]++
	}
	return k
}

// recorded is what both sides of a connection said.
type recorded struct {
	net.Conn
	mu   *sync.Mutex
	said *[]byte
}

func (r recorded) Write(b []byte) (int, error) {
	r.mu.Lock()
	*r.said = append(*r.said, b...)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// handshakeOf lets Go's own TLS shake hands, say a word each, and returns what
// either side said on the wire.
func handshakeOf(t testing.TB, client, server *tls.Config, word string) (asked, answered []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	server.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	client.InsecureSkipVerify = true
	a, b := net.Pipe()
	var mu sync.Mutex
	c, s := tls.Client(recorded{a, &mu, &asked}, client), tls.Server(recorded{b, &mu, &answered}, server)
	done := make(chan error, 1)
	go func() {
		got := make([]byte, len(word))
		_, err := io.ReadFull(s, got)
		if err == nil {
			_, err = s.Write(got)
		}
		done <- err
	}()
	_, err = c.Write([]byte(word))
	require.NoError(t, err)
	got := make([]byte, len(word))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	return asked, answered
}
