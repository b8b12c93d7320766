package accesslog

import "bytes"

// combinedParser reads the common log format and what begins like it: Apache's
// combined and vhost_combined, nginx's default.
//
//	192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /a?b HTTP/1.1" 200 512 "referer" "agent"
type combinedParser struct{}

const clfTime = len("[11/Jun/2024:07:00:00 +0000] ")

// Parse looks for the time, which is the one part that cannot be mistaken: the
// user's name before it may hold anything.
func (combinedParser) Parse(line []byte, l *Line) Reason {
	if reason := blank(line); reason != OK {
		return reason
	}
	reason := Foreign
	for rest := line; ; {
		open := bytes.Index(rest, []byte(" ["))
		if open < 0 {
			return reason
		}
		rest = rest[open+1:]
		if len(rest) < clfTime || rest[clfTime-2] != ']' || rest[clfTime-1] != ' ' {
			reason = Time
			continue
		}
		if l.At, reason = readCLF(rest[1 : clfTime-2]); reason == OK {
			l.Coarse = true
			return readCombinedEnd(rest[clfTime:], l)
		}
	}
}

// readCombinedEnd reads what follows the time.
func readCombinedEnd(rest []byte, l *Line) Reason {
	if len(rest) > 0 && rest[0] != '"' {
		return Request
	}
	request, rest, reason := nextField(rest)
	if reason != OK {
		return reason
	}
	status, rest, reason := nextField(rest)
	if reason != OK {
		return reason
	}
	if _, _, reason = nextField(rest); reason != OK { // the bytes, by which a line that was cut off is known
		return reason
	}
	l.Class = class(status)
	return readRequest(request, l)
}
