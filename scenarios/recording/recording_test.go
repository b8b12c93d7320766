package recording

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
)

const sample = `{"apiVersion":"meshsim.dev/v1alpha1","kind":"RecordedTraffic","from":"2024-06-11T07:00:00Z"}
{"us":0,"route":"browse","class":"2xx"}
{"us":41873,"route":"order","class":"4xx"}
{"us":41873,"route":"browse"}
{"requests":3,"spanUs":41873}
`

// readAll reads a recording to its end.
func readAll(text string) (all []Request, err error) {
	r, err := NewReader("r.jsonl", strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	for {
		q, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, q)
	}
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	want := []Request{
		{0, "browse", 2}, {41873 * time.Microsecond, "order", 4}, {41873 * time.Microsecond, "browse", 0},
	}
	begin := time.Date(2024, 6, 11, 7, 0, 0, 250_000_000, time.UTC)
	for _, name := range []string{"r.jsonl", "r.jsonl.gz"} {
		path := filepath.Join(t.TempDir(), name)
		f, err := Create(path)
		require.NoError(t, err)
		for _, q := range want {
			require.NoError(t, f.Add(begin.Add(q.At).UnixMicro(), q.Route, q.Class))
		}
		require.ErrorContains(t, f.Add(begin.UnixMicro(), "browse", 2), "in order of time")
		require.Equal(t, int64(3), f.Requests())
		require.Equal(t, 41873*time.Microsecond, f.Span())
		require.NoFileExists(t, path, "it has its name only when it is whole")
		require.NoError(t, f.Commit())

		r, err := Open(path)
		require.NoError(t, err)
		require.Equal(t, begin.Truncate(time.Second), r.From())
		for _, q := range want {
			got, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, q, got)
		}
		_, err = r.Next()
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, r.Close())
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		if name == "r.jsonl" {
			require.Equal(t, sample, string(raw))
		}
		left, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		require.Len(t, left, 1)
	}
}

func TestAnAbandonedRecordingLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "r.jsonl"))
	require.NoError(t, err)
	require.NoError(t, f.Add(1, "browse", 2))
	require.NoError(t, f.Abandon())
	f, err = Create(filepath.Join(dir, "r.jsonl"))
	require.NoError(t, err)
	require.ErrorContains(t, f.Commit(), "at least one request")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = Create(filepath.Join(dir, "nowhere", "r.jsonl"))
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func TestARecordingMayBeWrittenByHand(t *testing.T) {
	got, err := readAll(strings.Replace(sample, `{"us":41873,"route":"order","class":"4xx"}`, ` { "route": "order", "class": "4xx", "us": 41873 } `, 1))
	require.NoError(t, err)
	want, err := readAll(sample)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestADamagedRecordingIsRefusedWithItsLine(t *testing.T) {
	lines := strings.SplitAfter(sample, "\n")
	with := func(line string, at int) string {
		all := append([]string{}, lines...)
		all[at] = line
		return strings.Join(all, "")
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "r.jsonl:1: the file is empty"},
		{"another file", "hello\n", "r.jsonl:1: not a recording"},
		{"another kind", with(`{"apiVersion":"meshsim.dev/v1alpha1","kind":"Scenario"}`+"\n", 0), "should be of kind RecordedTraffic"},
		{"another version", with(`{"apiVersion":"meshsim.dev/v9","kind":"RecordedTraffic"}`+"\n", 0), `should be meshsim.dev/v1alpha1, not "meshsim.dev/v9"`},
		{"cut off between lines", strings.Join(lines[:3], ""), "r.jsonl:4: the recording was cut off before its last line"},
		{"cut off in a line", sample[:len(sample)-20], "r.jsonl:5: the recording was cut off here"},
		{"a lost line", strings.Join(append(append([]string{}, lines[:2]...), lines[3:]...), ""), "should hold 3 requests in 41873 µs, and holds 2 in 41873 µs: some were lost"},
		{"something after the end", sample + lines[1], "something follows the last line"},
		{"time that goes back", with(`{"us":1,"route":"browse"}`+"\n", 3), "r.jsonl:4: the request is not in order of time"},
		{"a late beginning", with(`{"us":1,"route":"browse"}`+"\n", 1), "should be at 0"},
		{"no JSON", with("what\n", 2), "r.jsonl:3: not a recorded request"},
		{"an unknown key", with(`{"us":1,"route":"browse","ip":"192.0.2.1"}`+"\n", 2), `unknown field "ip"`},
		{"two values", with(`{"us":1,"route":"browse"}{}`+"\n", 2), "more than one value"},
		{"no route", with(`{"us":1}`+"\n", 2), "has us, route and class"},
		{"a negative time", with(`{"us":-1,"route":"browse"}`+"\n", 2), "us should be from 0"},
		{"a time beyond all", with(`{"us":999999999999999,"route":"browse"}`+"\n", 2), "us should be from 0"},
		{"a route that is none", with(`{"us":1,"route":"Browse!"}`+"\n", 2), "lower-case"},
		{"a class that is none", with(`{"us":1,"route":"browse","class":"9xx"}`+"\n", 2), "class should be 1xx to 5xx"},
		{"a line without end", with(`{"us":1,"route":"`+strings.Repeat("a", 5000)+"\"}\n", 2), "longer than"},
		{"an end without requests", lines[0] + `{"requests":0,"spanUs":0}` + "\n", "holds no request"},
		{"broken gzip", "\x1f\x8b\x08garbage", "r.jsonl:1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readAll(c.text)
			require.ErrorContains(t, err, c.want)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		})
	}
	many := lines[0]
	for i := range mostRoutes + 1 {
		many += fmt.Sprintf(`{"us":0,"route":"r-%d"}`+"\n", i)
	}
	_, err := readAll(many)
	require.ErrorContains(t, err, "more than 64 routes")
	_, err = Open(filepath.Join(t.TempDir(), "nope"))
	require.ErrorContains(t, err, "is not there")
}

