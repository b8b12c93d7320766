package pause_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/pause"
)

func TestForLastsAsLongAsItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.True(t, pause.For(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(began))
	})
}

func TestForEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		require.False(t, pause.For(ctx, time.Minute))
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
