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
