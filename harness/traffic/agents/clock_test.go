package agents

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/harness/traffic/agents/wire"
)

func TestTheClocksOffsetIsWithinItsUncertaintyHoweverAsymmetricTheWayIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(9, 9))
		for range 50 {
			begin := time.Now()
			// the agent began at some other time than the run, and its wall is off
			epoch := begin.Add(time.Duration(rng.Int64N(int64(time.Hour))) - 30*time.Minute)
			wall := time.Duration(rng.Int64N(int64(time.Minute)))
			shortest := time.Hour
			asked := 0
			got, err := measureClock(t.Context(), begin, func(context.Context) (wire.Clock, error) {
				there := time.Duration(1 + rng.ExpFloat64()*float64(5*time.Millisecond))
				back := time.Duration(1 + rng.ExpFloat64()*float64(500*time.Microsecond))
				if asked++; asked > 1 { // the first one's connects
					shortest = min(shortest, there+back)
				}
				time.Sleep(there)
				c := wire.Clock{Mono: int64(time.Since(epoch)), Wall: time.Now().Add(wall).UnixNano()}
				time.Sleep(back)
				return c, nil
			})
			require.NoError(t, err)
			require.Equal(t, roundTrips+1, asked)
			require.LessOrEqual(t, got.Uncertainty, shortest/2+1, "the shortest round trip counts")
			require.LessOrEqual(t, (got.Offset - epoch.Sub(begin)).Abs(), got.Uncertainty)
			require.LessOrEqual(t, (got.WallOffset - wall).Abs(), got.Uncertainty)
		}
	})
}

func TestASymmetricWayGivesTheOffsetItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		got, err := measureClock(t.Context(), begin, func(context.Context) (wire.Clock, error) {
			time.Sleep(time.Millisecond)
			c := wire.Clock{Mono: int64(time.Since(begin) - 7*time.Second), Wall: time.Now().UnixNano()}
			time.Sleep(time.Millisecond)
			return c, nil
		})
		require.NoError(t, err)
		require.Equal(t, 7*time.Second, got.Offset)
		require.Equal(t, time.Millisecond, got.Uncertainty)
		require.Zero(t, got.WallOffset)
	})
}

func TestAClockThatDoesNotAnswerIsAnError(t *testing.T) {
	gone := errors.New("gone")
	_, err := measureClock(t.Context(), time.Now(), func(context.Context) (wire.Clock, error) { return wire.Clock{}, gone })
	require.ErrorIs(t, err, gone)
}
