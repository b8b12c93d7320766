package agents

import (
	"context"
	"fmt"
	"time"

	"meshsim.dev/meshsim/harness/traffic/agents/wire"
	"meshsim.dev/meshsim/results"
)

// roundTrips are taken for one measurement of a clock.
const roundTrips = 16

// exchange is one look at a clock elsewhere.
type exchange struct {
	asked, told time.Time // here, with the monotonic clock
	clock       wire.Clock
}

// measureClock compares an agent's clock with the run's, by Cristian's method:
// the agent looked at its clock at some time between the question and the
// answer, so with the middle taken for it the error is at most half the round
// trip. Of several, the one with the shortest round trip counts.
func measureClock(ctx context.Context, begin time.Time, ask func(context.Context) (wire.Clock, error)) (results.ClockOffset, error) {
	var best exchange
	for n := range roundTrips + 1 {
		e := exchange{asked: time.Now()}
		var err error
		if e.clock, err = ask(ctx); err != nil {
			return results.ClockOffset{}, fmt.Errorf("ask for the time: %w", err)
		}
		e.told = time.Now()
		// the first may have had to connect
		if n == 1 || n > 1 && e.trip() < best.trip() {
			best = e
		}
	}
	return best.offset(begin), nil
}

func (e exchange) trip() time.Duration { return e.told.Sub(e.asked) }

func (e exchange) offset(begin time.Time) results.ClockOffset {
	half := e.trip() / 2
	middle := e.asked.Add(half)
	return results.ClockOffset{
		At:          int64(middle.Sub(begin)),
		Offset:      middle.Sub(begin) - time.Duration(e.clock.Mono),
		Uncertainty: e.trip() - half,
		WallOffset:  time.Duration(e.clock.Wall - middle.UnixNano()),
	}
}
