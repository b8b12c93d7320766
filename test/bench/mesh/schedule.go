package main

import (
	"math/rand/v2"
	"time"
)

// schedule is when the requests of several streams are due: Poisson arrivals
// at one rate, drawn for each stream by itself. Either all streams send at the
// same time, request by request between each other, or they take turns, so that
// each has the machine to itself while all see it over the same minutes.
type schedule struct {
	rate float64       // of each stream, in requests a second
	on   time.Duration // how long each stream sends
	turn time.Duration // 0: all at the same time
	rng  *rand.Rand
	next []time.Duration // of each stream, in its own time, which stands still between turns
}

func newSchedule(streams int, rate float64, on, turn time.Duration, seed uint64) *schedule {
	s := &schedule{rate: rate, on: on, turn: turn, rng: rand.New(rand.NewPCG(seed, uint64(streams)))}
	for range streams {
		s.next = append(s.next, s.gap())
	}
	return s
}

func (s *schedule) gap() time.Duration {
	return time.Duration(s.rng.ExpFloat64() / s.rate * float64(time.Second))
}

// wall is when a stream's own time comes.
func (s *schedule) wall(stream int, own time.Duration) time.Duration {
	if s.turn == 0 {
		return own
	}
	round, within := own/s.turn, own%s.turn
	return (round*time.Duration(len(s.next))+time.Duration(stream))*s.turn + within
}

// pop takes the next arrival of all streams; ok is false at the end.
func (s *schedule) pop() (stream int, at time.Duration, ok bool) {
	for i, own := range s.next {
		if own >= s.on {
			continue
		}
		if wall := s.wall(i, own); !ok || wall < at {
			stream, at, ok = i, wall, true
		}
	}
	if ok {
		s.next[stream] += s.gap()
	}
	return stream, at, ok
}
