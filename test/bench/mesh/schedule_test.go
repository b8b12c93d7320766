package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func arrivals(s *schedule) [][]time.Duration {
	all := make([][]time.Duration, len(s.next))
	for {
		stream, at, ok := s.pop()
		if !ok {
			return all
		}
		all[stream] = append(all[stream], at)
	}
}

func TestEachStreamHasItsRateWhateverTheOthersDo(t *testing.T) {
	for name, turn := range map[string]time.Duration{"at the same time": 0, "in turns": time.Second} {
		t.Run(name, func(t *testing.T) {
			for _, at := range arrivals(newSchedule(3, 200, 20*time.Second, turn, 1)) {
				require.InDelta(t, 4000, len(at), 5*64) // five standard deviations of a Poisson count
			}
		})
	}
}

func TestArrivalsComeInTheOrderOfTime(t *testing.T) {
	for name, turn := range map[string]time.Duration{"at the same time": 0, "in turns": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := newSchedule(4, 100, 5*time.Second, turn, 2)
			last := time.Duration(-1)
			for {
				_, at, ok := s.pop()
				if !ok {
					return
				}
				require.GreaterOrEqual(t, at, last)
				last = at
			}
		})
	}
}

func TestWhoHasNotTheTurnIsSilent(t *testing.T) {
	const turn = 250 * time.Millisecond
	for stream, all := range arrivals(newSchedule(3, 500, 2*time.Second, turn, 3)) {
		for _, at := range all {
			require.Equal(t, stream, int(at/turn)%3)
		}
	}
}

func TestTheSameSeedMakesTheSameSchedule(t *testing.T) {
	require.Equal(t, arrivals(newSchedule(2, 50, time.Second, 0, 7)), arrivals(newSchedule(2, 50, time.Second, 0, 7)))
}
