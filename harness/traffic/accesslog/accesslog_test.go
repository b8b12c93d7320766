package accesslog

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/scenarios"
)

// One line of a load balancer of today, in parts, so that older ones can be
// made of it.
const (
	albOldest = `https 2024-06-11T07:00:00.250000Z app/shop/50dc6c495c0c9188 192.0.2.1:2817 10.0.0.1:80 0.010 0.200 0.015 200 200 34 366 ` +
		`"GET https://shop.example:443/api/catalog/products/p-0001?page=2#top HTTP/1.1" "curl/8.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 ` +
		`arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/shop/73e2d6bc24d8a067`
	albTraced  = albOldest + ` "Root=1-58337262-36d228ad5d99923122bbe354"`
	albNamed   = albTraced + ` "shop.example" "arn:aws:acm:us-east-1:123456789012:certificate/1"`
	albCreated = albNamed + ` 0 2024-06-11T07:00:00.020000Z`
	albToday   = albCreated + ` "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1234abcd5678ef90 "-" "-" "-"`
)

func at(t *testing.T, text string) int64 {
	t.Helper()
	when, err := time.Parse(time.RFC3339Nano, text)
	require.NoError(t, err)
	return when.UnixMicro()
}

// read is what a line should give.
type read struct {
	at           string
	coarse       bool
	method, path string
	class        uint8
}

func TestALBLinesOfAllAgesAreRead(t *testing.T) {
	created := read{"2024-06-11T07:00:00.020Z", false, "GET", "/api/catalog/products/p-0001", 2}
	worked := read{"2024-06-11T07:00:00.025Z", false, "GET", "/api/catalog/products/p-0001", 2}
	with := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(albToday) }
	for _, c := range []struct {
		name, line string
		want       read
	}{
		{"17 fields, as in the beginning: the answer's time less what it took", albOldest, worked},
		{"18 fields, with a trace", albTraced, worked},
		{"20 fields, with a name and a certificate", albNamed, worked},
		{"22 fields, with the request's own time", albCreated, created},
		{"29 fields", strings.TrimSuffix(albToday, ` TID_1234abcd5678ef90 "-" "-" "-"`), created},
		{"33 fields, as today", albToday, created},
		{"a field more than is known", albToday + " 192.0.2.9", created},
		{"nobody answered", with("0.010 0.200 0.015 200 200", "-1 -1 -1 503 -"), read{"2024-06-11T07:00:00.02Z", false, "GET", "/api/catalog/products/p-0001", 5}},
		{"nobody answered, in an old log", strings.Replace(albOldest, "0.010 0.200 0.015 200 200", "-1 -1 -1 503 -", 1), read{"2024-06-11T07:00:00.25Z", false, "GET", "/api/catalog/products/p-0001", 5}},
		{"no status", with("200 200 34", "- - 34"), read{"2024-06-11T07:00:00.02Z", false, "GET", "/api/catalog/products/p-0001", 0}},
		{"a status of the load balancer's own", with("200 200 34", "460 - 34"), read{"2024-06-11T07:00:00.02Z", false, "GET", "/api/catalog/products/p-0001", 4}},
		{"an agent with quotes and blanks", with(`"curl/8.0"`, `"a \"b\" c \\"`), created},
		{"an agent with bare quotes", with(`"curl/8.0"`, `"a "b"c d"`), created},
		{"an agent that looks like fields", with(`"curl/8.0"`, `"x\" - - arn:x \"y"`), created},
		{"gRPC", with("https 2024", "grpcs 2024", "GET https://shop.example:443/api/catalog/products/p-0001?page=2#top HTTP/1.1", "POST https://shop.example:443/shop.v1.ProductCatalog/GetProduct HTTP/2.0"),
			read{"2024-06-11T07:00:00.02Z", false, "POST", "/shop.v1.ProductCatalog/GetProduct", 2}},
		{"no path", with("GET https://shop.example:443/api/catalog/products/p-0001?page=2#top HTTP/1.1", "GET https://shop.example:443?x=/y HTTP/1.1"), read{"2024-06-11T07:00:00.02Z", false, "GET", "/", 2}},
		{"a creation after the answer, which is not believed", with("07:00:00.020000Z", "07:00:09.000000Z"), worked},
		{"a creation days before, which is not believed", with("2024-06-11T07:00:00.020000Z", "2024-06-01T07:00:00.020000Z"), worked},
		{"a creation that is no time", with("2024-06-11T07:00:00.020000Z", "-"), worked},
	} {
		t.Run(c.name, func(t *testing.T) { requireRead(t, New(ALB, scenarios.LogFields{}), c.line, c.want) })
	}
}

