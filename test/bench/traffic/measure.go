package main

import (
	"context"
	"math"
	"time"
)

// What is sent over each protocol.
var (
	overHTTP = map[string]int{"browse": 1}
	overGRPC = map[string]int{"grpc-get-product": 1}
)

var protocols = []struct {
	name   string
	routes map[string]int
}{{"HTTP", overHTTP}, {"gRPC", overGRPC}}

// steadyRates are those whose lag is a figure, in requests a second.
var steadyRates = []float64{100, 1000}

// measureLag sends at easy rates.
func measureLag(ctx context.Context, w *world, r *report) error {
	for _, p := range protocols {
		for _, rate := range steadyRates {
			s, u, err := w.send(ctx, "lag-"+p.name, sending{Routes: p.routes, Rate: rate, Lasts: w.plan.steady})
			if err != nil {
				return err
			}
			r.Lags = append(r.Lags, lagOf(p.name, rate, s, u, false))
		}
	}
	return nil
}

// A rate is held as a calibration has it: 99 of 100 requests leave within 10 ms
// and no more than one in 100 fails or never leaves.
const (
	heldLag     = 10_000 // µs
	heldMissing = 0.01
)

func holds(s sent) bool {
	return s.Requests > 0 && s.LagP99 <= heldLag && float64(s.Failed+s.NotSent) <= heldMissing*float64(s.Requests)
}

// Where the search for the highest rate begins, and how fine it gets.
const (
	searchFrom = 1000
	searchTo   = 256_000
	searchFine = 1.1
)

// measureHighest looks for the highest rate that is held, and sends at it.
func measureHighest(ctx context.Context, w *world, r *report) error {
	for _, p := range protocols {
		held, broken := 0.0, math.Inf(1)
		for rate := float64(searchFrom); rate <= searchTo && broken > held*searchFine; {
			ok, err := w.try(ctx, p.name, p.routes, rate)
			if err == nil && !ok { // a moment's disturbance is not the machine's limit
				ok, err = w.try(ctx, p.name, p.routes, rate)
			}
			if err != nil {
				return err
			}
			if ok {
				held = rate
			} else {
				broken = rate
			}
			switch {
			case math.IsInf(broken, 1):
				rate *= 2
			case held == 0:
				rate /= 2
			default:
				rate = math.Sqrt(held * broken)
			}
			if rate < 50 {
				break
			}
		}
		if held == 0 {
			r.Lags = append(r.Lags, lag{Protocol: p.name, Highest: true})
			continue
		}
		// what was held for a moment may be too much for longer
		for try := 0; try < 4; try++ {
			s, u, err := w.send(ctx, "highest-"+p.name, sending{Routes: p.routes, Rate: held, Lasts: w.plan.steady / 2})
			if err != nil {
				return err
			}
			if holds(s) || try == 3 {
				r.Lags = append(r.Lags, lagOf(p.name, held, s, u, true))
				break
			}
			held *= 0.9
		}
	}
	return nil
}

// try sends at one rate for a moment.
func (w *world) try(ctx context.Context, protocol string, routes map[string]int, rate float64) (held bool, err error) {
	s, _, err := w.send(ctx, "search-"+protocol, sending{Routes: routes, Rate: rate, Lasts: w.plan.search})
	if err != nil {
		return false, err
	}
	w.log.Info("tried", "protocol", protocol, "rate", rate, "lagP99Us", s.LagP99, "held", holds(s))
	return holds(s), nil
}

func lagOf(protocol string, rate float64, s sent, u used, highest bool) lag {
	return lag{Protocol: protocol, Rate: rate, Highest: highest, Held: holds(s), sent: s, used: u}
}

// measureMemory has a sender keep a record of many results, of both protocols.
func measureMemory(ctx context.Context, w *world, r *report) error {
	rate := 6000.0 // less where less is held
	for _, l := range r.Lags {
		if l.Highest && l.Rate > 0 {
			rate = min(rate, 0.8*l.Rate)
		}
	}
	half := func(results int) (sent, used, error) {
		return w.send(ctx, "memory", sending{
			Routes: map[string]int{"browse": 2, "grpc-get-product": 1}, Rate: rate, Lasts: time.Hour, Results: results,
		})
	}
	few, u, err := half(w.plan.remembered / 20)
	if err != nil {
		return err
	}
	r.Memory = append(r.Memory, memory{Results: few.Requests, Rate: rate, residence: few.residence, used: u})
	all, u, err := half(w.plan.remembered)
	if err != nil {
		return err
	}
	r.Memory = append(r.Memory, memory{Results: all.Requests, Rate: rate, residence: all.residence, used: u})
	return nil
}
