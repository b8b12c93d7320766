// Package hops tells a request's way through the shop: which pods of which
// versions on which nodes had it, whom they asked in turn, and how long each
// took, as the caller saw it and as the called one did. The difference is what
// lay between them: network and proxies.
//
// A service writes its own answer and puts into it, as they are, the answers of
// those it called. So the whole way comes back in one line of ASCII, in a gRPC
// trailer or an HTTP header (shopapi.HopsHeader):
//
//	answer = pod "@" node "/" version ":" own [ "(" call { "," call } [ ",+" untold ] ")" ]
//	call   = service ":" start ":" took [ "!" code ] [ "*" attempts ] [ "=" answer ]
//
// Times are microseconds, start counts from the caller's own beginning; code is
// gRPC's number and left out when 0, attempts when 1. A pod's name that begins
// with its service's is written "~" and the rest. Of a line that would be
// longer than Limit the answers farthest away are left out, then calls, which
// are counted as untold.
package hops

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Bounds of a line, for those who write it and those who read it.
const (
	Limit   = 1200 // bytes
	MaxHops = 64

	maxDepth  = 8
	maxName   = 63
	maxMicros = 1 << 40 // 12 days
)

// Hop is one stop of a request.
type Hop struct {
	// Depth counts from the service that was called from outside, which is 0.
	Depth   int
	Caller  string // service, "" at depth 0
	Service string
	// Pod, Node and Version are empty when the service did not answer, or does
	// not say (PostgreSQL).
	Pod, Node, Version string
	Start              time.Duration // from the caller's own beginning, 0 at depth 0
	Took               time.Duration // as the caller saw it; Own at depth 0
	Own                time.Duration // as the service saw it, 0 when it did not say
	Code               codes.Code    // as the caller saw it; OK at depth 0
	Attempts           int           // from 1
	Untold             int           // calls of the service for which there was no room
}

// Answered tells whether the service itself was heard.
func (h Hop) Answered() bool { return h.Pod != "" }

// ErrMalformed is returned for what is not the line of a way.
var ErrMalformed = errors.New("not a line of hops")

// Parse reads the line that service answered with. Every caller stands before
// those it called.
func Parse(service, line string) ([]Hop, error) {
	// Each call comes after a "(" or a ",".
	way := make([]Hop, 0, min(1+strings.Count(line, "(")+strings.Count(line, ","), MaxHops))
	if !scan(line, Hop{Service: service}, &way) {
		return nil, ErrMalformed
	}
	way[0].Took = way[0].Own
	return way, nil
}

// Valid tells whether Parse can read the line.
func Valid(line string) bool { return scan(line, Hop{}, nil) }

// scan reads a whole line, the answer of root, onto way; nil keeps nothing.
func scan(line string, root Hop, way *[]Hop) bool {
	if len(line) > Limit {
		return false
	}
	root.Attempts = 1
	s := scanner{rest: line, way: way}
	return s.answer(root) && s.rest == ""
}

type scanner struct {
	rest string
	hops int
	way  *[]Hop
}

// answer reads an answer into h, and calls below it.
func (s *scanner) answer(h Hop) bool {
	if h.Depth > maxDepth {
		return false
	}
	pod, ok := s.name("@")
	if !ok || pod == "" || pod == "~" {
		return false
	}
	if rest, short := strings.CutPrefix(pod, "~"); short {
		pod = h.Service + "-" + rest
	}
	h.Pod = pod
	if h.Node, ok = s.name("/"); !ok {
		return false
	}
	if h.Version, ok = s.name(":"); !ok {
		return false
	}
	if h.Own, ok = s.micros(); !ok || !s.keep(h) {
		return false
	}
	return !s.eat('(') || s.calls(h)
}

// keep takes a hop whose calls, if any, are still to be read.
func (s *scanner) keep(h Hop) bool {
	s.hops++
	if s.way != nil {
		*s.way = append(*s.way, h)
	}
	return s.hops <= MaxHops
}

// calls reads what follows a "(": the calls of the hop that was kept last.
func (s *scanner) calls(caller Hop) bool {
	at := s.hops - 1
	for {
		if s.eat('+') {
			untold, ok := s.number(1 << 16)
			if s.way != nil && ok {
				(*s.way)[at].Untold = untold
			}
			return ok && untold > 0 && s.eat(')')
		}
		if !s.call(caller) {
			return false
		}
		if s.eat(')') {
			return true
		}
		if !s.eat(',') {
			return false
		}
	}
}

func (s *scanner) call(caller Hop) bool {
	h := Hop{Depth: caller.Depth + 1, Caller: caller.Service, Attempts: 1}
	var ok bool
	if h.Service, ok = s.name(":"); !ok || h.Service == "" || h.Service[0] == '~' {
		return false
	}
	if h.Start, ok = s.micros(); !ok || !s.eat(':') {
		return false
	}
	if h.Took, ok = s.micros(); !ok {
		return false
	}
	if s.eat('!') {
		code, ok := s.number(1 << 16)
		if !ok || code == 0 {
			return false
		}
		h.Code = codes.Code(code)
	}
	if s.eat('*') {
		if h.Attempts, ok = s.number(1 << 8); !ok || h.Attempts < 2 {
			return false
		}
	}
	if s.eat('=') {
		return s.answer(h)
	}
	return s.keep(h)
}

func (s *scanner) eat(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// name reads up to end, and end. It may begin with a "~".
func (s *scanner) name(end string) (string, bool) {
	name, rest, found := strings.Cut(s.rest, end)
	bare := strings.TrimPrefix(name, "~")
	if !found || len(bare) > maxName {
		return "", false
	}
	for i := range len(bare) {
		if !plain(bare[i]) {
			return "", false
		}
	}
	s.rest = rest
	return name, true
}

func (s *scanner) micros() (time.Duration, bool) {
	n, ok := s.number(maxMicros)
	return time.Duration(n) * time.Microsecond, ok
}

// number reads a number that is written without leading zeros.
func (s *scanner) number(below int) (int, bool) {
	n, i := 0, 0
	for ; i < len(s.rest) && '0' <= s.rest[i] && s.rest[i] <= '9'; i++ {
		if n = 10*n + int(s.rest[i]-'0'); n >= below {
			return 0, false
		}
	}
	if i == 0 || i > 1 && s.rest[0] == '0' {
		return 0, false
	}
	s.rest = s.rest[i:]
	return n, true
}

// plain are the characters of a name: those of Kubernetes' names, and "_" for
// all others.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || c == '-' || c == '.' || c == '_'
}

func clean(name string) string {
	name = name[:min(len(name), maxName)]
	if strings.IndexFunc(name, func(r rune) bool { return r > 0x7f || !plain(byte(r)) }) < 0 {
		return name
	}
	out := []byte(name)
	for i, c := range out {
		if !plain(c) {
			out[i] = '_'
		}
	}
	return string(out)
}
