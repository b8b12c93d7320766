package traffic

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/recording"
)

// recorded writes a recording of requests at the given times.
func recordedAt(t *testing.T, all ...recording.Request) *scenarios.Replay {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recorded.jsonl")
	f, err := recording.Create(path)
	require.NoError(t, err)
	for _, q := range all {
		require.NoError(t, f.Add(q.At.Microseconds(), q.Route, q.Class))
	}
	require.NoError(t, f.Commit())
	sum, err := recording.Scan(path)
	require.NoError(t, err)
	return &scenarios.Replay{File: path, Scale: 1, CompressTo: sum.Period(), Bodies: scenarios.BodiesSynthesised, Recording: sum}
}

// evenly are n requests, a gap apart, of the routes by turns.
func evenly(n int, gap time.Duration, routes ...string) []recording.Request {
	all := make([]recording.Request, n)
	for i := range all {
		all[i] = recording.Request{At: time.Duration(i) * gap, Route: routes[i%len(routes)], Class: 2}
	}
	return all
}

// replayUntil collects what a replay of all its routes sends before end.
func replayUntil(t *testing.T, r *scenarios.Replay, seed uint64, end, step time.Duration, scale func(time.Duration) float64) []arrival {
	t.Helper()
	s, err := newReplay(r, scenarios.Traffic{Replay: r}.Rates(), lane{streams: 1, share: 1, routes: r.Routes()}, seed, scale)
	require.NoError(t, err)
	var all []arrival
	for horizon := step; ; horizon += step {
		for {
			a, ok := s.next(min(horizon, end))
			if !ok {
				break
			}
			if a.at < end {
				all = append(all, a)
			} else {
				break
			}
		}
		if horizon >= end {
			require.NoError(t, s.close())
			require.True(t, slices.IsSortedFunc(all, func(a, b arrival) int { return int(a.at - b.at) }))
			return all
		}
	}
}

func always(scale float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return scale }
}

func TestAReplayKeepsOrderAndGapsAndBeginsAgain(t *testing.T) {
	r := recordedAt(t, recording.Request{At: 0, Route: "browse"}, recording.Request{At: time.Second, Route: "order"},
		recording.Request{At: 1001 * time.Millisecond, Route: "browse"}, recording.Request{At: 9 * time.Second, Route: "search"})
	require.Equal(t, 12*time.Second, r.CompressTo)
	want := []arrival{
		{0, "browse", 0}, {time.Second, "order", 1}, {1001 * time.Millisecond, "browse", 2}, {9 * time.Second, "search", 3},
		{12 * time.Second, "browse", 4}, {13 * time.Second, "order", 5}, {13001 * time.Millisecond, "browse", 6}, {21 * time.Second, "search", 7},
	}
	require.Equal(t, want, replayUntil(t, r, 1, 24*time.Second, time.Second, always(1)))
	require.Equal(t, want, replayUntil(t, r, 2, 24*time.Second, 7*time.Millisecond, always(1)), "whoever asks, and how often")

	r.CompressTo = 1200 * time.Millisecond
	for i := range want {
		want[i].at /= 10
	}
	require.Equal(t, want, replayUntil(t, r, 1, 2400*time.Millisecond, time.Second, always(1)))

	r.Bodies = scenarios.BodiesNone
	got := replayUntil(t, r, 1, 2400*time.Millisecond, time.Second, always(1))
	require.Len(t, got, 6, "orders have a body")
	require.False(t, slices.ContainsFunc(got, func(a arrival) bool { return a.route == "order" }))
}

func TestAScaleBelowOneThinsAndAboveLaysCopiesOver(t *testing.T) {
	const n = 20_000
	r := recordedAt(t, evenly(n, 10*time.Millisecond, "browse", "order")...)
	original := map[time.Duration]bool{}
	for i := range n {
		original[time.Duration(i)*10*time.Millisecond] = true
	}
	for _, c := range []struct{ replay, phase float64 }{{0.25, 1}, {1, 0.25}, {2.5, 1}, {1.25, 2}, {3, 0}, {3, -1}} {
		r.Scale = c.replay
		by := c.replay * max(0, c.phase)
		got := replayUntil(t, r, 7, r.CompressTo, time.Second, always(c.phase))
		// a copy may come after the end, and then belongs to the next time through
		require.InDelta(t, n*by, len(got), 0.02*n*by+4.5*math.Sqrt(n*by))
		kept := 0
		for _, a := range got {
			if original[a.at] {
				kept++
			}
		}
		require.InDelta(t, n*min(by, 1), kept, 4.5*math.Sqrt(n*by), "the requests themselves stay where they are")
		require.Equal(t, got, replayUntil(t, r, 7, r.CompressTo, 9*time.Second, always(c.phase)), "the same seed")
		if by > 0 && by != 3 {
			require.NotEqual(t, got, replayUntil(t, r, 8, r.CompressTo, time.Second, always(c.phase)), "another seed")
		}
	}
}

