package alb

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// entry is one line of the access log: the 33 fields of AWS's current format.
// It holds no body, and of the headers User-Agent and the trace alone.
type entry struct {
	kind      string // http; on the gRPC listener grpcs or h2, though without TLS
	created   time.Time
	ended     time.Time
	client    string // address:port
	target    string // address:port; "" when the request got nowhere
	method    string
	url       string // with host and port
	proto     string
	userAgent string
	group     string // ARN
	trace     string
	conn      string // the connection's id
	action    string
	priority  int // of the matched rule; 0: none matched

	received     atomic.Int64 // bytes, with the head
	sent         int64
	status       int // 0 until it is known
	targetStatus int // 0: the target did not answer

	// since created; negative: never
	sentAt   time.Duration
	headerAt time.Duration
	beganAt  time.Duration
}

const (
	timeFormat   = "2006-01-02T15:04:05.000000Z"
	maxUserAgent = 8 << 10
)

func newEntry(l Listener, port string, c *clientConn, r *http.Request) *entry {
	e := &entry{
		kind: "http", created: time.Now(), client: r.RemoteAddr, method: r.Method, url: requestURL(r, port), proto: r.Proto,
		userAgent: r.UserAgent(), sentAt: -1, headerAt: -1, beganAt: -1,
	}
	if l == GRPC && r.ProtoMajor == 2 {
		e.kind = "h2"
		if isGRPC(r) {
			e.kind = "grpcs"
		}
	}
	if c != nil {
		e.conn = c.id
	}
	e.received.Store(requestHeadBytes(r))
	return e
}

// requestURL is the request's as AWS logs it: always with a port, and the path
// and query as the client sent them.
func requestURL(r *http.Request, port string) string {
	host, uri := r.Host, r.RequestURI
	if _, _, err := net.SplitHostPort(host); err != nil {
		host += ":" + port
	}
	if !strings.HasPrefix(uri, "/") {
		uri = r.URL.RequestURI()
	}
	return "http://" + host + uri
}

// done closes the entry with what was answered.
func (e *entry) done(w *countingWriter) {
	e.ended = time.Now()
	if e.status == 0 {
		e.status = w.status
	}
	e.sent = w.written
	if !w.at.IsZero() {
		e.beganAt = w.at.Sub(e.created)
	}
}

// line appends the entry as AWS writes it.
func (e *entry) line(b []byte, balancer string) []byte {
	b = append(append(b, e.kind...), ' ')
	b = append(e.ended.UTC().AppendFormat(b, timeFormat), ' ')
	b = append(append(b, balancer...), ' ')
	b = append(append(b, e.client...), ' ')
	b = append(append(b, orDash(e.target)...), ' ')
	for _, took := range e.times() {
		b = append(appendSeconds(b, took), ' ')
	}
	b = append(appendCode(b, e.status), ' ')
	b = append(appendCode(b, e.targetStatus), ' ')
	b = append(strconv.AppendInt(b, e.received.Load(), 10), ' ')
	b = append(strconv.AppendInt(b, e.sent, 10), ' ')
	b = appendQuoted(b, e.method, " ", e.url, " ", e.proto)
	b = appendQuoted(b, orDash(e.userAgent[:min(len(e.userAgent), maxUserAgent)]))
	b = append(b, "- - "...) // TLS cipher and protocol
	b = append(append(b, orDash(e.group)...), ' ')
	b = appendQuoted(b, orDash(e.trace))
	b = append(b, `"-" "-" `...) // TLS domain and certificate
	b = append(strconv.AppendInt(b, int64(e.priority), 10), ' ')
	b = append(e.created.UTC().AppendFormat(b, timeFormat), ' ')
	b = appendQuoted(b, orDash(e.action))
	b = append(b, `"-" "-" `...) // redirect, error of a Lambda function
	b = appendQuoted(b, orDash(e.target))
	b = append(appendCode(append(b, '"'), e.targetStatus), `" `...)
	b = append(b, `"-" "-" `...) // classification and its reason
	b = append(append(b, orDash(e.conn)...), ' ')
	return append(b, `"-" "-" "-"`+"\n"...) // what a transform made of host and path
}

// times are how long the request, its target and its answer took. A step that
// never came is -1, and so is every one after it.
func (e *entry) times() [3]time.Duration {
	took := [3]time.Duration{-1, -1, -1}
	if e.sentAt < 0 {
		return took
	}
	took[0] = e.sentAt
	if e.targetStatus == 0 {
		return took
	}
	took[1] = max(0, e.headerAt-e.sentAt)
	if e.beganAt >= 0 {
		took[2] = max(0, e.beganAt-e.headerAt)
	}
	return took
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func appendCode(b []byte, code int) []byte {
	if code == 0 {
		return append(b, '-')
	}
	return strconv.AppendInt(b, int64(code), 10)
}

// appendSeconds writes a duration in seconds to the millisecond.
func appendSeconds(b []byte, d time.Duration) []byte {
	if d < 0 {
		return append(b, "-1"...)
	}
	return strconv.AppendFloat(b, d.Truncate(time.Millisecond).Seconds(), 'f', 3, 64)
}

// appendQuoted writes one quoted field and the space after it. Quotes,
// backslashes and what is no printable ASCII become \x and two digits.
func appendQuoted(b []byte, parts ...string) []byte {
	const digits = "0123456789ABCDEF"
	b = append(b, '"')
	for _, s := range parts {
		for i := range len(s) {
			c := s[i]
			if c < ' ' || c > '~' || c == '"' || c == '\\' {
				b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
			} else {
				b = append(b, c)
			}
		}
	}
	return append(b, `" `...)
}