func requireRead(t *testing.T, p Parser, line string, want read) {
	t.Helper()
	var l Line
	require.Equal(t, OK, p.Parse([]byte(line), &l), line)
	require.Equal(t, want, read{time.UnixMicro(l.At).UTC().Format(time.RFC3339Nano), l.Coarse, string(l.Method), string(l.Path), l.Class}.in(t, want.at))
}

// in writes the same time as it is written elsewhere.
func (r read) in(t *testing.T, as string) read {
	t.Helper()
	if at(t, r.at) == at(t, as) {
		r.at = as
	}
	return r
}

func TestALBLinesThatCannotBeUsedHaveAReason(t *testing.T) {
	with := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(albToday) }
	for _, c := range []struct {
		name, line string
		want       Reason
	}{
		{"nothing", "", Empty},
		{"blanks", " \t ", Empty},
		{"a comment", "#Version: 1.0", Comment},
		{"another format", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET / HTTP/1.1" 200 1`, Foreign},
		{"another type", "tcp 2024-06-11T07:00:00.250000Z x", Foreign},
		{"a type alone", "https ", Fields},
		{"a line that was cut off", albOldest[:120], Fields},
		{"a line that was cut off in its request", albOldest[:strings.Index(albOldest, "HTTP/1.1")], Quote},
		{"a line that was cut off before its target group", strings.TrimSuffix(albOldest, "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/shop/73e2d6bc24d8a067"), Fields},
		{"no time", with("2024-06-11T07:00:00.250000Z", "yesterday"), Time},
		{"a 32nd", with("2024-06-11T07:00:00.250000Z", "2024-06-32T07:00:00.250000Z"), Time},
		{"a time of another age", with("2024-06-11T07:00:00.250000Z", "1816-06-11T07:00:00.250000Z"), Range},
		{"a request that was none", with("GET https://shop.example:443/api/catalog/products/p-0001?page=2#top HTTP/1.1", "- http://shop.example:80- -"), Request},
		{"a method in small letters", with("GET https", "get https"), Request},
		{"a request without a URL", with("GET https://shop.example:443/api/catalog/products/p-0001?page=2#top HTTP/1.1", "GET"), Request},
		{"a tunnel", with("GET https://shop.example:443/api/catalog/products/p-0001?page=2#top HTTP/1.1", "CONNECT shop.example:443 HTTP/1.1"), Path},
		{"a star", with("GET https://shop.example:443/api/catalog/products/p-0001?page=2#top HTTP/1.1", "OPTIONS * HTTP/1.1"), Path},
		{"a WebSocket", with("https 2024", "wss 2024"), WebSocket},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, New(ALB, scenarios.LogFields{}).Parse([]byte(c.line), new(Line)))
			require.NotEmpty(t, c.want.String())
		})
	}
}

