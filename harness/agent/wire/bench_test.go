package wire

import (
	"bytes"
	"crypto/tls"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// BenchmarkPacket is the classifier's own cost of a packet, the kernel's apart:
// 64 long-lived TLS flows in turns, segments of 700 bytes, each coming by twice,
// two needles.
func BenchmarkPacket(b *testing.B) {
	asked, answered := handshakeOf(b, &tls.Config{ServerName: "stock"}, &tls.Config{}, "word")
	table := NewTable(Options{Needles: []Needle{{"run", []byte("00-" + canary)}, {"coded", []byte("\x01\x58\x92\x33\x44\x55\x66\x77\x88\x99")}}})
	talks := make([]*talk, 64)
	for i := range talks {
		client := "10.244.1." + string(rune('1'+i%9)) + ":4" + string([]byte{'0' + byte(i/10), '0' + byte(i%10)}) + "00"
		talks[i] = talkTo(b, table, client, stockPod).open().say(fromClient, asked[:600], 1400).say(fromServer, answered, 1400).say(fromClient, asked[600:], 1400)
	}
	payload := bytes.Repeat([]byte{0x9c, 0x3f, 0x51, 0x07, 0xe2, 0x00, 0x17}, 100)
	packets := make([][]byte, len(talks))
	for i, k := range talks {
		packets[i] = packetOf(b, k.client, k.server, layers.TCP{ACK: true, Seq: k.next[fromClient]}, payload)
	}
	table.Snapshot(noon)
	b.ReportAllocs()
	b.SetBytes(int64(len(packets[0])))
	b.ResetTimer()
	for n := range b.N {
		p := packets[n/2%len(packets)]
		if n%2 == 0 {
			seq := talks[n/2%len(packets)].next[fromClient] + uint32(n/2/len(packets)*len(payload))
			p[24], p[25], p[26], p[27] = byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq)
		}
		table.Packet(noon, p)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
}
