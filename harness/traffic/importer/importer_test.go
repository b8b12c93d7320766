package importer

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/harness/traffic/accesslog"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/recording"
	"meshsim.dev/meshsim/test/generatedlog"
)

// kept keeps what it is given.
type kept struct {
	at     []int64 // microseconds since the first
	routes []string
	first  int64
}

func (k *kept) Add(at int64, route string, _ uint8) error {
	if len(k.at) == 0 {
		k.first = at
	}
	k.at = append(k.at, at-k.first)
	k.routes = append(k.routes, route)
	return nil
}

func shopRules(t testing.TB) *scenarios.Rules {
	t.Helper()
	rules, err := scenarios.LoadRules("")
	require.NoError(t, err)
	return rules
}

// do imports logs given as their texts.
func do(t *testing.T, o Options, texts ...string) (*kept, *Report) {
	t.Helper()
	dir := t.TempDir()
	for i, text := range texts {
		path := filepath.Join(dir, fmt.Sprintf("%02d.log", i))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		o.Logs = append(o.Logs, path)
	}
	if o.Rules == nil {
		o.Rules = shopRules(t)
	}
	k := &kept{}
	o.Sink = k
	r, err := Import(t.Context(), o)
	require.NoError(t, err)
	require.True(t, slices.IsSorted(k.at))
	require.Equal(t, int64(len(k.at)), r.Requests)
	accounted := r.Requests
	for _, u := range r.Unused {
		accounted += u.Lines
	}
	require.Equal(t, r.Lines, accounted, "every line is used or has a reason")
	var lines, used int64
	for _, l := range r.Logs {
		lines, used = lines+l.Lines, used+l.Used
	}
	require.Equal(t, []int64{r.Lines, r.Requests}, []int64{lines, used})
	return k, r
}

// jsonAt is a line at so many milliseconds past seven.
func jsonAt(ms int, method, path string) string {
	return fmt.Sprintf(`{"ts":%d,"method":%q,"path":%q,"status":200,"ip":"192.0.2.1"}`+"\n", 1718089200000+ms, method, path)
}

func TestOrderAndGapsAreKept(t *testing.T) {
	k, r := do(t, Options{}, jsonAt(0, "GET", "/api/catalog/products")+jsonAt(1500, "POST", "/api/orders")+jsonAt(1501, "GET", "/api/customers/c-1"))
	require.Equal(t, []int64{0, 1_500_000, 1_501_000}, k.at)
	require.Equal(t, []string{"browse", "order", "customer"}, k.routes)
	require.Equal(t, 1501*time.Millisecond, r.Span)
	require.Equal(t, 1500*time.Millisecond, r.LongestGap)
	require.Equal(t, time.Date(2024, 6, 11, 7, 0, 0, 0, time.UTC), r.From)
	require.Equal(t, int64(3), r.BusiestMinute)
	require.InDelta(t, 2, r.MeanRate, 0.01)
	require.Equal(t, []Log{{Name: r.Logs[0].Name, Format: "ndjson", Lines: 3, Used: 3}}, r.Logs)
	require.Equal(t, Route{Name: "browse", Requests: 1, Share: 1. / 3, Answers: map[string]int64{"2xx": 1}}, r.Routes[0])
}

func TestLogsAreMergedByTimeWhateverTheirNamesSay(t *testing.T) {
	var texts [7]string
	for i := range 700 {
		texts[i*13%7] += jsonAt(i*10, "GET", "/api/catalog/products")
	}
	texts[6], texts[0] = texts[0], texts[6]
	k, r := do(t, Options{}, texts[:]...)
	require.Len(t, k.at, 700)
	for i, at := range k.at {
		require.Equal(t, int64(i)*10_000, at)
	}
	require.Empty(t, r.Unused)
}

