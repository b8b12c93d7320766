package traffic

import (
	"fmt"
	"time"
)

// Due is one arrival of a schedule that several senders may share.
type Due struct {
	Lane   uint64 // which of the senders: HTTP, or one gRPC method
	Number uint64 // how many came before it in its lane
	Seq    uint64 // in the record
	At     time.Duration
	Route  string
}

// parted is a source whose schedules leave out what is not mine. Every sender
// draws the whole schedule, so that each knows the others' part as its own.
func parted(from source, mine func(Due) bool) source {
	return func(l lane) (schedule, error) {
		s, err := from(l)
		if err != nil {
			return nil, err
		}
		return &part{schedule: s, lane: l.number, mine: mine}, nil
	}
}

// part numbers a schedule's arrivals and passes on those that are mine.
type part struct {
	schedule
	lane uint64
	mine func(Due) bool // nil: all are
	n    uint64
}

func (p *part) next(horizon time.Duration) (arrival, bool) {
	for {
		a, ok := p.schedule.next(horizon)
		if !ok {
			return a, false
		}
		d := Due{Lane: p.lane, Number: p.n, Seq: a.seq, At: a.at, Route: a.route}
		p.n++
		if p.mine == nil || p.mine(d) {
			return a, true
		}
	}
}

// EachDue calls fn for every arrival up to an instant of the schedule, a lane
// after the other, whoever's they are. Nothing is sent. Of the options only
// Traffic, Seed, Begin, Began and the scale count.
func EachDue(o Options, until time.Duration, fn func(Due)) error {
	script, err := NewScript(o.Traffic, o.Seed)
	if err != nil {
		return err
	}
	from := o.source(script)
	for _, l := range script.plan.lanes(o.Seed) {
		s, err := from(l)
		if err != nil {
			return fmt.Errorf("draw the schedule: %w", err)
		}
		for n := uint64(0); ; n++ {
			a, ok := s.next(until)
			if !ok || a.at > until {
				break
			}
			fn(Due{Lane: l.number, Number: n, Seq: a.seq, At: a.at, Route: a.route})
		}
		if err := s.close(); err != nil {
			return fmt.Errorf("draw the schedule: %w", err)
		}
	}
	return nil
}

// Lanes returns how many senders share a schedule's numbers: without journeys, a
// request's Seq is its number in its lane times this, plus the lane.
func Lanes(o Options) (uint64, error) {
	plan, err := newSenderPlan(o.Traffic.Weights())
	return plan.streams(), err
}
