package traffic

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"time"

	"meshsim.dev/meshsim/scenarios/journey"
	"meshsim.dev/meshsim/scenarios/shape"
)

// wandering is a schedule of journeys: each begins at a Poisson arrival, and its
// steps are due at its pauses from there, whatever is answered and when. As many
// journeys begin as the shape has requests, divided by the steps that one has on
// average, so that the shape's integral decides how many requests there are.
//
// Every lane goes through all journeys and keeps its own steps of them.
type wandering struct {
	script *Script
	routes []string
	rates  shape.Shape // of requests
	share  float64
	scale  func(at time.Duration) float64

	begins *Arrivals
	begin  time.Duration // of the next journey, where begun
	begun  bool
	number uint64 // of the next journey
	visits []journey.Visit
	due    dues
}

// walked is a source of journeys' steps; rates is what comes of them.
func walked(script *Script, arriving, rates shape.Shape, scale func(at time.Duration) float64) source {
	return func(l lane) (schedule, error) {
		return &wandering{
			script: script, routes: l.routes, rates: rates, share: l.share, scale: scale,
			begins: NewArrivals(arriving, 1/script.journeys.Steps(), script.seed, journeyStream, scale),
		}, nil
	}
}

// next implements schedule.
func (w *wandering) next(horizon time.Duration) (arrival, bool) {
	for {
		if !w.begun {
			w.begin, w.begun = w.begins.Next(horizon)
		}
		decided := w.begins.at
		if w.begun {
			decided = w.begin + 1
		}
		if len(w.due) > 0 && w.due[0].at < decided {
			return heap.Pop(&w.due).(arrival), true
		}
		if !w.begun {
			return arrival{}, false
		}
		w.set()
	}
}

// set takes up the next journey.
func (w *wandering) set() {
	first := w.number * uint64(w.script.journeys.Set().Longest)
	w.visits = w.script.walk(w.number, w.visits[:0])
	for k, v := range w.visits {
		if slices.Contains(w.routes, v.Route) {
			heap.Push(&w.due, arrival{at: w.begin + v.After, route: v.Route, seq: first + uint64(k)})
		}
	}
	w.number++
	w.begun = false
}

// Rate implements schedule.
func (w *wandering) Rate(at time.Duration) float64 {
	return w.share * max(0, w.scale(at)) * w.rates.Rate(at)
}

func (w *wandering) close() error { return nil }

// visitor is who makes a journey: all its requests are about the same customer
// and the same product, which are not taken from answers: those may be late, or
// never come.
type visitor struct {
	customer string
	product  int
	kind     int // of the product, of those that can be configured
}

func newVisitor(rng *rand.Rand) visitor {
	who := visitor{customer: anyCustomer(rng)}
	for {
		who.product, who.kind = configurable(rng)
		if who.product%uniqueNth != 0 { // those of which there are five are for few
			return who
		}
	}
}
