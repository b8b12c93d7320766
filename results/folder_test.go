package results

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshsim.dev/meshsim/clusters/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func request(seq uint64) Request {
	at := int64(seq) * int64(time.Millisecond)
	return Request{
		Seq: seq, Scheduled: at, Sent: at + 1000, Done: at + 5_000_000, Phase: "baseline",
		Route: "browse", Proto: "http", Status: 200, Outcome: OK,
	}
}

func readAll(t *testing.T, f *Folder) ([]Request, Read, error) {
	t.Helper()
	var all []Request
	read, err := f.EachRequest(func(r Request) error { all = append(all, r); return nil })
	return all, read, err
}

func newFolder(t testing.TB) *Folder {
	t.Helper()
	f, err := Create(t.TempDir(), "20260102T030405Z-demo")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

func TestARunIDSortsByTime(t *testing.T) {
	early := NewID(time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("X", 3600)), "mtls-rollout")
	late := NewID(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "a")
	require.Equal(t, "20260102T020405Z-mtls-rollout", early)
	require.Less(t, early, late)
}

func TestWhatSeveralGoroutinesAddIsReadBackWhole(t *testing.T) {
	f := newFolder(t)
	require.NoError(t, f.WriteRun(Run{ID: f.ID, Scenario: "demo"}))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				if err := f.AddRequest(request(uint64(g*500 + i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, f.AddEvent(Event{At: 1, Kind: Pod, Name: "p", Fields: map[string]string{FieldState: StateReady}}))
	p, err := NewProbe(2, ProbeInjection, "soak", Injection{Pods: 3, Injected: 2, Missing: []string{"x"}})
	require.NoError(t, err)
	require.NoError(t, f.AddProbe(p))
	require.NoError(t, f.Close())
	require.NoError(t, f.Close(), "closing twice is fine")

	read, err := Open(f.Path)
	require.NoError(t, err)
	all, how, err := readAll(t, read)
	require.NoError(t, err)
	require.Equal(t, Read{Lines: 4000}, how)
	seen := map[uint64]bool{}
	for _, r := range all {
		require.Equal(t, request(r.Seq), r)
		seen[r.Seq] = true
	}
	require.Len(t, seen, 4000)
	events, how, err := read.Events()
	require.NoError(t, err)
	require.Equal(t, int64(1), how.Lines)
	require.Equal(t, StateReady, events[0].Fields[FieldState])
	probes, _, err := read.Probes()
	require.NoError(t, err)
	require.JSONEq(t, `{"pods":3,"injected":2,"missing":["x"]}`, string(probes[0].Data))
	run, err := read.Run()
	require.NoError(t, err)
	require.Equal(t, Recorded{Requests: 4000, Events: 1, Probes: 1}, run.Recorded)
	require.False(t, run.Ended())
}

func TestLinesReachTheFileWithoutAClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	w, err := newLineWriter(path, 5*time.Millisecond)
	require.NoError(t, err)
	defer w.close()
	require.NoError(t, w.add(map[string]int{"a": 1}))
	require.Eventually(t, func() bool {
		raw, _ := os.ReadFile(path)
		return string(raw) == "{\"a\":1}\n"
	}, 5*time.Second, 5*time.Millisecond)
}

func TestWhatWasAddedIsReadAtOnce(t *testing.T) {
	f := newFolder(t)
	require.NoError(t, f.AddRequest(request(1)))
	all, _, err := readAll(t, f)
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func TestNothingCanBeAddedAfterTheEnd(t *testing.T) {
	f := newFolder(t)
	require.NoError(t, f.WriteRun(Run{ID: f.ID}))
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.AddRequest(request(1)), os.ErrClosed)
	read, err := Open(f.Path)
	require.NoError(t, err)
	require.ErrorIs(t, read.AddRequest(request(1)), ErrReadOnly)
	require.ErrorIs(t, read.AddEvent(Event{Kind: Note}), ErrReadOnly)
}

func TestAFailedWriteIsToldByEveryLaterAddAndByClose(t *testing.T) {
	f, err := Create(t.TempDir(), "x")
	require.NoError(t, err)
	require.NoError(t, f.requests.file.Close())
	long := request(1)
	long.Error = strings.Repeat("x", 70<<10)
	require.ErrorIs(t, f.AddRequest(long), os.ErrClosed)
	require.ErrorIs(t, f.AddRequest(request(2)), os.ErrClosed)
	require.ErrorIs(t, f.Close(), os.ErrClosed)
}

func TestARunNeverWritesIntoAnother(t *testing.T) {
	root := t.TempDir()
	f, err := Create(root, "x")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = Create(root, "x")
	require.ErrorIs(t, err, os.ErrExist)
	for _, bad := range []string{"", "../x", "a/b"} {
		_, err = Create(root, bad)
		require.ErrorContains(t, err, "not a plain folder name", bad)
	}
}

// cutFolder returns a finished folder of 6 requests and the bytes of its record.
func cutFolder(t *testing.T) (*Folder, []byte) {
	f := newFolder(t)
	require.NoError(t, f.WriteRun(Run{ID: f.ID, EndedAt: time.Unix(1, 0)}))
	for i := range 6 {
		require.NoError(t, f.AddRequest(request(uint64(i))))
	}
	require.NoError(t, f.Close())
	raw, err := os.ReadFile(filepath.Join(f.Path, RequestsFile))
	require.NoError(t, err)
	return f, raw
}

func TestARecordCutAtAnyByteIsReadAsFarAsItGoes(t *testing.T) {
	f, raw := cutFolder(t)
	for size := range raw {
		require.NoError(t, os.WriteFile(filepath.Join(f.Path, RequestsFile), raw[:size], 0o644))
		all, how, err := readAll(t, f)
		require.NoError(t, err, "cut at %d", size)
		whole := strings.Count(string(raw[:size]), "\n")
		atBoundary := size == 0 || raw[size-1] == '\n'
		require.Equal(t, !atBoundary, how.Cut, "cut at %d", size)
		if raw[size] == '\n' { // only the line's end is missing
			whole++
		}
		require.Len(t, all, whole, "cut at %d", size)
	}
}

func TestADamagedLineInTheMiddleNamesFileAndLine(t *testing.T) {
	good := `{"seq":1,"scheduled":1,"sent":2,"done":3,"outcome":"ok"}`
	for name, c := range map[string]struct{ line, want string }{
		"not JSON":                {`{"seq":1,`, "unexpected end of JSON"},
		"empty":                   {``, "unexpected end of JSON"},
		"wrong type":              {`{"seq":"one","outcome":"ok"}`, "cannot unmarshal string"},
		"unknown outcome":         {`{"seq":7,"outcome":"fine"}`, `request 7 has the unknown outcome "fine"`},
		"no outcome":              {`{}`, `unknown outcome ""`},
		"done before sent":        {`{"seq":7,"sent":5,"done":4,"outcome":"ok"}`, "done before it is sent"},
		"scheduled before start":  {`{"seq":7,"scheduled":-5,"outcome":"undispatched"}`, "before the run's start"},
		"number out of its range": {`{"seq":-1,"outcome":"ok"}`, "cannot unmarshal number"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &Folder{Path: t.TempDir()}
			path := filepath.Join(f.Path, RequestsFile)
			require.NoError(t, os.WriteFile(path, []byte(good+"\n"+c.line+"\n"+good+"\n"), 0o644))
			_, _, err := readAll(t, f)
			require.ErrorContains(t, err, path+":2: ")
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestAReaderStopsAtTheFirstErrorOfItsCaller(t *testing.T) {
	f, _ := cutFolder(t)
	stop := errors.New("enough")
	n := 0
	_, err := f.EachRequest(func(Request) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, 3, n)
}

func TestALineLongerThanAnyIsRefused(t *testing.T) {
	f := &Folder{Path: t.TempDir()}
	line := `{"kind":"note","name":"` + strings.Repeat("x", maxLine) + "\"}\n"
	require.NoError(t, os.WriteFile(filepath.Join(f.Path, EventsFile), []byte(line), 0o644))
	_, _, err := f.Events()
	require.ErrorIs(t, err, errLongLine)
}

func TestALineLongerThanTheBufferIsReadWhole(t *testing.T) {
	f := &Folder{Path: t.TempDir()}
	name := strings.Repeat("x", 600<<10)
	line := fmt.Sprintf("{\"kind\":\"note\",\"name\":%q}\n", name)
	require.NoError(t, os.WriteFile(filepath.Join(f.Path, EventsFile), []byte(line+line), 0o644))
	events, _, err := f.Events()
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.Equal(t, name, events[1].Name)
}

func TestOpenWantsAReadableRunFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir)
	require.ErrorContains(t, err, "is not a run folder: it has no run.json")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	require.NoError(t, os.WriteFile(filepath.Join(dir, RunFile), []byte("{\n\"id\": \"x\",\n\"seed\": \"y\"}"), 0o644))
	_, err = Open(dir)
	require.ErrorContains(t, err, "run.json:3: ")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func TestLatestIsTheNewestFolderThatHoldsARun(t *testing.T) {
	root := filepath.Join(t.TempDir(), "runs")
	_, err := Latest(root)
	require.ErrorContains(t, err, "there is no run below")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	for _, id := range []string{"20260101T000000Z-a", "20260102T000000Z-b"} {
		f, err := Create(root, id)
		require.NoError(t, err)
		require.NoError(t, f.WriteRun(Run{ID: id}))
		require.NoError(t, f.Close())
	}
	require.NoError(t, os.Mkdir(filepath.Join(root, "20260103T000000Z-empty"), 0o755))
	got, err := Latest(root)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(root, "20260102T000000Z-b"), got)
}

func TestAVerdictIsReadBackAsItWasWritten(t *testing.T) {
	f := newFolder(t)
	v := Verdict{Verdict: Fail, Scenario: "s", StandIns: []string{"fakeshop"}, Requests: RequestCounts{Total: 3, Failed: 1}}
	require.NoError(t, f.WriteVerdict(v))
	got, err := f.ReadVerdict()
	require.NoError(t, err)
	require.Equal(t, v, got)
	require.NoError(t, f.WriteReport(MarkdownFile, []byte("# x")))
	left, err := filepath.Glob(filepath.Join(f.Path, ".*"))
	require.NoError(t, err)
	require.Empty(t, left, "no temporary file stays")
}

func TestTheGraverJudgementWins(t *testing.T) {
	require.Equal(t, Fail, Pass.Worse(Fail))
	require.Equal(t, Fail, Fail.Worse(Inconclusive))
	require.Equal(t, Inconclusive, Inconclusive.Worse(Pass))
	require.Equal(t, Pass, Pass.Worse(Pass))
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("{\"seq\":1,\"outcome\":\"ok\"}\n{\"se"))
	f.Add([]byte("{\"kind\":\"pod\",\"fields\":{\"state\":\"ready\"}}\n"))
	f.Add([]byte("{\"probe\":\"mtls\",\"data\":{\"tls\":1}}"))
	f.Add([]byte("\n\n\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		folder := &Folder{Path: t.TempDir()}
		for _, name := range []string{RequestsFile, EventsFile, ProbesFile, RunFile, VerdictFile} {
			require.NoError(t, os.WriteFile(filepath.Join(folder.Path, name), raw, 0o644))
		}
		lines := int64(strings.Count(string(raw), "\n") + 1)
		check := func(read Read, err error) {
			if err != nil && !strings.Contains(err.Error(), ".jsonl:") {
				t.Errorf("an error without its place: %v", err)
			}
			if read.Lines > lines {
				t.Errorf("%d lines read of %d", read.Lines, lines)
			}
		}
		check(folder.EachRequest(func(r Request) error {
			if r.Outcome != Undispatched && r.Done < r.Sent {
				t.Error("a request is done before it is sent")
			}
			return nil
		}))
		_, read, err := folder.Events()
		check(read, err)
		_, read, err = folder.Probes()
		check(read, err)
		if _, err := Open(folder.Path); err != nil {
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		}
		_, _ = folder.ReadVerdict()
	})
}