func TestCommonAndCombinedLinesAreRead(t *testing.T) {
	want := read{"2024-06-11T07:00:00Z", true, "GET", "/apache_pb.gif", 2}
	for _, c := range []struct {
		name, line string
		want       read
	}{
		{"common", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /apache_pb.gif HTTP/1.0" 200 2326`, want},
		{"combined", `192.0.2.1 - frank [11/Jun/2024:09:00:00 +0200] "GET /apache_pb.gif?x=1 HTTP/1.0" 200 2326 "http://a.example/" "Mozilla/4.08 [en]"`, want},
		{"west of Greenwich", `192.0.2.1 - - [10/Jun/2024:23:30:00 -0730] "GET /apache_pb.gif HTTP/1.0" 200 -`, want},
		{"with the host before", `shop.example:443 192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /apache_pb.gif HTTP/1.1" 200 1 "-" "-"`, want},
		{"a user with brackets and quotes", `192.0.2.1 - a [b] "c" [11/Jun/2024:07:00:00 +0000] "GET /apache_pb.gif HTTP/1.1" 200 1`, want},
		{"a user that is a time, which is not one", `192.0.2.1 - [99/Jun/2024:07:00:00 +0000] [11/Jun/2024:07:00:00 +0000] "GET /apache_pb.gif HTTP/1.1" 200 1`, want},
		{"without a protocol", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /apache_pb.gif" 200 1`, want},
		{"a quote in the path", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /a\"b HTTP/1.1" 404 1`, read{"2024-06-11T07:00:00Z", true, "GET", `/a\"b`, 4}},
		{"a leap second", `192.0.2.1 - - [31/Dec/2016:23:59:60 +0000] "GET / HTTP/1.1" 200 1`, read{"2017-01-01T00:00:00Z", true, "GET", "/", 2}},
		{"an absolute URL", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET http://a.example/apache_pb.gif HTTP/1.1" 200 1`, want},
	} {
		t.Run(c.name, func(t *testing.T) { requireRead(t, New(Combined, scenarios.LogFields{}), c.line, c.want) })
	}
	for _, c := range []struct {
		name, line string
		want       Reason
	}{
		{"nonsense", "what is this", Foreign},
		{"no time", `192.0.2.1 - - [now] "GET / HTTP/1.1" 200 1`, Time},
		{"a 31st of June", `192.0.2.1 - - [31/Jun/2024:07:00:00 +0000] "GET / HTTP/1.1" 200 1`, Time},
		{"a month of another language", `192.0.2.1 - - [11/Okt/2024:07:00:00 +0000] "GET / HTTP/1.1" 200 1`, Time},
		{"a year of another age", `192.0.2.1 - - [11/Jun/0024:07:00:00 +0000] "GET / HTTP/1.1" 200 1`, Range},
		{"a request that was none", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "-" 408 -`, Request},
		{"a TLS hello", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "\x16\x03\x01\x02" 400 226`, Request},
		{"no quotes", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] GET / 200 1`, Request},
		{"cut off in the request", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /`, Quote},
		{"cut off behind the time", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] `, Fields},
		{"cut off behind the status", `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET / HTTP/1.1" 200`, Fields},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, New(Combined, scenarios.LogFields{}).Parse([]byte(c.line), new(Line)))
		})
	}
}

func TestJSONLinesOfManyMakesAreRead(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       read
	}{
		{"plain", `{"time":"2024-06-11T07:00:00.5Z","method":"GET","path":"/a?b","status":200}`, read{"2024-06-11T07:00:00.5Z", false, "GET", "/a", 2}},
		{"nginx", `{"msec":"1718089200.123","request":"POST /b HTTP/1.1","status":"404"}`, read{"2024-06-11T07:00:00.123Z", false, "POST", "/b", 4}},
		{"Envoy", `{"start_time":"2024-06-11T07:00:00.000Z","method":"GET","path":"/c","response_code":503}`, read{"2024-06-11T07:00:00Z", false, "GET", "/c", 5}},
		{"Traefik", `{"StartUTC":"2024-06-11T07:00:00.000000001Z","RequestMethod":"GET","RequestPath":"/d","DownstreamStatus":301}`, read{"2024-06-11T07:00:00Z", false, "GET", "/d", 3}},
		{"Caddy", `{"ts":1718089200.5,"request":{"method":"GET","uri":"/e?f"},"status":200}`, read{"2024-06-11T07:00:00.5Z", false, "GET", "/e", 2}},
		{"ECS", `{"@timestamp":"2024-06-11T07:00:00Z","http":{"request":{"method":"PUT"},"response":{"status_code":204}},"url":{"path":"/f"}}`, read{"2024-06-11T07:00:00Z", true, "PUT", "/f", 2}},
		{"ECS, flat", `{"@timestamp":"2024-06-11T07:00:00Z","http.request.method":"PUT","http.response.status_code":204,"url.path":"/f"}`, read{"2024-06-11T07:00:00Z", true, "PUT", "/f", 2}},
		{"seconds", `{"ts":1718089200,"method":"GET","path":"/"}`, read{"2024-06-11T07:00:00Z", true, "GET", "/", 0}},
		{"milliseconds", `{"ts":1718089200250,"method":"GET","path":"/"}`, read{"2024-06-11T07:00:00.25Z", false, "GET", "/", 0}},
		{"microseconds", `{"ts":1718089200250000,"method":"GET","path":"/"}`, read{"2024-06-11T07:00:00.25Z", false, "GET", "/", 0}},
		{"nanoseconds", `{"ts":1718089200250000000,"method":"GET","path":"/"}`, read{"2024-06-11T07:00:00.25Z", false, "GET", "/", 0}},
		{"the common format's time", `{"time_local":"11/Jun/2024:09:00:00 +0200","method":"GET","path":"/"}`, read{"2024-06-11T07:00:00Z", true, "GET", "/", 0}},
		{"a zone", `{"time":"2024-06-11T09:00:00.5+02:00","method":"GET","path":"/"}`, read{"2024-06-11T07:00:00.5Z", false, "GET", "/", 0}},
		{"escapes", `{"time":"2024-06-11T07:00:00.5Z","method":"GET","path":"\/a\u002fb"}`, read{"2024-06-11T07:00:00.5Z", false, "GET", "/a/b", 0}},
	} {
		t.Run(c.name, func(t *testing.T) { requireRead(t, New(NDJSON, scenarios.LogFields{}), c.line, c.want) })
	}
	own := New(NDJSON, scenarios.LogFields{Time: "when", Method: "verb", Path: "http.target", Status: "code"})
	requireRead(t, own, `{"time":"2020-01-01T00:00:00Z","when":"2024-06-11T07:00:00.5Z","verb":"GET","http":{"target":"/x"},"path":"/y","code":201}`,
		read{"2024-06-11T07:00:00.5Z", false, "GET", "/x", 2})
	for _, c := range []struct {
		name, line string
		want       Reason
	}{
		{"nonsense", "what", JSON},
		{"half an object", `{"time":`, JSON},
		{"a list", `[1]`, JSON},
		{"no time", `{"method":"GET","path":"/"}`, Time},
		{"a time of no form", `{"time":"eleven","method":"GET","path":"/"}`, Time},
		{"a time without a zone", `{"time":"2024-06-11T07:00:00","method":"GET","path":"/"}`, Time},
		{"a number that is no time", `{"time":12,"method":"GET","path":"/"}`, Range},
		{"no method", `{"time":1718089200,"path":"/"}`, Request},
		{"a method that is a number", `{"time":1718089200,"method":1,"path":"/"}`, Request},
		{"no path", `{"time":1718089200,"method":"GET"}`, Request},
		{"a path that is none", `{"time":1718089200,"method":"GET","path":"shop"}`, Path},
		{"a path that is a number", `{"time":1718089200,"method":"GET","path":7}`, Path},
		{"nests without end", strings.Repeat(`{"a":`, 100_000), JSON},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, New(NDJSON, scenarios.LogFields{}).Parse([]byte(c.line), new(Line)))
		})
	}
}

