package importer

import (
	"bytes"
	"hash/maphash"
	"net/http"
	"slices"
	"strings"

	"meshsim.dev/meshsim/harness/traffic/accesslog"
	"meshsim.dev/meshsim/scenarios"
)

// How much is kept of what cannot be used.
const (
	mostExamples = 3   // of a reason
	mostShown    = 96  // characters of a line
	mostPaths    = 500 // that no rule knows
	mostSegments = 6   // of such a path
)

// tally counts what becomes of lines.
type tally struct {
	rules *scenarios.Rules
	words map[string]bool
	salt  maphash.Seed // of this import alone; it cannot be written down

	lines     int64
	reasons   [accesslog.NumReasons]counted
	late      counted
	outside   counted // of the times that were asked for
	beyond    counted // of what a recording can hold
	dropped   []int64 // by rule
	perRule   []route // by rule
	paths     map[string]*path
	otherPath path // those for which there was no room
	scratch   []byte

	first, last int64 // of what was handed out
	requests    int64
	minute      int64 // since 1970
	inMinute    int64
	busiest     int64
	gap         int64 // the longest
}

// counted is how often something was seen, and where.
type counted struct {
	count    int64
	examples []Example
}

type path struct {
	count int64
	where Example
}

type route struct {
	requests int64
	classes  [8]int64
}

func newTally(rules *scenarios.Rules) *tally {
	t := &tally{
		rules: rules, words: map[string]bool{}, salt: maphash.MakeSeed(), paths: map[string]*path{},
		dropped: make([]int64, len(rules.Rules)), perRule: make([]route, len(rules.Rules)),
	}
	for _, w := range slices.Concat(rules.Words(), commonWords) {
		t.words[w] = true
	}
	return t
}

// commonWords are segments of paths that tell nothing of anybody.
var commonWords = strings.Fields(`account admin api app assets auth basket blog callback cart catalog catalogue categories
	checkout config configurations css customers dashboard favicon.ico fonts graphql health healthz home images img index.html
	inventory invoices items js login logout me metrics oauth orders payments ping products profile public ready recommendations
	register robots.txt search sessions shop sitemap.xml static status stock token uploads users v1 v2 v3 webhooks wp-admin
	wp-login.php`)

// broken counts a line that could not be read.
func (t *tally) broken(reason accesslog.Reason, s *source, line []byte) {
	c := &t.reasons[reason]
	if c.count++; len(c.examples) < mostExamples {
		c.examples = append(c.examples, Example{Log: s.name, Line: s.read, Looks: looks(line)})
	}
}

// disorder counts a request that was too late to be put in order.
func (t *tally) disorder(s *source) {
	if t.late.count++; len(t.late.examples) < mostExamples {
		t.late.examples = append(t.late.examples, Example{Log: s.name, Line: s.read})
	}
}

func (t *tally) drop(rule int) { t.dropped[rule]++ }

// unmapped counts a request that no rule knows, by what its path looks like.
func (t *tally) unmapped(l *accesslog.Line, s *source) {
	t.scratch = t.template(append(append(t.scratch[:0], shownMethod(l.Method)...), ' '), l.Path)
	p, known := t.paths[string(t.scratch)]
	switch {
	case known:
	case len(t.paths) == mostPaths:
		p = &t.otherPath
	default:
		p = &path{where: Example{Log: s.name, Line: s.read}}
		t.paths[string(t.scratch)] = p
	}
	p.count++
}

// shownMethod is a method of HTTP as it is. Any other word of capitals may be in
// a request line too, and is whatever its sender liked.
func shownMethod(method []byte) string {
	switch m := string(method); m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
		http.MethodConnect, http.MethodTrace:
		return m
	}
	return "*"
}

// template writes a path without what may be personal: common words stay, other
// words become a salted hash, by which they can be told from each other but not
// be known, and all else a star.
func (t *tally) template(into, path []byte) []byte {
	for n := 0; len(path) > 0; n++ {
		if n == mostSegments {
			return append(into, "/…"...)
		}
		var segment []byte
		segment, path = path[1:], nil
		if slash := bytes.IndexByte(segment, '/'); slash >= 0 {
			segment, path = segment[:slash], segment[slash:]
		}
		into = append(into, '/')
		switch {
		case len(segment) == 0, t.words[string(segment)]:
			into = append(into, segment...)
		case isWord(segment):
			const hex = "0123456789abcdef"
			h := maphash.Bytes(t.salt, segment)
			into = append(into, '~', hex[h&15], hex[h>>4&15], hex[h>>8&15], hex[h>>12&15])
		default:
			into = append(into, '*')
		}
	}
	return into
}

// isWord tells whether a segment may be a name of the API's own: small letters
// and what joins them.
func isWord(segment []byte) bool {
	for _, c := range segment {
		if (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return len(segment) <= 24
}

// looks is what a line looks like without what it holds: letters as a, capitals
// as A, digits as 9, what cannot be printed as ?.
func looks(line []byte) string {
	cut := ""
	if len(line) > mostShown {
		line, cut = line[:mostShown], "…"
	}
	shown := bytes.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return 'a'
		case r >= 'A' && r <= 'Z':
			return 'A'
		case r >= '0' && r <= '9':
			return '9'
		case r == '\t':
			return ' '
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, line)
	return string(shown) + cut
}

// emit counts a request that is handed out, and returns its route.
func (t *tally) emit(e entry) string {
	if t.requests == 0 {
		t.first, t.last = e.at, e.at
	}
	t.gap = max(t.gap, e.at-t.last)
	t.requests++
	t.last = e.at
	if minute := e.at / (60 * second); minute != t.minute {
		t.minute, t.inMinute = minute, 0
	}
	t.inMinute++
	t.busiest = max(t.busiest, t.inMinute)
	r := &t.perRule[e.rule()]
	r.requests++
	r.classes[e.class()]++
	return t.rules.Rules[e.rule()].Route
}
