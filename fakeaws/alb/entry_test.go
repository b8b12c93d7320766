package alb

import (
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// logged is a line of the access log, field by field, under AWS's names.
type logged map[string]string

// fieldNames are AWS's, in its order.
var fieldNames = strings.Fields(`type time elb client:port target:port request_processing_time target_processing_time response_processing_time
	elb_status_code target_status_code received_bytes sent_bytes request user_agent ssl_cipher ssl_protocol target_group_arn trace_id
	domain_name chosen_cert_arn matched_rule_priority request_creation_time actions_executed redirect_url error_reason target:port_list
	target_status_code_list classification classification_reason conn_trace_id transformed_host transformed_uri request_transform_status`)

// quotedFields are those that AWS writes in quotes.
var quotedFields = strings.Fields(`request user_agent trace_id domain_name chosen_cert_arn actions_executed redirect_url error_reason target:port_list
	target_status_code_list classification classification_reason transformed_host transformed_uri request_transform_status`)

// splitLine takes a line apart as a reader of AWS's logs does.
func splitLine(line string) (fields []string, quoted []bool, err error) {
	line, whole := strings.CutSuffix(line, "\n")
	if !whole || strings.Contains(line, "\n") {
		return nil, nil, errors.New("not one line")
	}
	for rest := line; rest != ""; {
		var field string
		inQuotes := rest[0] == '"'
		if inQuotes {
			var found bool
			if field, rest, found = strings.Cut(rest[1:], `"`); !found {
				return nil, nil, errors.New("a quote is not closed")
			}
			if rest != "" && rest[0] != ' ' {
				return nil, nil, errors.New("something follows a quote")
			}
			rest = strings.TrimPrefix(rest, " ")
		} else {
			field, rest, _ = strings.Cut(rest, " ")
		}
		plain, err := unescape(field)
		if err != nil {
			return nil, nil, err
		}
		fields, quoted = append(fields, plain), append(quoted, inQuotes)
	}
	return fields, quoted, nil
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+4 > len(s) || s[i+1] != 'x' {
			return "", errors.New("a backslash stands for nothing")
		}
		c, err := hex.DecodeString(s[i+2 : i+4])
		if err != nil {
			return "", err
		}
		b.Write(c)
		i += 3
	}
	return b.String(), nil
}

func parseLine(t testing.TB, line string) logged {
	t.Helper()
	fields, quoted, err := splitLine(line)
	require.NoError(t, err, line)
	require.Len(t, fields, len(fieldNames), line)
	out := logged{}
	inQuotes := []string{}
	for i, name := range fieldNames {
		out[name] = fields[i]
		if quoted[i] {
			inQuotes = append(inQuotes, name)
		}
	}
	require.Equal(t, quotedFields, inQuotes, line)
	return out
}

func testEntry() *entry {
	created := time.Date(2026, 7, 2, 22, 22, 48, 364000000, time.UTC)
	e := &entry{
		kind: "http", created: created, ended: created.Add(1234567 * time.Microsecond), client: "192.168.131.39:2817", target: "10.244.1.7:8080",
		method: "GET", url: "http://shop.example:80/api/catalog/search?q=a%20b", proto: "HTTP/1.1", userAgent: "curl/7.46.0",
		group: "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/k8s-prodapp-shop-0123456789/73e2d6bc24d8a067",
		trace: "Root=1-58337262-36d228ad5d99923122bbe354", conn: "TID_1234abcd5678ef90", action: "forward", priority: 3,
		sent: 366, status: 200, targetStatus: 200, sentAt: 400 * time.Microsecond, headerAt: 48900 * time.Microsecond, beganAt: 50 * time.Millisecond,
	}
	e.received.Store(34)
	return e
}

func TestAnEntryIsALineOfAWSsLog(t *testing.T) {
	require.Equal(t, `http 2026-07-02T22:22:49.598567Z app/shop/50dc6c495c0c9188 192.168.131.39:2817 10.244.1.7:8080 0.000 0.048 0.001 200 200 34 366 `+
		`"GET http://shop.example:80/api/catalog/search?q=a%20b HTTP/1.1" "curl/7.46.0" - - `+
		`arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/k8s-prodapp-shop-0123456789/73e2d6bc24d8a067 `+
		`"Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 3 2026-07-02T22:22:48.364000Z "forward" "-" "-" "10.244.1.7:8080" "200" "-" "-" TID_1234abcd5678ef90 "-" "-" "-"`+"\n",
		string(testEntry().line(nil, "app/shop/50dc6c495c0c9188")))
}

