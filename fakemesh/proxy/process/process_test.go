package process

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStackIsInUseWhileSomethingIsDoneBelow(t *testing.T) {
	inUse := func() (bytes uint64) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	before := inUse()
	done := make(chan uint64)
	go below(depth, func() { done <- inUse() })
	require.Greater(t, <-done, before+depth<<10)
}

func TestPagesAreGivenBackAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begin, ended := time.Now(), make(chan error, 1)
		var at []time.Duration
		go func() {
			ended <- repeat(ctx, func() error {
				at = append(at, time.Since(begin))
				return nil
			})
		}()
		time.Sleep(time.Hour)
		cancel()
		require.NoError(t, <-ended)
		require.Equal(t, []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond}, at[:3])
		n := len(at)
		require.Equal(t, maxPause, at[n-1]-at[n-2])
	})
}

func TestPagesThatCannotBeGivenBackAreTriedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, calls := errors.New("no smaps"), 0
		require.ErrorIs(t, repeat(t.Context(), func() error {
			calls++
			return broken
		}), broken)
		require.Equal(t, 1, calls)
	})
}
