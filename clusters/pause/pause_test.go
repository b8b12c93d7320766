package pause_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/pause"
)

func TestForLastsAsLongAsItIsTold(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, 0: 0, -time.Second: 0} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			require.NoError(t, pause.For(t.Context(), given))
			require.Equal(t, want, time.Since(began))
		})
	}
}

func TestForEndsWithItsContextAndSaysWhy(t *testing.T) {
	stopped := errors.New("stopped by hand")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, stopped)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, pause.For(ctx, time.Minute), stopped)
		require.Equal(t, time.Second, time.Since(began))
		for _, d := range []time.Duration{time.Minute, 1, 0, -1} {
			require.ErrorIs(t, pause.For(ctx, d), stopped, "a context that has ended already")
		}
		require.Equal(t, time.Second, time.Since(began))
	})
}

func TestSpreadStaysAroundWhatItIsGiven(t *testing.T) {
	least, most := time.Hour, time.Duration(0)
	for range 1000 {
		d := pause.Spread(time.Second)
		least, most = min(least, d), max(most, d)
	}
	require.GreaterOrEqual(t, least, 500*time.Millisecond)
	require.Less(t, most, 1500*time.Millisecond)
	require.Greater(t, most-least, 500*time.Millisecond, "they are spread")
}

func TestForHasTheWordsOfItsContextsCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("the pipe broke"))
	require.EqualError(t, pause.For(ctx, time.Hour), "the pipe broke")
	require.NoError(t, pause.For(t.Context(), time.Microsecond))
}