func TestEachLineIsReadByItsLooks(t *testing.T) {
	p, ok := New(Auto, scenarios.LogFields{}).(*Sniffer)
	require.True(t, ok)
	const common = `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /a HTTP/1.0" 200 2326`
	require.Empty(t, p.Last())
	requireRead(t, p, common, read{"2024-06-11T07:00:00Z", true, "GET", "/a", 2})
	require.Equal(t, Combined, p.Last())
	require.Equal(t, Foreign, p.Parse([]byte("garbage"), new(Line)))
	requireRead(t, p, albToday, read{"2024-06-11T07:00:00.02Z", false, "GET", "/api/catalog/products/p-0001", 2})
	require.Equal(t, ALB, p.Last())
	require.Equal(t, Foreign, p.Parse([]byte("garbage"), new(Line)))
	requireRead(t, p, common, read{"2024-06-11T07:00:00Z", true, "GET", "/a", 2})
	requireRead(t, p, `{"ts":1718089200,"method":"GET","path":"/"}`, read{"2024-06-11T07:00:00Z", true, "GET", "/", 0})
	require.Equal(t, NDJSON, p.Last())
	require.Equal(t, JSON, p.Parse([]byte("{garbage"), new(Line)))
}

func TestNothingIsAllocatedForALine(t *testing.T) {
	for format, line := range samples() {
		p, raw, l := New(Auto, scenarios.LogFields{}), []byte(line), new(Line)
		require.Equal(t, OK, p.Parse(raw, l), format)
		require.Zero(t, testing.AllocsPerRun(100, func() { p.Parse(raw, l) }), format)
	}
}

