package traffic

import (
	"encoding/binary"
	"encoding/hex"

	"golang.org/x/net/http2/hpack"
)

// traceHeader is the W3C's header, which the shop passes on with every call that
// a request leads to.
const traceHeader = "traceparent"

// traceVersion begins its value, before the trace's id.
const traceVersion = "00-"

// Canary is what every request of a seed carries through the shop: the first
// half of its trace's id. Whoever can read it on the wire could read the rest.
func Canary(seed uint64) string { return string(appendHex(nil, canary(seed))) }

func canary(seed uint64) uint64 { return mix64(seed^0x6d657368) | 1<<63 } // never all zeros

// Planted returns the forms that the canary takes on the wire, by name: as text,
// and as HTTP/2 compresses it. A header's value begins on a whole byte, so its
// compressed beginning is always the same; the last byte may hold bits of what
// follows and is left out.
func Planted(seed uint64) map[string][]byte {
	text := traceVersion + Canary(seed)
	coded := hpack.AppendHuffmanString(nil, text)
	return map[string][]byte{"canary": []byte(text), "canary, compressed": coded[:len(coded)-1]}
}

// trace is the header's value for the request with an index.
func trace(seed, seq uint64) string {
	id := mix64(seq + 1)
	value := append(make([]byte, 0, len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")), traceVersion...)
	value = appendHex(appendHex(value, canary(seed)), id)
	value = appendHex(append(value, '-'), id|1)
	return string(append(value, "-01"...))
}

// appendHex appends the sixteen digits of a number.
func appendHex(to []byte, n uint64) []byte {
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], n)
	return hex.AppendEncode(to, raw[:])
}