func TestWhatDidNotHappenIsADashOrMinusOne(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*entry)
		want logged
	}{
		{"no target was chosen", func(e *entry) { e.target, e.status, e.targetStatus, e.sentAt = "", 503, 0, -1 },
			logged{"target:port": "-", "request_processing_time": "-1", "target_processing_time": "-1", "response_processing_time": "-1",
				"elb_status_code": "503", "target_status_code": "-", "target:port_list": "-", "target_status_code_list": "-"}},
		{"the target could not be connected to", func(e *entry) { e.status, e.targetStatus, e.sentAt = 502, 0, -1 },
			logged{"target:port": "10.244.1.7:8080", "request_processing_time": "-1", "target_processing_time": "-1", "response_processing_time": "-1",
				"elb_status_code": "502", "target_status_code": "-", "target:port_list": "10.244.1.7:8080"}},
		{"the target took it and did not answer", func(e *entry) { e.status, e.targetStatus = 504, 0 },
			logged{"request_processing_time": "0.000", "target_processing_time": "-1", "response_processing_time": "-1", "elb_status_code": "504", "target_status_code": "-"}},
		{"the client was gone when the answer came", func(e *entry) { e.beganAt = -1 },
			logged{"request_processing_time": "0.000", "target_processing_time": "0.048", "response_processing_time": "-1"}},
		{"no rule took it", func(e *entry) {
			e.target, e.group, e.priority, e.action, e.targetStatus, e.sentAt, e.status = "", "", 0, "fixed-response", 0, -1, 404
		}, logged{"target_group_arn": "-", "matched_rule_priority": "0", "actions_executed": "fixed-response"}},
		{"the client did not say what it is", func(e *entry) { e.userAgent = "" }, logged{"user_agent": "-"}},
		{"no user agent is longer than 8 KiB", func(e *entry) { e.userAgent = strings.Repeat("a", 9000) }, logged{"user_agent": strings.Repeat("a", 8192)}},
		{"a quote, a backslash, a new line and a letter beyond ASCII", func(e *entry) { e.userAgent = "\"q\" c:\\x\r\nü" }, logged{"user_agent": "\"q\" c:\\x\r\nü"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := testEntry()
			c.edit(e)
			got := parseLine(t, string(e.line(nil, "app/shop/1")))
			for name, want := range c.want {
				require.Equal(t, want, got[name], name)
			}
		})
	}
	e := testEntry()
	e.userAgent = `"`
	require.Contains(t, string(e.line(nil, "app/shop/1")), ` "\x22" - - `, "as AWS escapes it")
}

func TestTheRequestIsLoggedWithHostAndPort(t *testing.T) {
	for _, c := range []struct{ name, host, uri, want string }{
		{"a host without a port has the listener's", "shop.example", "/a?b=c", "http://shop.example:80/a?b=c"},
		{"a host with a port keeps it", "shop.example:8080", "/", "http://shop.example:8080/"},
		{"an address of IPv6", "[::1]:80", "/", "http://[::1]:80/"},
		{"a path stays as it was sent", "x", "/a%2Fb//c;d", "http://x:80/a%2Fb//c;d"},
		{"a whole URL in the request line", "shop.example", "http://shop.example/a?b", "http://shop.example:80/a?b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, c.uri, nil)
			r.Host = c.host
			require.Equal(t, c.want, requestURL(r, "80"))
		})
	}
}

// Whatever a client sends, its line can be read back.
func FuzzAccessLine(f *testing.F) {
	f.Add("GET", "http://h:80/a b\"c", "curl \\ \"x\"", "Root=1;a=\"")
	f.Add("", "\x00\xff\n", "", "- -")
	f.Fuzz(func(t *testing.T, method, url, agent, trace string) {
		e := testEntry()
		e.method, e.url, e.userAgent, e.trace = method, url, agent, trace
		got := parseLine(t, string(e.line(nil, "app/shop/1")))
		require.Equal(t, method+" "+url+" HTTP/1.1", got["request"])
		require.Equal(t, orDash(agent[:min(len(agent), maxUserAgent)]), got["user_agent"])
		require.Equal(t, orDash(trace), got["trace_id"])
		require.Equal(t, "TID_1234abcd5678ef90", got["conn_trace_id"])
	})
}

func BenchmarkLine(b *testing.B) {
	e, line := testEntry(), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		line = e.line(line[:0], "app/shop/50dc6c495c0c9188")
	}
}