func TestASummaryCountsAllInBoundedParts(t *testing.T) {
	for _, c := range []struct {
		name     string
		requests int
		gap      time.Duration
		parts    int // at most
	}{
		{"one request", 1, 0, 1},
		{"many at once", 1000, 0, 20},
		{"an hour", 3600, time.Second, 72},
		{"a month of little", 5000, 500 * time.Second, 100},
		{"a second of much", 300_000, 3 * time.Microsecond, 1024},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			w := NewWriter(&b)
			routes := []string{"browse", "order"}
			for i := range c.requests {
				require.NoError(t, w.Add(1e15+int64(i)*c.gap.Microseconds(), routes[i%2], uint8(i%6)))
			}
			require.NoError(t, w.End())
			r, err := NewReader("r", &b)
			require.NoError(t, err)
			s, err := Summarise(r)
			require.NoError(t, err)
			require.Equal(t, int64(c.requests), s.Requests)
			require.Equal(t, time.Duration(c.requests-1)*c.gap, s.Span)
			require.Equal(t, max(time.Second, time.Duration(c.requests)*c.gap), s.Period())
			require.Equal(t, int64(c.requests), s.Count(s.Names()))
			rates := s.Shape(s.Names())
			require.InEpsilon(t, c.requests, rates.Count(0, s.Period()), 1e-9)
			require.InDelta(t, (c.requests+1)/2, s.Shape([]string{"browse"}).Count(0, s.Period()), 1e-6)
			require.Zero(t, s.Shape(nil).Count(0, s.Period()))
			if c.gap > 0 { // steady traffic makes a steady shape
				require.InEpsilon(t, rates.Mean(), rates.Bound(), 0.12)
			}
			for _, one := range s.Routes {
				require.LessOrEqual(t, len(one.counts), c.parts+1)
				var sum int64
				for _, n := range one.Classes {
					sum += n
				}
				require.Equal(t, one.Requests, sum)
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(strings.ReplaceAll(sample, "41873", "41873.5")))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := NewReader("r", bytes.NewReader(raw))
		if err != nil {
			return
		}
		s, err := Summarise(r)
		if err != nil {
			return
		}
		if s.Requests < 1 || s.Span < 0 || s.Count(s.Names()) != s.Requests {
			t.Fatalf("%+v", s)
		}
		if n := s.Shape(s.Names()).Count(0, s.Period()); n < float64(s.Requests)*0.999 || n > float64(s.Requests)*1.001 {
			t.Fatalf("%d requests, and %v in the shape", s.Requests, n)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var file bytes.Buffer
	w := NewWriter(&file)
	for i := range 100_000 {
		require.NoError(b, w.Add(1e15+int64(i)*137, "browse", 2))
	}
	require.NoError(b, w.End())
	b.SetBytes(int64(file.Len()))
	for b.Loop() {
		r, err := NewReader("r", bytes.NewReader(file.Bytes()))
		require.NoError(b, err)
		s, err := Summarise(r)
		require.NoError(b, err)
		require.Equal(b, int64(100_000), s.Requests)
	}
	b.ReportMetric(float64(b.N)*100_000/b.Elapsed().Seconds(), "requests/s")
}
