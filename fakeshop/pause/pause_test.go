package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakeshop/pause"
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

func TestForEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, pause.For(ctx, time.Minute), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(began))
	})
}