func TestLogsOfOtherTimesAreOpenedOnlyWhenTheirTurnComes(t *testing.T) {
	// far more than may be open at once, and each begins when the last has ended
	dir, day := t.TempDir(), 24*3600*1000
	for i := range 3 * mostOpen {
		text := jsonAt(i*day, "GET", "/api/catalog/products") + jsonAt(i*day+1000, "POST", "/api/orders")
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%04d.log", 9999-i)), []byte(text), 0o600))
	}
	k, r := do(t, Options{Logs: []string{filepath.Join(dir, "*.log")}})
	require.Len(t, k.at, 6*mostOpen)
	require.Empty(t, r.Unused)
	require.Len(t, r.Logs, 3*mostOpen)

	for i := range mostOpen + 1 { // and these are of one time
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("same-%d", i)), []byte(jsonAt(i, "GET", "/api/catalog/products")), 0o600))
	}
	_, err := Import(t.Context(), Options{Logs: []string{filepath.Join(dir, "same-*")}, Rules: shopRules(t), Sink: &kept{}})
	require.ErrorContains(t, err, "logs cover the same time")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func TestLinesOutOfOrderArePutInOrderWithinTheWindow(t *testing.T) {
	var text strings.Builder
	for i := range 1000 { // each block of ten comes backwards
		text.WriteString(jsonAt((i/10*10+9-i%10)*100, "GET", "/api/catalog/products"))
	}
	k, r := do(t, Options{Window: 2 * time.Second}, text.String())
	require.Len(t, k.at, 1000)
	require.Empty(t, r.Unused)
	for i, at := range k.at {
		require.Equal(t, int64(i)*100_000, at)
	}
	text.WriteString(jsonAt(5, "POST", "/api/orders"))
	k, r = do(t, Options{Window: 2 * time.Second}, text.String())
	require.Len(t, k.at, 1000)
	require.Equal(t, "out of order by more than could be held back", r.Unused[0].Reason)
	require.Equal(t, int64(1), r.Unused[0].Lines)
	require.Equal(t, int64(1001), r.Unused[0].Examples[0].Line)
}

func TestOneWrongDateDoesNotEndTheWaiting(t *testing.T) {
	wrong := `{"ts":4000000000,"method":"GET","path":"/api/catalog/products"}` + "\n"
	var text strings.Builder
	for i := range 1000 {
		text.WriteString(jsonAt((i/10*10+9-i%10)*100, "GET", "/api/catalog/products"))
		if i == 300 {
			text.WriteString(wrong)
		}
	}
	k, r := do(t, Options{Window: 2 * time.Second}, text.String())
	require.Len(t, k.at, 1000, "the wrong one is more than a recording can hold")
	require.Equal(t, []Unused{{Reason: "more than ten years after the first request", Lines: 1}}, r.Unused)

	k, r = do(t, Options{Window: 2 * time.Second, To: time.UnixMilli(1718089200000 + 50_000), From: time.UnixMilli(1718089200000 + 10_000)}, text.String())
	require.Len(t, k.at, 400)
	require.Equal(t, "outside the times that were asked for", r.Unused[0].Reason)
	require.Equal(t, time.UnixMilli(1718089200000+10_000).UTC(), r.From)
}

func TestRequestsOfOneSecondAreSpreadOverItInTheirOrder(t *testing.T) {
	line := func(second int, path string) string {
		return fmt.Sprintf("192.0.2.1 - - [11/Jun/2024:07:00:%02d +0000] \"GET %s HTTP/1.1\" 200 1\n", second, path)
	}
	const browse, search = "/api/catalog/products", "/api/catalog/search"
	k, _ := do(t, Options{}, line(0, browse)+line(0, search)+line(0, browse)+line(0, search)+line(1, browse)+line(3, search)+line(3, browse))
	require.Equal(t, []int64{0, 250_000, 500_000, 750_000, 1_000_000, 3_000_000, 3_500_000}, k.at)
	require.Equal(t, []string{"browse", "search", "browse", "search", "browse", "search", "browse"}, k.routes)

	// a load balancer's microseconds are left alone, also beside such a log
	k, r := do(t, Options{}, line(0, browse)+line(0, search), jsonAt(100, "POST", "/api/orders")+jsonAt(100, "POST", "/api/orders"))
	require.Equal(t, []int64{0, 100_000, 100_000, 500_000}, k.at)
	require.Equal(t, []string{"combined", "ndjson"}, []string{r.Logs[0].Format, r.Logs[1].Format})
}

