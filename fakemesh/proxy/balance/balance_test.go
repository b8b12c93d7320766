package balance

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// set is one whose failed endpoints stay so.
func set(failFast time.Duration) *Set[string] {
	return New(failFast, func(context.Context, string) error { return errors.New("still dead") })
}

func same(key string) string { return key }

func pickNow(t *testing.T, s *Set[string]) *Member[string] {
	t.Helper()
	m, _, _ := s.pick()
	require.NotNil(t, m)
	return m
}

func TestTheFasterEndpointGetsMoreRequests(t *testing.T) {
	s := set(time.Second)
	s.Update([]string{"fast", "slow"}, same)
	got := map[string]int{}
	for range 1000 {
		m := pickNow(t, s)
		got[m.Endpoint]++
		rtt := time.Millisecond
		if m.Endpoint == "slow" {
			rtt = 100 * time.Millisecond
		}
		m.Done(rtt)
	}
	require.Greater(t, got["fast"], 900)
}

func TestRequestsInHandWeighAsMuchAsLatency(t *testing.T) {
	s := set(time.Second)
	s.Update([]string{"a", "b", "c", "d"}, same)
	in := map[string]int{}
	for range 40 {
		in[pickNow(t, s).Endpoint]++ // none is given back
	}
	for name, n := range in {
		require.InDelta(t, 10, n, 5, name)
	}
}

func TestWhatStaysKeepsWhatIsKnownOfItAndWhatLeavesIsTold(t *testing.T) {
	s := set(time.Second)
	s.Update([]string{"a", "b", "a"}, same)
	before := s.members["a"]
	gone := s.Update([]string{"a", "c"}, same)
	require.Equal(t, []string{"b"}, gone)
	require.Same(t, before, s.members["a"])
	require.Len(t, s.ready, 2)
}

func TestWithoutEndpointsPicksWaitThenFailFast(t *testing.T) {
	s := set(50 * time.Millisecond)
	begin := time.Now()
	_, err := s.Pick(context.Background(), begin.Add(time.Minute))
	require.ErrorIs(t, err, ErrUnavailable)
	require.GreaterOrEqual(t, time.Since(begin), 50*time.Millisecond)
	begin = time.Now()
	_, err = s.Pick(context.Background(), begin.Add(time.Minute))
	require.ErrorIs(t, err, ErrUnavailable)
	require.Less(t, time.Since(begin), 40*time.Millisecond)
	s.Update([]string{"a"}, same)
	m, err := s.Pick(context.Background(), time.Now().Add(time.Minute))
	require.NoError(t, err)
	m.Done(time.Millisecond)
}

func TestAPickEndsWithItsContextOrDeadline(t *testing.T) {
	s := set(time.Hour)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := s.Pick(ctx, time.Now().Add(time.Minute))
	require.ErrorIs(t, err, context.Canceled)
	_, err = s.Pick(context.Background(), time.Now().Add(10*time.Millisecond))
	require.ErrorIs(t, err, ErrUnavailable)
}

func TestAPickWaitsForAnEndpointToCome(t *testing.T) {
	s := set(time.Minute)
	time.AfterFunc(10*time.Millisecond, func() { s.Update([]string{"late"}, same) })
	m, err := s.Pick(context.Background(), time.Now().Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, "late", m.Endpoint)
}

func BenchmarkPickOf50(b *testing.B) {
	s := set(time.Second)
	var keys []string
	for i := range 50 {
		keys = append(keys, string(rune('a'+i)))
	}
	s.Update(keys, same)
	b.ReportAllocs()
	for b.Loop() {
		m, _, _ := s.pick()
		m.Done(time.Millisecond)
	}
}
