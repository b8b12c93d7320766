package wire

import (
	"bytes"
	"encoding/binary"
)

// Class is what a flow carries, by its first bytes.
type Class string

const (
	TLS      Class = "tls"
	HTTP1    Class = "http1"
	HTTP2    Class = "http2"
	Postgres Class = "postgresql"
	// ServerFirst: the server spoke before its client did, and not in TLS.
	ServerFirst Class = "server-first"
	// Other is readable or not; it is no TLS.
	Other Class = "other"
	// Unknown was followed from its middle, where nothing told what it is.
	Unknown Class = "unknown"
)

// Encrypted tells whether the class is one that only its ends can read.
func (c Class) Encrypted() bool { return c == TLS }

// preface begins every HTTP/2 connection without TLS.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// openings are what a client that is no TLS client begins with.
var openings = []struct {
	text  string
	class Class
}{
	{preface, HTTP2},
	{"GET ", HTTP1}, {"POST ", HTTP1}, {"PUT ", HTTP1}, {"HEAD ", HTTP1}, {"DELETE ", HTTP1},
	{"OPTIONS ", HTTP1}, {"PATCH ", HTTP1}, {"CONNECT ", HTTP1}, {"TRACE ", HTTP1},
}

// What PostgreSQL's clients ask for in their first message.
const (
	postgresHeader  = 8 // a length and a code
	postgresVersion = 3 // the major one, in the code's upper half
	postgresCancel  = 1234<<16 | 5678
	postgresTLS     = 1234<<16 | 5679
	postgresGSS     = 1234<<16 | 5680
	postgresMost    = 10_000 // bytes of a first message, by PostgreSQL's own limit
)

// classOf tells what a client's first bytes begin. It is undecided while they
// are too few.
func classOf(b []byte) (c Class, decided bool) {
	if len(b) == 0 {
		return "", false
	}
	if b[0] == recordHandshake {
		return classOfHandshake(b)
	}
	for _, o := range openings {
		if bytes.HasPrefix(b, []byte(o.text)) {
			return o.class, true
		}
		if len(b) < len(o.text) && o.text[:len(b)] == string(b) {
			return "", false
		}
	}
	if b[0] != 0 {
		return Other, true
	}
	if len(b) < postgresHeader {
		return "", false
	}
	if postgresOpening(b) {
		return Postgres, true
	}
	return Other, true
}

func classOfHandshake(b []byte) (Class, bool) {
	if len(b) < recordHeader+1 {
		return "", false
	}
	if !isRecord(b) || b[recordHeader] != helloOfClient {
		return Other, true
	}
	return TLS, true
}

func postgresOpening(b []byte) bool {
	length, code := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	switch code {
	case postgresTLS, postgresGSS:
		return length == postgresHeader
	case postgresCancel:
		return length == 16
	}
	return code>>16 == postgresVersion && length > postgresHeader && length <= postgresMost
}

// asksForTLS tells whether b is PostgreSQL's question whether the server speaks
// TLS, which comes before everything else and is answered by one letter.
func asksForTLS(b []byte) bool {
	return len(b) >= postgresHeader && postgresOpening(b) && binary.BigEndian.Uint32(b[4:]) == postgresTLS
}

// middleOf tells what a segment from a flow's middle is, by what stands at its
// beginning: most senders begin a segment with a message.
func middleOf(b []byte) Class {
	switch {
	case isRecord(b):
		return TLS
	case bytes.HasPrefix(b, []byte("HTTP/1.")):
		return HTTP1
	}
	if c, decided := classOf(b); decided && (c == HTTP1 || c == HTTP2) {
		return c
	}
	if chained(b, http2Frame) {
		return HTTP2
	}
	if chained(b, postgresMessage) {
		return Postgres
	}
	return Unknown
}

// chained tells whether b is one message after another up to its very end, of
// which measure gives the sizes, 0 for what is no message. Random bytes are not.
func chained(b []byte, measure func([]byte) int) bool {
	for len(b) > 0 {
		n := measure(b)
		if n == 0 || n > len(b) {
			return false
		}
		if n == len(b) {
			return true
		}
		b = b[n:]
	}
	return false
}

// HTTP/2's frames: a length of three bytes, a type, flags, a stream.
const (
	frameHeader = 9
	frameTypes  = 10      // DATA to CONTINUATION
	frameMost   = 1 << 14 // what a receiver takes unless it says otherwise
)

func http2Frame(b []byte) int {
	if len(b) < frameHeader || b[3] >= frameTypes || b[5]&0x80 != 0 {
		return 0
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if length > frameMost {
		return 0
	}
	return frameHeader + length
}

// postgresTypes are the first letters of PostgreSQL's messages, of both sides.
const postgresTypes = "QPBEDSXCHdcfpRKZTDtnsIN123AGW"

func postgresMessage(b []byte) int {
	if len(b) < 5 || bytes.IndexByte([]byte(postgresTypes), b[0]) < 0 {
		return 0
	}
	length := binary.BigEndian.Uint32(b[1:])
	if length < 4 || length > 1<<20 {
		return 0
	}
	return 1 + int(length)
}
