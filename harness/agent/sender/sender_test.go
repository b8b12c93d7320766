package sender

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"meshsim.dev/meshsim/fakeshop/shopapi"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// begin serves an agent that may send 100 requests a second to a shop.
func begin(t *testing.T, patience time.Duration) (base string, ended chan error) {
	t.Helper()
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(shopapi.PodHeader, "shop-1")
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(shop.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended = make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
	})
	o := Options{
		Plan: wire.Plan{
			Version: wire.Version, Run: "run-1", Group: "load", Seed: 1, Part: wire.Part{To: 1, Of: 1}, Hosts: []string{"127.0.0.1"},
			HTTP:    strings.TrimPrefix(shop.URL, "http://"),
			Traffic: wire.Traffic{Rate: 100, CompressTo: time.Minute, Timeout: time.Second, MaxLate: time.Second, Mix: map[string]int{"browse": 1}},
		},
		Pod: "load-0", Spool: filepath.Join(t.TempDir(), "spool"), Patience: patience, Log: slog.New(slog.DiscardHandler),
	}
	go func() { ended <- Serve(ctx, l, o) }()
	return "http://" + l.Addr().String(), ended
}

// ask returns the answer's code and body.
func ask(t *testing.T, method, url string, question any) (int, []byte) {
	t.Helper()
	raw, err := json.Marshal(question)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(raw))
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, body
}

func clockOf(t *testing.T, base string) (c wire.Clock) {
	t.Helper()
	code, body := ask(t, "GET", base+wire.ClockPath, nil)
	require.Equal(t, 200, code)
	require.NoError(t, json.Unmarshal(body, &c))
	return c
}

// frames reads a stream from its begin.
func frames(t *testing.T, raw []byte) (records []results.Request, sum wire.Summary) {
	t.Helper()
	r, in := &wire.Reader{}, bytes.NewReader(raw)
	for {
		f, err := r.Next(in)
		if errors.Is(err, io.EOF) {
			return records, sum
		}
		require.NoError(t, err)
		switch f.Kind {
		case wire.Record:
			var q results.Request
			require.NoError(t, json.Unmarshal(f.Payload, &q))
			records = append(records, q)
		case wire.End:
			require.NoError(t, json.Unmarshal(f.Payload, &sum))
		}
	}
}

func TestAnAgentSendsFromItsJoinToTheChangeAndLeavesWhenTold(t *testing.T) {
	base, ended := begin(t, time.Minute)
	ms := int64(time.Millisecond)
	line := wire.Timeline{Join: 300 * ms, Scales: []wire.Scale{{At: 0, Scale: 1}}}
	start := wire.Start{Zero: clockOf(t, base).Mono, Timeline: line}
	code, body := ask(t, "POST", base+wire.StartPath, start)
	require.Equal(t, 200, code, string(body))
	code, _ = ask(t, "POST", base+wire.StartPath, start)
	require.Equal(t, 200, code, "the answer may have been lost")

	line.Scales = append(line.Scales, wire.Scale{At: 800 * ms})
	code, body = ask(t, "PUT", base+wire.TimelinePath, line)
	require.Equal(t, 200, code, string(body))
	time.Sleep(1100 * time.Millisecond)
	code, body = ask(t, "PUT", base+wire.TimelinePath, wire.Timeline{Join: line.Join, Scales: append(line.Scales, wire.Scale{At: 900 * ms, Scale: 1})})
	require.Equal(t, 409, code, string(body))

	code, _ = ask(t, "POST", base+wire.StopPath, nil)
	require.Equal(t, 200, code)
	code, whole := ask(t, "GET", base+wire.RecordsPath+"?offset=0", nil)
	require.Equal(t, 200, code)
	records, sum := frames(t, whole)
	require.Greater(t, len(records), 20)
	require.EqualValues(t, len(records), sum.Scheduled)
	require.Equal(t, sum.Scheduled, sum.Requests+sum.Undispatched)
	h, err := wire.DecodeHistogram(sum.Latencies)
	require.NoError(t, err)
	require.Equal(t, sum.Requests, h.TotalCount())
	for _, q := range records {
		require.GreaterOrEqual(t, q.Scheduled, line.Join)
		require.Less(t, q.Scheduled, 800*ms)
	}
	_, rest := ask(t, "GET", fmt.Sprintf("%s%s?offset=%d", base, wire.RecordsPath, len(whole)/2), nil)
	require.Equal(t, whole[len(whole)/2:], rest, "a stream goes on where it broke")

	code, _ = ask(t, "POST", fmt.Sprintf("%s%s?offset=%d", base, wire.TakenPath, len(whole)), nil)
	require.Equal(t, 200, code)
	code, _ = ask(t, "POST", base+wire.LeavePath, nil)
	require.Equal(t, 200, code)
	require.NoError(t, <-ended)
}

func TestAnAgentThatNobodyAsksEnds(t *testing.T) {
	_, ended := begin(t, 100*time.Millisecond)
	require.ErrorIs(t, <-ended, errDeserted)
}

func TestWhatIsAskedWronglyIsRefused(t *testing.T) {
	base, _ := begin(t, time.Minute)
	for _, c := range []struct {
		name, method, path string
		question           any
		code               int
	}{
		{"a change before the start", "PUT", wire.TimelinePath, wire.Timeline{}, 500},
		{"a join that has passed", "POST", wire.StartPath, wire.Start{Zero: -int64(time.Hour)}, 409},
		{"a timeline out of order", "POST", wire.StartPath, wire.Start{Timeline: wire.Timeline{Scales: []wire.Scale{{At: 2}, {At: 1}}}}, 500},
		{"words", "POST", wire.StartPath, "now", 400},
		{"no offset", "GET", wire.RecordsPath, nil, 400},
		{"a negative offset", "POST", wire.TakenPath + "?offset=-1", nil, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, body := ask(t, c.method, base+c.path, c.question)
			require.Equal(t, c.code, code, string(body))
		})
	}
}

func TestWhoAnAgentIs(t *testing.T) {
	base, _ := begin(t, time.Minute)
	_, body := ask(t, "GET", base+wire.HelloPath, nil)
	var h wire.Hello
	require.NoError(t, json.Unmarshal(body, &h))
	require.Equal(t, []any{wire.Version, "run-1", "load", 0, "load-0"}, []any{h.Version, h.Run, h.Group, h.Index, h.Pod})
}

func TestASpoolGivesRoomBackAndKeepsTheRest(t *testing.T) {
	s, err := openSpool(filepath.Join(t.TempDir(), "spool"))
	require.NoError(t, err)
	for range 2000 {
		require.NoError(t, s.add(wire.Record, results.Request{Route: strings.Repeat("x", 100)}))
	}
	require.NoError(t, s.add(wire.End, wire.Summary{}))
	require.NoError(t, s.add(wire.Beat, nil), "after the end there is nothing to add")
	size, ended, _, err := s.state()
	require.NoError(t, err)
	require.True(t, ended)
	var before, after bytes.Buffer
	none := func() error { return nil }
	require.NoError(t, s.copyTo(t.Context(), &before, size/2, none))
	require.NoError(t, s.forget(size/2))
	require.NoError(t, s.copyTo(t.Context(), &after, size/2, none))
	require.Equal(t, before.Bytes(), after.Bytes())
	require.ErrorContains(t, s.copyTo(t.Context(), &after, size+1, none), "is asked for from")
	require.NoError(t, s.close())
}
