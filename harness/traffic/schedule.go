package traffic

import (
	"errors"
	"time"

	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

// arrival is one request that is due.
type arrival struct {
	at    time.Duration // on the schedule
	route string
	seq   uint64 // its index in the run
}

// schedule is when the requests of one sender are due, and what they are. It is
// used by one goroutine.
type schedule interface {
	// next returns the first arrival after the last one, or false when there is
	// none before the grain that horizon falls in. Call it with a later horizon
	// then.
	next(horizon time.Duration) (a arrival, ok bool)
	// Rate returns the requests a second that are meant at an instant.
	Rate(at time.Duration) float64
	// close ends it, with what went wrong.
	close() error
}

// lane is one sender's part of the traffic.
type lane struct {
	number  uint64
	streams uint64 // there are so many lanes
	proto   string
	share   float64               // of all requests
	routes  []string              // that it sends
	route   func(n uint64) string // of its n-th request, where the mix decides
}

// seq is the index of the lane's n-th request, where there are no journeys.
func (l lane) seq(n uint64) uint64 { return n*l.streams + l.number }

// source makes the schedule of a lane.
type source func(lane) (schedule, error)

// drawn is a source of Poisson arrivals whose routes the mix decides.
func drawn(rates shape.Shape, seed uint64, scale func(at time.Duration) float64) source {
	return func(l lane) (schedule, error) {
		return &drawnSchedule{Arrivals: NewArrivals(rates, l.share, seed, l.number, scale), lane: l}, nil
	}
}

type drawnSchedule struct {
	*Arrivals
	lane lane
	n    uint64
}

func (d *drawnSchedule) next(horizon time.Duration) (arrival, bool) {
	at, ok := d.Next(horizon)
	if !ok {
		return arrival{}, false
	}
	a := arrival{at, d.lane.route(d.n), d.lane.seq(d.n)}
	d.n++
	return a, true
}

func (d *drawnSchedule) close() error { return nil }

// dues are requests that are due, the earliest first; it is a heap.
type dues []arrival

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].at < d[j].at }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(a any)        { *d = append(*d, a.(arrival)) }
func (d *dues) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

// replayed is a source of arrivals as they were recorded.
func replayed(r *scenarios.Replay, rates shape.Shape, seed uint64, scale func(at time.Duration) float64) source {
	return func(l lane) (schedule, error) { return newReplay(r, rates, l, seed, scale) }
}

// schedules makes the schedules of all lanes, or none.
func schedules(lanes []lane, from source) ([]schedule, error) {
	all := make([]schedule, 0, len(lanes))
	for _, l := range lanes {
		s, err := from(l)
		if err != nil {
			for _, made := range all {
				err = errors.Join(err, made.close())
			}
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}