func TestNothingPersonalLeavesAnImport(t *testing.T) {
	secrets := []string{"192.0.2.7", "alice", "ALICE", "alice@shop.example", "eyJhbGciOi", "s3cr3t", "4711", "Mozilla"}
	text := `{"ts":1718089200,"method":"GET","path":"/api/customers/alice?token=eyJhbGciOi","ip":"192.0.2.7","user":"alice@shop.example","agent":"Mozilla"}` + "\n" +
		`{"ts":1718089201,"method":"GET","path":"/users/alice/reset/eyJhbGciOi?x=s3cr3t"}` + "\n" +
		`{"ts":1718089202,"method":"GET","path":"/users/alice@shop.example"}` + "\n" +
		`{"ts":1718089203,"method":"GET","path":"/api/4711/s3cr3t/a/b/c/d/alice"}` + "\n" +
		`{"ts":1718089204,"method":"ALICE","path":"/users/4711"}` + "\n" +
		`{"user":"alice@shop.example","token":"eyJhbGciOi","pin":4711` + "\n" +
		`192.0.2.7 - alice [11/Jun/2024:07:00:00 +0000] "alice s3cr3t" 400 4711` + "\n"
	dir := t.TempDir()
	log, out := filepath.Join(dir, "a.log"), filepath.Join(dir, "out.jsonl")
	require.NoError(t, os.WriteFile(log, []byte(text), 0o600))
	file, err := recording.Create(out)
	require.NoError(t, err)
	r, err := Import(t.Context(), Options{Logs: []string{log}, Rules: shopRules(t), Sink: file})
	require.NoError(t, err)
	require.NoError(t, file.Commit())

	recorded, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(string(recorded), "\n"), "%s", recorded)
	told, err := json.Marshal(r)
	require.NoError(t, err)
	var shown strings.Builder
	require.NoError(t, r.Write(&shown))
	for _, secret := range secrets {
		require.NotContains(t, string(recorded), secret)
		require.NotContains(t, strings.ReplaceAll(string(told), dir, ""), secret)
		require.NotContains(t, strings.ReplaceAll(shown.String(), dir, ""), secret)
	}
	require.Len(t, r.Paths, 4)
	require.Regexp(t, `^GET /users/~[0-9a-f]{4}/~[0-9a-f]{4}/\*$`, r.Paths[0].Looks)
	require.Equal(t, "GET /users/*", r.Paths[1].Looks)
	require.Regexp(t, `^GET /api/\*/\*/~[0-9a-f]{4}/~[0-9a-f]{4}/~[0-9a-f]{4}/…$`, r.Paths[2].Looks)
	require.Equal(t, "* /users/*", r.Paths[3].Looks)
	require.Contains(t, shown.String(), log+":2")

	again, err := Import(t.Context(), Options{Logs: []string{log}, Rules: shopRules(t), Sink: &kept{}})
	require.NoError(t, err)
	require.NotEqual(t, r.Paths[0].Looks, again.Paths[0].Looks, "each import has a salt of its own")
}

func TestBrokenLinesAreCountedAndShownByTheirLooks(t *testing.T) {
	text := jsonAt(0, "GET", "/api/catalog/products") + "\n# a comment\n{broken\n{broken too\n{and 3 more\n{not shown\n" +
		"\x00\x01\xffBinary\t42\n" + strings.Repeat("x", 2*accesslog.MaxLine) + "\n" + jsonAt(1, "GET", "/health") + jsonAt(2, "PATCH", "/api/orders")
	k, r := do(t, Options{}, text)
	require.Len(t, k.at, 1)
	by := map[string]Unused{}
	for _, u := range r.Unused {
		by[u.Reason] = u
	}
	require.Equal(t, int64(5), by["not a JSON object"].Lines)
	name := r.Logs[0].Name
	require.Equal(t, []Example{{name, 4, "{aaaaaa"}, {name, 5, "{aaaaaa aaa"}, {name, 6, "{aaa 9 aaaa"}}, by["not a JSON object"].Examples)
	require.Equal(t, int64(1), by["an empty line"].Lines)
	require.Equal(t, int64(1), by["a comment"].Lines)
	long := by["longer than a line should be"]
	require.Equal(t, strings.Repeat("a", mostShown)+"…", long.Examples[0].Looks)
	require.Equal(t, int64(1), by["left out by a rule: health checks"].Lines)
	require.Equal(t, int64(1), by["no rule for its path"].Lines)
	require.Equal(t, []Path{{"PATCH /api/orders", 1, Example{Log: name, Line: 11}}}, r.Paths)
	var b strings.Builder
	require.NoError(t, r.Write(&b))
	require.Contains(t, b.String(), "5 lines: not a JSON object")
	for _, c := range b.String() {
		require.True(t, c == '\n' || c == '…' || c >= ' ' && c <= '~', "%q", c)
	}
}

