// Package accesslog reads lines of access logs: of AWS application load
// balancers, of Apache and whatever writes its common or combined format, and
// of JSON. Of each line it reads when the request came, its method and path,
// and the class of its answer; it looks at nothing else. The parsers allocate
// nothing and believe nothing: a line that cannot be read has a reason.
package accesslog

import (
	"bytes"

	"meshsim.dev/meshsim/scenarios"
)

// Formats of lines.
const (
	Auto     = "auto" // each line by its looks
	ALB      = "alb"
	Combined = "combined" // and common
	NDJSON   = "ndjson"
)

// Formats returns the names that New knows.
func Formats() []string { return []string{Auto, ALB, Combined, NDJSON} }

// Line is what is read of a line. Method and Path are parts of the line or of
// the parser's memory, valid until the next line.
type Line struct {
	At     int64 // when the request came, in microseconds since 1970
	Coarse bool  // At is known to the second only
	Method []byte
	Path   []byte // without query and fragment
	Class  uint8  // of the answer: 2 for 2xx; 0 when there is none
}

// Reason is why a line is not used. The zero value is none.
type Reason uint8

// Reasons of the parsers.
const (
	OK Reason = iota
	Empty
	Comment
	TooLong
	Foreign
	Fields
	Quote
	JSON
	Time
	Range
	Request
	Path
	WebSocket
	reasons
)

// NumReasons is how many there are, OK among them.
const NumReasons = int(reasons)

func (r Reason) String() string {
	return [NumReasons]string{
		OK:        "understood",
		Empty:     "an empty line",
		Comment:   "a comment",
		TooLong:   "longer than a line should be",
		Foreign:   "not a line of this format",
		Fields:    "too few fields",
		Quote:     "a quoted field without an end",
		JSON:      "not a JSON object",
		Time:      "no time that can be read",
		Range:     "a time before 1990 or after 2100",
		Request:   "no request in it",
		Path:      "a request without a path",
		WebSocket: "a WebSocket, which is not replayed",
	}[r]
}

// Parser reads lines of one format.
type Parser interface {
	// Parse reads a line, which is without its end, into l, which holds nothing
	// of use unless the reason is OK.
	Parse(line []byte, l *Line) Reason
}

// New returns a parser of a format. fields are the names that JSON lines have
// for what is read, before the usual ones.
func New(format string, fields scenarios.LogFields) Parser {
	switch format {
	case ALB:
		return albParser{}
	case Combined:
		return combinedParser{}
	case NDJSON:
		return newNDJSON(fields)
	default:
		return &Sniffer{ndjson: newNDJSON(fields)}
	}
}

// Sniffer parses each line by its looks, and one that looks like nothing by
// the format of the lines before it.
type Sniffer struct {
	ndjson *ndjsonParser
	last   string
}

// Last is the format of the last line that could be read, "" before the first.
func (s *Sniffer) Last() string { return s.last }

// Parse implements Parser.
func (s *Sniffer) Parse(line []byte, l *Line) Reason {
	format := s.last
	switch {
	case len(line) > 0 && line[0] == '{':
		format = NDJSON
	case albType(line):
		format = ALB
	case format == "":
		format = Combined
	}
	reason := s.parse(format, line, l)
	if reason == Foreign && format == ALB { // logs of two kinds in one file
		if s.parse(Combined, line, l) == OK {
			format, reason = Combined, OK
		}
	}
	if reason == OK {
		s.last = format
	}
	return reason
}

func (s *Sniffer) parse(format string, line []byte, l *Line) Reason {
	switch format {
	case ALB:
		return albParser{}.Parse(line, l)
	case NDJSON:
		return s.ndjson.Parse(line, l)
	default:
		return combinedParser{}.Parse(line, l)
	}
}

// blank tells of lines that hold nothing in any format.
func blank(line []byte) Reason {
	if len(bytes.TrimSpace(line)) == 0 {
		return Empty
	}
	if line[0] == '#' {
		return Comment
	}
	return OK
}