func TestCopiesComeLaterByChanceAndSoon(t *testing.T) {
	r := recordedAt(t, evenly(3600, time.Second, "browse")...)
	r.Scale, r.CompressTo = 2, 360*time.Second // an hour in six minutes
	got := replayUntil(t, r, 1, 300*time.Second, time.Second, always(1))
	var sum, count float64
	for _, a := range got {
		if a.at%(100*time.Millisecond) != 0 {
			// the farthest is 36 s of the recording, a hundredth of it, later
			sum += (a.at % (100 * time.Millisecond)).Seconds()
			count++
		}
	}
	require.InDelta(t, 3000, count, 50)
	require.InDelta(t, 0.05, sum/count, 0.005)
	for i := 1; i < len(got); i++ {
		require.Less(t, got[i].at-got[i-1].at, 101*time.Millisecond)
	}
}

func TestTheLanesOfAReplayShareItOut(t *testing.T) {
	r := recordedAt(t, evenly(9000, time.Millisecond, "browse", "grpc-stock", "order")...)
	r.Scale = 1.5
	whole := replayUntil(t, r, 3, 5*time.Second, time.Second, always(1))
	plan, err := newSenderPlan(scenarios.Traffic{Replay: r}.Weights())
	require.NoError(t, err)
	var parts []arrival
	for _, l := range plan.lanes(3) {
		s, err := replayed(r, scenarios.Traffic{Replay: r}.Rates(), 3, always(1))(l)
		require.NoError(t, err)
		for {
			a, ok := s.next(5*time.Second - 1)
			if !ok || a.at >= 5*time.Second {
				break
			}
			require.Contains(t, l.routes, a.route)
			a.seq = 0 // each lane's own
			parts = append(parts, a)
		}
		require.InEpsilon(t, 1500*l.share, s.Rate(0), 0.01)
		require.NoError(t, s.close())
	}
	require.Equal(t, []float64{2. / 3, 1. / 3}, []float64{plan.share["http"], plan.share["grpc-stock"]})
	for i := range whole {
		whole[i].seq = 0
	}
	require.ElementsMatch(t, whole, parts)
}

func TestARecordingIsReplayedToTheShop(t *testing.T) {
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	r := recordedAt(t, evenly(600, 100*time.Millisecond, "browse", "order", "grpc-stock")...)
	r.CompressTo = 2 * time.Second // 300 a second
	o.Traffic.Replay, o.Traffic.Mix = r, nil
	s := run(t, o, func(*Stream) { time.Sleep(1500 * time.Millisecond) })
	audit(t, s, rec)
	onlySent(t, rec)
	offset, sent := int64(s.began.Sub(o.Begin)), map[string]int{}
	for _, q := range rec.all {
		sent[q.Route]++
		n := float64(q.Scheduled-offset) / float64(2*time.Second) * 600
		require.InDelta(t, math.Round(n), n, 1e-3, "at an instant of the recording")
		require.Equal(t, []string{"browse", "order", "grpc-stock"}[int(math.Round(n))%3], q.Route)
		require.Equal(t, q.Route == "order", q.OrderID != "")
	}
	for route, n := range sent {
		require.InDelta(t, 150, n, 40, route)
	}

	*rec = record{}
	r.Bodies = scenarios.BodiesNone
	s = run(t, o, func(*Stream) { time.Sleep(300 * time.Millisecond) })
	audit(t, s, rec)
	require.NotEmpty(t, rec.all)
	require.False(t, slices.ContainsFunc(rec.all, func(q results.Request) bool { return q.Route == "order" }))
}

func TestARecordingThatBreaksOffIsToldAtTheEnd(t *testing.T) {
	r := recordedAt(t, evenly(200, time.Millisecond, "browse")...)
	raw, err := os.ReadFile(r.File)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(raw), "\n")
	require.NoError(t, os.WriteFile(r.File, []byte(strings.Join(lines[:100], "")), 0o600))
	shop, rec := openShop(t), &record{}
	o := testOptions(shop, rec)
	o.Traffic.Replay, o.Traffic.Mix = r, nil
	s, err := Start(t.Context(), o)
	require.NoError(t, err)
	time.Sleep(300 * time.Millisecond)
	err = s.Stop()
	require.ErrorContains(t, err, "replay: "+r.File+":101: the recording was cut off")
	audit(t, s, rec)
	require.Len(t, rec.all, 99)

	require.NoError(t, os.Remove(r.File))
	_, err = Start(t.Context(), o)
	require.ErrorContains(t, err, "is not there")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

func BenchmarkReplay(b *testing.B) {
	path := filepath.Join(b.TempDir(), "recorded.jsonl")
	f, err := recording.Create(path)
	require.NoError(b, err)
	for i := range 100_000 {
		require.NoError(b, f.Add(int64(i)*1000, "browse", 2))
	}
	require.NoError(b, f.Commit())
	sum, err := recording.Scan(path)
	require.NoError(b, err)
	r := &scenarios.Replay{File: path, Scale: 1, CompressTo: sum.Period(), Recording: sum}
	s, err := newReplay(r, scenarios.Traffic{Replay: r}.Rates(), lane{routes: r.Routes()}, 1, always(1))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := s.next(math.MaxInt64); !ok {
			b.Fatal("the replay ended")
		}
	}
	require.NoError(b, s.close())
}
