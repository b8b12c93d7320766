package shape

import (
	"fmt"
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
)

// How an ordinary day ebbs and flows, where nothing else is said.
const (
	DefaultSwing = 0.35 // from 1-0.35 to 1+0.35 of its mean
	DefaultPeak  = 0.60 // of the day: 14:24
)

// LaunchDay returns days of launch requests, of which requests would come on
// any day, each lasting day: an ordinary day's ebb and flow and the wave of the
// launch. Days follow one another without end.
func LaunchDay(requests, launch int, day time.Duration) Shape {
	s := day.Seconds()
	extra := max(0, launch-requests)
	return named{
		Shape: Sum(
			Diurnal(float64(requests), DefaultSwing, DefaultPeak, day),
			wave{day: day, height: float64(extra) / s / launchArea},
		),
		name: fmt.Sprintf("launch-day of %d requests, %d on any day, in %s", max(requests, launch), requests, day),
	}
}

// Diurnal returns days of requests each, ebbing and flowing by swing (0–1 of
// their mean) about their busiest moment at peak (0–1 of the day).
func Diurnal(requests, swing, peak float64, day time.Duration) Shape {
	return diurnal{day: day, base: max(0, requests) / day.Seconds(), swing: min(max(swing, 0), 1), peak: peak}
}

type diurnal struct {
	day               time.Duration
	base, swing, peak float64
}

func (d diurnal) Rate(at time.Duration) float64 {
	return d.base * (1 + d.swing*math.Cos(2*math.Pi*(ofDay(at, d.day)-d.peak)))
}

func (d diurnal) Count(from, to time.Duration) float64 {
	if to <= from {
		return 0
	}
	upTo := func(at time.Duration) float64 {
		return d.swing / (2 * math.Pi) * math.Sin(2*math.Pi*(ofDay(at, d.day)-d.peak))
	}
	even := (to - from).Seconds() / d.day.Seconds()
	// the sine's rounding must not make a tiny stretch less than nothing
	return max(0, d.base*d.day.Seconds()*(even+upTo(to)-upTo(from)))
}

func (d diurnal) Bound() float64         { return d.base * (1 + d.swing) }
func (d diurnal) Mean() float64          { return d.base }
func (d diurnal) Settled() time.Duration { return 0 }
func (d diurnal) period() time.Duration  { return d.day }

func (d diurnal) String() string {
	return fmt.Sprintf("diurnal, %.6g requests a day of %s, ±%.4g %%", d.base*d.day.Seconds(), d.day, d.swing*100)
}

func (d diurnal) bends(from, to time.Duration) []time.Duration {
	return daily(from, to, d.day, d.peak, d.peak+0.25, d.peak+0.5, d.peak+0.75)
}

// wave is a launch: nothing, a rush, a plateau of height requests a second, and
// a long ebb.
type wave struct {
	day    time.Duration
	height float64
}

func (w wave) Rate(at time.Duration) float64 { return w.height * share(ofDay(at, w.day)) }

// share is the launch's share of its plateau at a share of the day.
func share(at float64) float64 {
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

// area is the integral of share from the day's beginning.
func area(at float64) float64 {
	smoothArea := func(x float64) float64 { return x * x * x * (1 - x/2) }
	switch since := at - launchAt; {
	case since < 0:
		return 0
	case since < launchRise:
		return launchRise * smoothArea(since/launchRise)
	case since < launchRise+launchHold:
		return launchRise/2 + since - launchRise
	default:
		return launchArea - launchFall*smoothArea(min(max((1-at)/launchFall, 0), 1))
	}
}

func (w wave) Count(from, to time.Duration) float64 {
	if to <= from {
		return 0
	}
	first, last := ofDay(from, w.day), ofDay(to, w.day)
	days := math.Round((to-from).Seconds()/w.day.Seconds() - (last - first)) // whole ones between
	return max(0, w.height*w.day.Seconds()*(days*launchArea+area(last)-area(first)))
}

func (w wave) Bound() float64         { return w.height }
func (w wave) Mean() float64          { return w.height * launchArea }
func (w wave) Settled() time.Duration { return 0 }
func (w wave) period() time.Duration  { return w.day }
func (w wave) String() string         { return fmt.Sprintf("a launch's wave, %.6g/s at its height", w.height) }

func (w wave) bends(from, to time.Duration) []time.Duration {
	return daily(from, to, w.day, 0, launchAt, launchAt+launchRise, launchAt+launchRise+launchHold)
}

// ofDay returns an instant as a share of its day, from 0 up to 1.
func ofDay(at, day time.Duration) float64 {
	share := math.Mod(at.Seconds()/day.Seconds(), 1)
	if share < 0 {
		share++
	}
	return share
}

// daily returns the instants of every day, given as shares of it in ascending
// order, that lie between from and to.
func daily(from, to, day time.Duration, shares ...float64) []time.Duration {
	b := bendList{from: from, to: to}
	for midnight := from/day*day - 2*day; ; midnight += day {
		for _, s := range shares {
			if !b.add(midnight + time.Duration(s*float64(day))) {
				return b.all
			}
		}
	}
}
