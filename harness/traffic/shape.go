package traffic

import (
	"math"
	"time"
)

// Parts of the launch day, as shares of it. The launch is in the morning and
// its wave runs out at midnight.
const (
	launchAt   = 0.29 // 07:00
	launchRise = 0.05 // from the first rush to the plateau
	launchFall = 1 - launchAt - launchRise - launchHold
	launchHold = 0.50
	// launchArea is the wave's area when its plateau is 1: ramps are half full.
	launchArea = launchRise/2 + launchHold + launchFall/2

	diurnalSwing = 0.35 // the ordinary day goes from 1-0.35 to 1+0.35 of its mean
	diurnalPeak  = 0.60 // 14:24
)

// Shape is the rate of a launch day in compressed time: an ordinary day's ebb
// and flow, plus the wave of the launch. Days follow one another without end.
// It is pure: a function of the time since the first midnight.
type Shape struct {
	day    time.Duration // how long a day lasts here
	base   float64       // mean requests a second of the ordinary day
	launch float64       // requests a second at the launch's plateau
}

// NewShape returns the shape of days of launchRequests, of which requests
// would come on any day, each day lasting day.
func NewShape(requests, launchRequests int, day time.Duration) Shape {
	s := day.Seconds()
	extra := max(0, launchRequests-requests)
	return Shape{day: day, base: float64(requests) / s, launch: float64(extra) / s / launchArea}
}

// constantShape is a steady rate of requests a second.
func constantShape(rate float64) Shape { return Shape{base: rate} }

// Rate returns the requests a second at t.
func (s Shape) Rate(t time.Duration) float64 {
	if s.day <= 0 {
		return s.base
	}
	at := math.Mod(t.Seconds()/s.day.Seconds(), 1)
	if at < 0 {
		at++
	}
	ordinary := s.base * (1 + diurnalSwing*math.Cos(2*math.Pi*(at-diurnalPeak)))
	return ordinary + s.launch*wave(at)
}

// wave is the launch's share of its plateau at a share of the day.
func wave(at float64) float64 {
	switch since := at - launchAt; {
	case since < 0:
		return 0
	case since < launchRise:
		return smooth(since / launchRise)
	case since < launchRise+launchHold:
		return 1
	default:
		return smooth((1 - at) / launchFall)
	}
}

// smooth goes from 0 to 1 without corners; the area below it is one half.
func smooth(x float64) float64 {
	x = min(max(x, 0), 1)
	return x * x * (3 - 2*x)
}

// Mean returns the requests a second over whole days.
func (s Shape) Mean() float64 { return s.base + s.launch*launchArea }

// Bound returns a rate that Rate never exceeds.
func (s Shape) Bound() float64 {
	if s.day <= 0 {
		return s.base
	}
	return s.base*(1+diurnalSwing) + s.launch
}
