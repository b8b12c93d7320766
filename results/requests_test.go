package results

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestManyBlocksOfRequestsAreReadInOrder(t *testing.T) {
	f := newFolder(t)
	const n = 8000 // several blocks
	for i := range n {
		r := request(uint64(i))
		r.Error = strings.Repeat("é", i%50)
		r.Hops = "~x@n/v1:12"
		require.NoError(t, f.AddRequest(r))
	}
	next := uint64(0)
	read, err := f.EachRequest(func(r Request) error {
		require.Equal(t, next, r.Seq)
		require.Len(t, r.Error, int(next%50)*2)
		next++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, Read{Lines: n}, read)

	stopped := errors.New("enough")
	read, err = f.EachRequest(func(r Request) error {
		if r.Seq == 5000 {
			return stopped
		}
		return nil
	})
	require.ErrorIs(t, err, stopped)
	require.ErrorContains(t, err, RequestsFile+":5001: ")
	require.Equal(t, int64(5000), read.Lines)
}

func TestADamagedLineInALaterBlockIsNamed(t *testing.T) {
	line, err := json.Marshal(request(1))
	require.NoError(t, err)
	f := &Folder{Path: t.TempDir()}
	lines := strings.Repeat(string(line)+"\n", 4000)
	for _, damage := range []string{"rubbish", `{"seq":1,"outcome":"never heard of"}`, string(line[:40]) + "\x00" + string(line[41:])} {
		require.NoError(t, os.WriteFile(filepath.Join(f.Path, RequestsFile), []byte(lines+damage+"\n"+lines), 0o644))
		read, err := f.EachRequest(func(Request) error { return nil })
		require.ErrorContains(t, err, RequestsFile+":4001: ", damage)
		require.Equal(t, int64(4000), read.Lines)
	}
	require.NoError(t, os.WriteFile(filepath.Join(f.Path, RequestsFile), []byte(lines+strings.Repeat("x", maxLine+blockSize+2)), 0o644))
	_, err = f.EachRequest(func(Request) error { return nil })
	require.ErrorContains(t, err, RequestsFile+":4001: the line is longer than 8 MiB")
}

func FuzzRequestLine(f *testing.F) {
	f.Add(`{"seq":1,"scheduled":2,"sent":3,"done":4,"phase":"a","route":"b","proto":"http","status":200,"outcome":"ok"}`)
	f.Add(`{"Seq":1,"outcome":"ok","error":"a \"b\" \u00e9"}`)
	f.Add(`{"seq":18446744073709551615,"scheduled":-1,"status":1e3,"x":[1,{}]}`)
	f.Add(`{"seq":1,"outcome":"ok","hop":"a\u003eb","error":"a \\u003e b"}`)
	f.Add(`{"seq":null,"phase":"é\xff"}`)
	f.Add(`{"seq":01,"seq":2}`)
	f.Fuzz(func(t *testing.T, line string) {
		var want Request
		err := json.Unmarshal([]byte(line), &want)
		d := requestDecoder{names: map[string]string{}}
		got, ok := d.quick([]byte(line))
		if !ok {
			return
		}
		if err != nil {
			t.Fatalf("%q is read quickly, and yet: %v", line, err)
		}
		if got != want {
			t.Fatalf("%q: %+v, not %+v", line, got, want)
		}
	})
}

func FuzzRequestIsWrittenAsByEncodingJSON(f *testing.F) {
	f.Add(uint64(1), int64(2), 200, "baseline", "edge>shop", "~x@n/v1:12(pay:1:2=~y@m/v1:3)", "")
	f.Add(^uint64(0), int64(-1), 0, "", "", "", `say "no" \ <b>&</b>`)
	f.Add(uint64(0), int64(0), -5, "é\xff", "\u2028", "\x7f\x00\n", ">")
	f.Fuzz(func(t *testing.T, seq uint64, at int64, status int, phase, hop, hops, why string) {
		for _, r := range []Request{
			{Seq: seq, Scheduled: at, Sent: at + 1, Done: at + 2, Status: status, Phase: phase, Hop: hop, Hops: hops, Error: why},
			{Route: phase, Proto: hop, Outcome: hops, Class: why, Pod: phase, OrderID: hop, Agent: hops},
		} {
			want, err := json.Marshal(r)
			require.NoError(t, err)
			require.Equal(t, string(want)+"\n", string(appendRequest(nil, &r)))
		}
	})
}

func BenchmarkAddRequest(b *testing.B) {
	f := newFolder(b)
	r := request(1)
	r.Hops = "~x@n/v1:12(pay:1:2=~y@m/v1:3)"
	b.ReportAllocs()
	for b.Loop() {
		if err := f.AddRequest(r); err != nil {
			b.Fatal(err)
		}
	}
}

func TestEveryRequestIsPreparedAndHandedOnInOrder(t *testing.T) {
	f := newFolder(t)
	const n = 8000 // several blocks
	for i := range n {
		require.NoError(t, f.AddRequest(request(uint64(i))))
	}
	next := uint64(0)
	read, err := EachPrepared(f, func(r *Request) uint64 { return 3 * r.Seq }, func(r *Request, prepared uint64) error {
		require.Equal(t, next, r.Seq)
		require.Equal(t, 3*next, prepared)
		next++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, Read{Lines: n}, read)
}
