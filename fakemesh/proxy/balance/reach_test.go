package balance

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is what an endpoint leads to; those of one test are tried by name.
type server struct {
	alive atomic.Bool
	tried atomic.Int64
}

var errDead = errors.New("dead")

// reachable is a set of endpoints "dead" and "alive" of which dead is tried by d.
func reachable(d *server, keys ...string) *Set[string] {
	s := New(3*time.Second, func(_ context.Context, key string) error {
		if key != "dead" {
			return fmt.Errorf("%s never failed", key)
		}
		d.tried.Add(1)
		if d.alive.Load() {
			return nil
		}
		return errDead
	})
	s.Update(keys, same)
	return s
}

// fail has the endpoint "dead" fail once a request picks it.
func fail(t *testing.T, s *Set[string]) {
	t.Helper()
	for {
		m := pickNow(t, s)
		if m.Endpoint == "dead" {
			m.Failed()
			return
		}
		m.Done(0)
	}
}

func counts(s *Set[string]) [2]int {
	ready, pending := s.Counts()
	return [2]int{ready, pending}
}

func TestAnEndpointThatFailedGetsNoRequestUntilItIsReachedInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &server{}
		s := reachable(d, "dead", "alive")
		fail(t, s)
		require.Equal(t, [2]int{1, 1}, counts(s))
		begin := time.Now()
		for time.Since(begin) < time.Minute {
			m := pickNow(t, s)
			require.Equal(t, "alive", m.Endpoint)
			m.Done(time.Millisecond)
			time.Sleep(10 * time.Millisecond)
		}
		// Pauses of 100, 200, 400, 800, 1600 and then 2000 ms on average.
		require.InDelta(t, 33, d.tried.Load(), 15)

		d.alive.Store(true)
		time.Sleep(maxBackoff * 3 / 2)
		synctest.Wait()
		require.Equal(t, [2]int{2, 0}, counts(s))
		tried := d.tried.Load()
		time.Sleep(time.Minute)
		require.Equal(t, tried, d.tried.Load(), "it is not tried any more")
	})
}

func TestAnEndpointThatIsReachedButNeverAnswersIsLeftAloneForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &server{}
		d.alive.Store(true)
		s := reachable(d, "dead")
		for range 6 {
			fail(t, s)
			_, err := s.Pick(t.Context(), time.Now().Add(time.Hour))
			require.NoError(t, err)
		}
		begin := time.Now()
		fail(t, s)
		m, err := s.Pick(t.Context(), time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(begin), maxBackoff/2)
		m.Done(time.Millisecond)

		begin = time.Now()
		fail(t, s)
		_, err = s.Pick(t.Context(), time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(begin), minBackoff*3/2, "it had answered")
	})
}

func TestAnAnswerToAnEarlierRequestBringsAnEndpointBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &server{}
		s := reachable(d, "dead")
		earlier := pickNow(t, s)
		fail(t, s)
		require.Equal(t, [2]int{0, 1}, counts(s))
		earlier.Done(time.Millisecond)
		require.Equal(t, [2]int{1, 0}, counts(s))
		time.Sleep(time.Minute)
		require.Zero(t, d.tried.Load())
	})
}

func TestWhenAllHaveFailedRequestsWaitForTheFirstThatIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &server{}
		s := reachable(d, "dead")
		fail(t, s)
		time.AfterFunc(time.Second, func() { d.alive.Store(true) })
		begin := time.Now()
		m, err := s.Pick(t.Context(), begin.Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, "dead", m.Endpoint)
		require.Less(t, time.Since(begin), 3*time.Second)
	})
}

func TestOneOfSeveralFailuresTogetherIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &server{}
		s := reachable(d, "dead")
		all := []*Member[string]{pickNow(t, s), pickNow(t, s), pickNow(t, s)}
		for _, m := range all {
			m.Failed()
		}
		require.Equal(t, [2]int{0, 1}, counts(s))
		time.Sleep(minBackoff * 3 / 2)
		synctest.Wait()
		require.EqualValues(t, 1, d.tried.Load())
		s.Update(nil, same)
	})
}

// synctest.Test itself fails where a goroutine is left.
func TestNobodyTriesAnEndpointThatLeft(t *testing.T) {
	for name, leave := range map[string]func(s *Set[string], failing *Member[string]){
		"before it failed": func(s *Set[string], failing *Member[string]) {
			s.Update([]string{"alive"}, same)
			failing.Failed()
		},
		"while it is left alone": func(s *Set[string], failing *Member[string]) {
			failing.Failed()
			s.Update([]string{"alive"}, same)
		},
		"with all others": func(s *Set[string], failing *Member[string]) {
			failing.Failed()
			s.Update(nil, same)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &server{}
				s := reachable(d, "dead")
				leave(s, pickNow(t, s))
				time.Sleep(time.Minute)
				require.Zero(t, d.tried.Load())
				s.Update([]string{"dead"}, same)
				require.Equal(t, [2]int{1, 0}, counts(s), "it is a new one")
			})
		})
	}
}

func TestAnAttemptEndsWhenTheEndpointLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		s := New(time.Second, func(ctx context.Context, _ string) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		})
		s.Update([]string{"dead"}, same)
		fail(t, s)
		time.Sleep(time.Second)
		s.Update(nil, same)
		synctest.Wait()
		require.True(t, ended)
	})
}
