package wire

import (
	"encoding/binary"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// TLS's records: a type, a version, a length; and the handshake messages in them.
const (
	recordHeader    = 5
	recordFirst     = 20 // change-cipher-spec, alert, handshake, application data
	recordHandshake = 22
	recordLast      = 23
	recordMost      = 1<<14 + 256 // with what encryption may add

	helloOfClient = 1
	helloOfServer = 2

	extServerName        = 0
	extALPN              = 16
	extSupportedVersions = 43
)

// isRecord tells whether b begins with the header of a TLS record.
func isRecord(b []byte) bool {
	if len(b) < recordHeader || b[0] < recordFirst || b[0] > recordLast || b[1] != 3 || b[2] > 4 {
		return false
	}
	length := binary.BigEndian.Uint16(b[3:])
	return length > 0 && length <= recordMost
}

// hello is what a hello tells. A client offers versions and protocols; a server
// chooses one version.
type hello struct {
	version uint16 // the highest that was offered, or the one chosen
	server  string // SNI
	alpn    []string
}

// handshake takes the messages out of the records that b begins with.
func handshake(b []byte) []byte {
	var messages []byte
	for len(b) > recordHeader && b[0] == recordHandshake && isRecord(b) {
		body := b[recordHeader:]
		n := min(int(binary.BigEndian.Uint16(b[3:])), len(body))
		messages = append(messages, body[:n]...)
		b = body[n:]
	}
	return messages
}

// parseHello reads the hello of a kind that a stream begins with. complete is
// false while bytes of it are missing; a hello that makes no sense is complete
// and tells nothing.
func parseHello(b []byte, kind uint8) (h hello, complete bool) {
	message := handshake(b)
	if len(message) < 4 {
		return hello{}, len(b) > recordHeader && !isRecord(b)
	}
	length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
	if message[0] != kind {
		return hello{}, true
	}
	if len(message) < 4+length {
		return hello{}, false
	}
	s := cryptobyte.String(message[4 : 4+length])
	if kind == helloOfServer {
		return serverHello(s), true
	}
	return clientHello(s), true
}

const randomBytes = 32

func clientHello(s cryptobyte.String) hello {
	var (
		h                         hello
		session, ciphers, methods cryptobyte.String
	)
	if !s.ReadUint16(&h.version) || !s.Skip(randomBytes) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&ciphers) || !s.ReadUint8LengthPrefixed(&methods) {
		return hello{}
	}
	eachExtension(s, func(kind uint16, body cryptobyte.String) {
		switch kind {
		case extServerName:
			h.server = serverName(body)
		case extALPN:
			h.alpn = protocols(body)
		case extSupportedVersions:
			var list cryptobyte.String
			if body.ReadUint8LengthPrefixed(&list) {
				h.version = highest(list, h.version)
			}
		}
	})
	return h
}

func serverHello(s cryptobyte.String) hello {
	var (
		h       hello
		session cryptobyte.String
		cipher  uint16
	)
	if !s.ReadUint16(&h.version) || !s.Skip(randomBytes) || !s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16(&cipher) || !s.Skip(1) {
		return hello{}
	}
	eachExtension(s, func(kind uint16, body cryptobyte.String) {
		if kind == extSupportedVersions {
			body.ReadUint16(&h.version)
		}
	})
	return h
}

// eachExtension hands out extensions; it stops where they make no sense.
func eachExtension(s cryptobyte.String, take func(uint16, cryptobyte.String)) {
	var all cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&all) {
		return
	}
	for !all.Empty() {
		var kind uint16
		var body cryptobyte.String
		if !all.ReadUint16(&kind) || !all.ReadUint16LengthPrefixed(&body) {
			return
		}
		take(kind, body)
	}
}

// longestName is that of a name in DNS.
const longestName = 253

func serverName(body cryptobyte.String) string {
	var list, name cryptobyte.String
	var kind uint8
	if !body.ReadUint16LengthPrefixed(&list) || !list.ReadUint8(&kind) || kind != 0 || !list.ReadUint16LengthPrefixed(&name) {
		return ""
	}
	return printable(name, longestName)
}

// mostProtocols are kept of what a client offers.
const mostProtocols = 8

func protocols(body cryptobyte.String) []string {
	var list cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&list) {
		return nil
	}
	var all []string
	for !list.Empty() && len(all) < mostProtocols {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) {
			return all
		}
		all = append(all, printable(name, longestName))
	}
	return all
}

// highest skips the values that clients strew in to keep servers tolerant
// (RFC 8701).
func highest(list cryptobyte.String, fallback uint16) uint16 {
	best, v := uint16(0), uint16(0)
	for list.ReadUint16(&v) {
		if v>>8 == 3 && v > best {
			best = v
		}
	}
	if best == 0 {
		return fallback
	}
	return best
}

// printable keeps what may stand in a report: a name comes from whoever sent it.
func printable(b []byte, most int) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ',' {
			return '?'
		}
		return r
	}, string(b[:min(len(b), most)]))
}

// versionName is a version as people say it, "" for none.
func versionName(v uint16) string {
	switch v {
	case 0x0304:
		return "1.3"
	case 0x0303:
		return "1.2"
	case 0x0302:
		return "1.1"
	case 0x0301:
		return "1.0"
	}
	return ""
}
