package traffic

import (
	"math/rand/v2"
	"time"

	"meshsim.dev/meshsim/scenarios/shape"
)

// Grain is how often the scale is read: a new one is in force a grain later, or
// at once when its instant is a multiple of it.
const Grain = 50 * time.Millisecond

// grainAfter is where the next one begins; before the schedule's zero too.
func grainAfter(at time.Duration) time.Duration {
	begins := at.Truncate(Grain) // towards zero
	if begins <= at {
		begins += Grain
	}
	return begins
}

// Arrivals are the scheduled instants of one stream of requests: a Poisson
// process whose rate is share × scale × the shape's, made by thinning a faster
// even one. With the same seed and the same scales it is the same process,
// however it is read. It is not safe for concurrent use.
type Arrivals struct {
	shape shape.Shape
	bound float64 // of the shape's rate
	share float64
	scale func(at time.Duration) float64
	rng   *rand.Rand

	at   time.Duration // everything before is decided
	left float64       // how much of the even process is left until its next candidate
	now  float64       // the scale in force until the next multiple of Grain
}

// NewArrivals returns the stream with the given number. share is its part of
// the shape's rate; scale multiplies the rate at an instant, where 0 or less
// is silence.
func NewArrivals(s shape.Shape, share float64, seed, stream uint64, scale func(at time.Duration) float64) *Arrivals {
	a := &Arrivals{shape: s, bound: s.Bound(), share: share, scale: scale, rng: rand.New(rand.NewPCG(seed, mix64(stream)))}
	a.left = a.rng.ExpFloat64()
	return a
}

// Next returns the first instant after the last one, or false when there is
// none before the grain that horizon falls in. Call it with a later horizon
// then.
func (a *Arrivals) Next(horizon time.Duration) (at time.Duration, ok bool) {
	for {
		if a.at%Grain == 0 {
			if a.at > horizon {
				return 0, false
			}
			a.now = max(0, a.scale(a.at))
		}
		end := a.at - a.at%Grain + Grain
		if !a.candidate(end) {
			continue
		}
		if a.rng.Float64()*a.bound < a.shape.Rate(a.at) {
			return a.at, true
		}
	}
}

// candidate goes on to the even process's next candidate, or to end and
// returns false when that comes first.
func (a *Arrivals) candidate(end time.Duration) bool {
	rate := a.share * a.now * a.bound / float64(time.Second) // a nanosecond
	room := rate * float64(end-a.at)
	if a.left >= room {
		a.left -= room
		a.at = end
		return false
	}
	step := time.Duration(a.left / rate)
	// an instant on the grain's edge would have the scale read twice
	a.at = min(a.at+max(step, 1), end-1)
	a.left = a.rng.ExpFloat64()
	return true
}

// Rate returns the requests a second that are meant at t.
func (a *Arrivals) Rate(t time.Duration) float64 {
	return a.share * max(0, a.scale(t)) * a.shape.Rate(t)
}

// mix64 spreads a small number over 64 bits (splitmix64), so that neighbouring
// streams have nothing in common.
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
