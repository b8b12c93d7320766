package accesslog

import (
	"bytes"
	"math"
	"strings"

	"github.com/valyala/fastjson"

	"meshsim.dev/meshsim/scenarios"
)

// ndjsonParser reads JSON objects, one a line, with the names that nginx,
// Envoy, Traefik, Caddy and the Elastic Common Schema use, or others.
type ndjsonParser struct {
	json                                fastjson.Parser
	time, method, path, status, request names
}

func newNDJSON(f scenarios.LogFields) *ndjsonParser {
	return &ndjsonParser{
		time: newNames(f.Time, "time", "timestamp", "@timestamp", "ts", "start_time", "StartUTC", "time_iso8601", "time_local",
			"msec", "request_creation_time", "datetime", "date"),
		method: newNames(f.Method, "method", "request_method", "http_method", "http.request.method", "request.method", "RequestMethod", "verb"),
		path: newNames(f.Path, "path", "uri", "request_uri", "url", "url.path", "url.original", "request_path", "request.uri",
			"RequestPath", "http.target"),
		status: newNames(f.Status, "status", "status_code", "response_code", "http.response.status_code", "DownstreamStatus",
			"elb_status_code", "code"),
		request: newNames("", "request", "request_line"),
	}
}

// names are what a field may be called. The one that was found last is tried
// first: lines of one log have the same.
type names struct {
	keys [][]string
	last int
}

// newNames takes a name of the user's own and the usual ones. One with dots is
// looked for as it is and as the way into nested objects.
func newNames(own string, usual ...string) names {
	if own != "" {
		usual = append([]string{own}, usual...)
	}
	var n names
	for _, name := range usual {
		n.keys = append(n.keys, []string{name})
		if way := strings.Split(name, "."); len(way) > 1 {
			n.keys = append(n.keys, way)
		}
	}
	return n
}

// find returns the first field that is there, nil when none is.
func (n *names) find(object *fastjson.Value) *fastjson.Value {
	if v := object.Get(n.keys[n.last]...); simple(v) {
		return v
	}
	for i, key := range n.keys {
		if v := object.Get(key...); simple(v) {
			n.last = i
			return v
		}
	}
	return nil
}

// simple tells whether a value may be what is looked for.
func simple(v *fastjson.Value) bool {
	return v != nil && (v.Type() == fastjson.TypeString || v.Type() == fastjson.TypeNumber)
}

// Parse implements Parser.
func (p *ndjsonParser) Parse(line []byte, l *Line) Reason {
	if reason := blank(line); reason != OK {
		return reason
	}
	object, err := p.json.ParseBytes(line)
	if err != nil || object.Type() != fastjson.TypeObject {
		return JSON
	}
	reason := Time
	if at := p.time.find(object); at != nil {
		l.At, l.Coarse, reason = jsonTime(at)
	}
	if reason != OK {
		return reason
	}
	l.Class = jsonClass(p.status.find(object))
	method, path := p.method.find(object), p.path.find(object)
	if method == nil || path == nil {
		if request := text(p.request.find(object)); request != nil {
			return readRequest(request, l)
		}
		return Request
	}
	if l.Method = text(method); !isMethod(l.Method) {
		return Request
	}
	return readPath(text(path), l)
}

// text returns a string's bytes, nil for what is none.
func text(v *fastjson.Value) []byte {
	if v == nil || v.Type() != fastjson.TypeString {
		return nil
	}
	b, err := v.StringBytes()
	if err != nil {
		return nil
	}
	return b
}

func jsonClass(v *fastjson.Value) uint8 {
	if v == nil {
		return 0
	}
	if v.Type() != fastjson.TypeNumber {
		return class(text(v))
	}
	if status, err := v.Int(); err == nil && status >= 100 && status <= 599 {
		return uint8(status / 100)
	}
	return 0
}

// jsonTime reads a time: ISO 8601 with a zone, the common log format's, or a
// number of seconds, milliseconds, microseconds or nanoseconds since 1970.
func jsonTime(v *fastjson.Value) (micros int64, coarse bool, reason Reason) {
	if v.Type() == fastjson.TypeNumber {
		n, err := v.Float64()
		if err != nil {
			return 0, false, Time
		}
		return unixTime(n)
	}
	b := text(v)
	if micros, coarse, reason = readISO(b); reason != Time {
		return micros, coarse, reason
	}
	if micros, reason = readCLF(bytes.TrimSuffix(bytes.TrimPrefix(b, []byte{'['}), []byte{']'})); reason != Time {
		return micros, true, reason
	}
	if len(b) > 20 {
		return 0, false, Time
	}
	whole, fraction, _ := bytes.Cut(b, []byte{'.'})
	seconds, part := digits(whole), digits(fraction)
	if len(whole) < 9 || len(whole) > 18 || seconds < 0 || part < 0 {
		return 0, false, Time
	}
	return unixTime(float64(seconds) + float64(part)/math.Pow10(len(fraction)))
}

// unixTime tells the unit by the size: what is a year as seconds is none as
// milliseconds.
func unixTime(n float64) (micros int64, coarse bool, reason Reason) {
	switch {
	case !(n >= 1e8 && n < 1e19):
		return 0, false, Range
	case n < 1e11:
		coarse = n == math.Trunc(n)
		n *= 1e6
	case n < 1e14:
		n *= 1e3
	case n >= 1e17:
		n /= 1e3
	}
	micros = int64(math.Round(n))
	return micros, coarse, inRange(micros)
}
