package wire

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Timeline says what is in force when. All instants are nanoseconds since the
// schedule's zero. Every sender of a schedule must know a change before its
// instant: one that reads another scale draws other arrivals ever after.
type Timeline struct {
	// Join is when the agent's group begins to send.
	Join int64 `json:"join"`
	// Scales are the changes of the scale, ascending; before the first it is 0.
	Scales []Scale `json:"scales"`
}

// Scale is one change.
type Scale struct {
	At    int64   `json:"at"`
	Scale float64 `json:"scale"`
}

// ScaleAt returns the scale in force at an instant.
func (t Timeline) ScaleAt(at int64) float64 {
	for _, s := range slices.Backward(t.Scales) {
		if s.At <= at {
			return s.Scale
		}
	}
	return 0
}

// ErrTooLate is when a change comes after its instant.
var ErrTooLate = errors.New("the change came too late")

// Replace returns next in the place of t when the instant is now, or ErrTooLate
// when they differ before it.
func (t Timeline) Replace(next Timeline, now int64) (Timeline, error) {
	if err := next.Check(); err != nil {
		return t, err
	}
	if t.Join != next.Join {
		return t, errors.New("a group joins once")
	}
	same := 0
	for same < len(t.Scales) && same < len(next.Scales) && t.Scales[same] == next.Scales[same] {
		same++
	}
	for _, differing := range [][]Scale{t.Scales[same:], next.Scales[same:]} {
		if len(differing) > 0 && differing[0].At <= now {
			return t, fmt.Errorf("%w: it is %d ns past its instant", ErrTooLate, now-differing[0].At)
		}
	}
	return next, nil
}

// Check refuses what is no timeline.
func (t Timeline) Check() error {
	if t.Join < 0 {
		return errors.New("a group cannot join before the schedule's zero")
	}
	last := int64(math.MinInt64)
	for _, s := range t.Scales {
		if s.At <= last || !(s.Scale >= 0 && s.Scale < 1e9) {
			return fmt.Errorf("the scale %g at %d is out of order or none", s.Scale, s.At)
		}
		last = s.At
	}
	return nil
}