func TestPathsOfAHostileLogTakeNoMoreThanTheirRoom(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		text.WriteString(jsonAt(i, "GET", "/"+strings.Repeat(string(rune('a'+i%26)), 1+i%20)+"/"+strings.Repeat(string(rune('a'+i/26%26)), 1+i/26%20)))
	}
	text.WriteString(jsonAt(5001, "GET", "/api/catalog/products"))
	_, r := do(t, Options{}, text.String())
	require.Len(t, r.Paths, mostPaths)
	require.Positive(t, r.OtherPaths)
	var b strings.Builder
	require.NoError(t, r.Write(&b))
	require.Contains(t, b.String(), "others")
}

func TestAPipeIsReadOnce(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(pipe, []byte(jsonAt(0, "GET", "/api/catalog/products")), 0o600) }()
	k, _ := do(t, Options{Logs: []string{pipe}}, jsonAt(-5, "POST", "/api/orders"))
	require.NoError(t, <-wrote)
	require.Equal(t, []string{"order", "browse"}, k.routes)
}

func TestADamagedLogGivesWhatIsWholeInIt(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range 20_000 {
		_, err := io.WriteString(z, jsonAt(i, "GET", fmt.Sprintf("/api/catalog/products/p-%d", i*i)))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	k, r := do(t, Options{}, packed.String()[:packed.Len()/2], jsonAt(99_999, "POST", "/api/orders"), "\x1f\x8bnothing")
	require.Greater(t, len(k.at), 1000)
	require.Equal(t, "order", k.routes[len(k.routes)-1], "the others are read all the same")
	require.Contains(t, r.Logs[0].Damage, "unexpected EOF")
	require.NotEmpty(t, r.Logs[2].Damage)
	var b strings.Builder
	require.NoError(t, r.Write(&b))
	require.Contains(t, b.String(), "could not be read to its end")
	require.Contains(t, b.String(), "nothing that could be read")
}

func TestWhatCannotBeImportedIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		logs []string
		want string
	}{
		{"nothing", nil, "no log to import"},
		{"a file that is not there", []string{"/nope/a.log"}, "log /nope/a.log is not there"},
		{"a directory", []string{os.TempDir()}, "is a directory"},
		{"a pattern that fits nothing", []string{"/nope/*.log"}, "no file fits /nope/*.log"},
		{"a pattern that is none", []string{"/nope/[.log"}, "pattern /nope/[.log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Import(t.Context(), Options{Logs: c.logs, Rules: shopRules(t), Sink: &kept{}})
			require.ErrorContains(t, err, c.want)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		})
	}
}

type full struct{}

func (full) Add(int64, string, uint8) error { return errors.New("disk full") }