func samples() map[string]string {
	return map[string]string{
		ALB:      albToday,
		Combined: `192.0.2.1 - frank [11/Jun/2024:09:00:00 +0200] "GET /api/catalog/products/p-0001?x=1 HTTP/1.0" 200 2326 "http://a.example/" "Mozilla/4.08 [en]"`,
		NDJSON:   `{"time":"2024-06-11T07:00:00.5Z","remote":"192.0.2.1","method":"GET","path":"/api/catalog/products/p-0001?b","status":200,"bytes":366,"agent":"curl"}`,
	}
}

func TestLinesAreCutOfPlainAndPackedLogs(t *testing.T) {
	text := "one\r\n\ntwo\n" + strings.Repeat("x", 3*MaxLine) + "\nthree"
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.WriteString(z, text[:5])
	require.NoError(t, err)
	require.NoError(t, z.Close())
	z = gzip.NewWriter(&packed) // two members, as when files were put together
	_, err = io.WriteString(z, text[5:])
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for name, raw := range map[string][]byte{"plain": []byte(text), "packed": packed.Bytes()} {
		t.Run(name, func(t *testing.T) {
			l := NewLines(bytes.NewReader(raw))
			var got []string
			for {
				line, cut, err := l.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				if cut {
					require.Len(t, line, 1<<10)
					line = []byte("(cut)")
				}
				got = append(got, string(line))
				require.Equal(t, int64(len(got)), l.Number())
			}
			require.Equal(t, []string{"one", "", "two", "(cut)", "three"}, got)
		})
	}
	l := NewLines(bytes.NewReader(packed.Bytes()[:packed.Len()-20]))
	var end error
	for end == nil {
		_, _, end = l.Next()
	}
	require.ErrorIs(t, end, io.ErrUnexpectedEOF)
	require.Positive(t, l.Number(), "what is whole is read")
	_, _, end = NewLines(strings.NewReader("\x1f\x8bnothing")).Next()
	require.ErrorContains(t, end, "after line 0")
}

// sane checks what a parser may say of any line.
func sane(t *testing.T, line []byte, l *Line, reason Reason) {
	t.Helper()
	if reason >= reasons || reason.String() == "" {
		t.Fatalf("reason %d", reason)
	}
	if reason != OK {
		return
	}
	if l.At < earliest || l.At >= latest || !isMethod(l.Method) || len(l.Path) == 0 || l.Path[0] != '/' || l.Class > 5 {
		t.Fatalf("%q gives %+v", line, l)
	}
	if bytes.ContainsAny(l.Path, "?#") {
		t.Fatalf("%q keeps its query: %q", line, l.Path)
	}
}

func fuzz(f *testing.F, format string) {
	for _, line := range samples() {
		f.Add([]byte(line))
		f.Add([]byte(line[:len(line)/2]))
	}
	f.Add([]byte(albOldest))
	f.Add([]byte(`https  "" "\" `))
	f.Add([]byte(`{"ts":1e18,"request":"GET  "}`))
	p := New(format, scenarios.LogFields{Path: "a.b"})
	f.Fuzz(func(t *testing.T, line []byte) {
		var l Line
		sane(t, line, &l, p.Parse(line, &l))
	})
}

func FuzzALB(f *testing.F)      { fuzz(f, ALB) }
func FuzzCombined(f *testing.F) { fuzz(f, Combined) }
func FuzzNDJSON(f *testing.F)   { fuzz(f, NDJSON) }
func FuzzSniffer(f *testing.F)  { fuzz(f, Auto) }

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\r\nb\n\nc"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := NewLines(bytes.NewReader(raw))
		for n := int64(1); ; n++ {
			line, _, err := l.Next()
			if err != nil {
				return
			}
			if bytes.IndexByte(line, '\n') >= 0 || l.Number() != n {
				t.Fatalf("line %d is %q", l.Number(), line)
			}
		}
	})
}

func benchmark(b *testing.B, format string) {
	line, l := []byte(samples()[format]), new(Line)
	p := New(Auto, scenarios.LogFields{})
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if p.Parse(line, l) != OK {
			b.Fatal("not read")
		}
	}
}

func BenchmarkALB(b *testing.B)      { benchmark(b, ALB) }
func BenchmarkCombined(b *testing.B) { benchmark(b, Combined) }
func BenchmarkNDJSON(b *testing.B)   { benchmark(b, NDJSON) }