func TestAnImportCanBeStoppedAndSaysWhenItCannotWrite(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var seen int64
	_, err := Import(ctx, Options{
		Logs: []string{"-"}, Stdin: generatedlog.New(1<<40, time.Millisecond), Rules: shopRules(t), Sink: &kept{},
		Progress: func(n int64) {
			if seen = n; n > 20_000 {
				cancel()
			}
		},
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Greater(t, seen, int64(20_000))
	_, err = Import(t.Context(), Options{Logs: []string{"-"}, Stdin: strings.NewReader(jsonAt(0, "POST", "/api/orders")), Rules: shopRules(t), Sink: full{}})
	require.ErrorContains(t, err, "write the recording: disk full")
}

// counting takes requests and keeps none.
type counting struct{ n int }

func (c *counting) Add(int64, string, uint8) error { c.n++; return nil }

func TestAMillionLinesTakeTheMemoryOfATenthOfThem(t *testing.T) {
	used := func(lines int) uint64 {
		most := uint64(0)
		watch := func(int64) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		runtime.GC()
		r, err := Import(t.Context(), Options{
			Logs: []string{"-"}, Stdin: generatedlog.New(lines, 100*time.Microsecond), Rules: shopRules(t), Sink: &counting{}, Progress: watch,
		})
		require.NoError(t, err)
		require.Equal(t, int64(lines), r.Lines)
		require.InDelta(t, 0.75*float64(lines), r.Requests, 0.01*float64(lines))
		return most
	}
	tenth := used(600_000)
	require.Less(t, used(1_000_000), tenth+8<<20)
	require.Less(t, tenth, uint64(48<<20))
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(jsonAt(0, "GET", "/api/orders")+"x\n"), []byte(`192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /api/catalog/products HTTP/1.1" 200 1`))
	line := make([]byte, 2000)
	n, err := generatedlog.New(4, time.Second).Read(line)
	require.NoError(f, err)
	f.Add(line[:n], line[:n/2])
	f.Add([]byte("\x1f\x8b\x08"), []byte{})
	rules := shopRules(f)
	f.Fuzz(func(t *testing.T, file, stdin []byte) {
		path := filepath.Join(t.TempDir(), "a.log")
		require.NoError(t, os.WriteFile(path, file, 0o600))
		var out bytes.Buffer
		w := recording.NewWriter(&out)
		r, err := Import(t.Context(), Options{Logs: []string{path, "-"}, Stdin: bytes.NewReader(stdin), Rules: rules, Sink: w})
		require.NoError(t, err, "whatever lines hold is never fatal")
		accounted := r.Requests
		for _, u := range r.Unused {
			accounted += u.Lines
		}
		require.Equal(t, r.Lines, accounted)
		if r.Requests == 0 {
			return
		}
		require.NoError(t, w.End())
		in, err := recording.NewReader("out", &out)
		require.NoError(t, err)
		s, err := recording.Summarise(in)
		require.NoError(t, err)
		require.Equal(t, r.Requests, s.Requests)
	})
}

// benchmarkImport imports b.N lines, so that -benchtime 10000000x is a log of
// ten million.
func benchmarkImport(b *testing.B, in io.Reader) {
	sink := recording.NewWriter(io.Discard)
	most := uint64(0)
	var m runtime.MemStats
	b.ReportAllocs()
	b.ResetTimer()
	r, err := Import(b.Context(), Options{
		Logs: []string{"-"}, Stdin: in, Rules: shopRules(b), Sink: sink,
		Progress: func(n int64) {
			if n>>20 != (n-4096)>>20 { // now and then: it stops the world
				runtime.ReadMemStats(&m)
				most = max(most, m.Sys-m.HeapReleased)
			}
		},
	})
	require.NoError(b, err)
	require.Equal(b, int64(b.N), r.Lines)
	require.NoError(b, sink.End())
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(most)/(1<<20), "MiB")
}

func BenchmarkImportALB(b *testing.B) { benchmarkImport(b, generatedlog.New(b.N, time.Millisecond)) }

func BenchmarkGenerate(b *testing.B) {
	n, err := io.Copy(io.Discard, generatedlog.New(b.N, time.Millisecond))
	require.NoError(b, err)
	b.SetBytes(n / int64(b.N))
}

// A log as it comes from the bucket: gzip.
func BenchmarkImportALBGzip(b *testing.B) {
	const chunk = 20_000
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.Copy(z, generatedlog.New(chunk, time.Millisecond))
	require.NoError(b, err)
	require.NoError(b, z.Close())
	// gzip goes on where one member ends; the repeats are out of order and
	// counted as such, which costs what it costs
	rules := shopRules(b)
	b.ReportAllocs()
	b.ResetTimer()
	lines := 0
	for lines < b.N {
		r, err := Import(b.Context(), Options{Logs: []string{"-"}, Stdin: bytes.NewReader(packed.Bytes()), Rules: rules, Sink: recording.NewWriter(io.Discard)})
		require.NoError(b, err)
		lines += int(r.Lines)
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkImportCombined(b *testing.B) {
	line := `192.0.2.1 - - [11/Jun/2024:07:00:00 +0000] "GET /api/catalog/products/p-0001?x=1 HTTP/1.1" 200 2326 "https://shop.example/" "Mozilla/5.0 (X11; Linux x86_64)"` + "\n"
	benchmarkImport(b, io.LimitReader(&repeated{line: line}, int64(b.N)*int64(len(line))))
}

func BenchmarkImportNDJSON(b *testing.B) {
	line := `{"time":"2024-06-11T07:00:00.5Z","remote":"192.0.2.1","method":"GET","path":"/api/catalog/products/p-0001?b","status":200,"bytes":366,"agent":"curl"}` + "\n"
	benchmarkImport(b, io.LimitReader(&repeated{line: line}, int64(b.N)*int64(len(line))))
}

type repeated struct {
	line string
	at   int
}

func (r *repeated) Read(p []byte) (n int, err error) {
	for n < len(p) {
		done := copy(p[n:], r.line[r.at:])
		n, r.at = n+done, (r.at+done)%len(r.line)
	}
	return n, nil
}
