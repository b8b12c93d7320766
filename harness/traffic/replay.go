package traffic

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/recording"
	"meshsim.dev/meshsim/scenarios/shape"
)

// replay is a schedule of recorded arrivals: their order and gaps are kept, in
// less time. It reads the recording as it goes, and from its beginning again
// when it is over.
//
// A scale below 1 leaves requests out by chance; one above 1 lays further copies
// of the traffic over it, each request of them later by chance within spread.
// Which requests that are depends on the seed and the scale alone.
type replay struct {
	path   string
	lane   lane
	sent   uint64 // requests that were due
	seed   uint64
	scale  func(at time.Duration) float64 // of the phase in force
	factor float64                        // the replay's own scale
	faster float64
	lasts  time.Duration // one time through, compressed
	spread time.Duration
	rates  shape.Shape

	in     *recording.Reader
	round  time.Duration // when this time through began
	count  uint64        // requests read, of all routes and rounds
	ahead  *recorded     // read, and not due yet
	grain  time.Duration // that now is of
	now    float64
	copies dues
	broken error
}

// recorded is a request of the recording, on the schedule.
type recorded struct {
	arrival
	number uint64
}

// mostSpread is how much later a copy of a request may be than the request, in
// the recording's time: enough to be another customer's.
const mostSpread = time.Minute

func newReplay(r *scenarios.Replay, rates shape.Shape, l lane, seed uint64, scale func(at time.Duration) float64) (*replay, error) {
	period := r.Recording.Period()
	faster := period.Seconds() / r.CompressTo.Seconds()
	p := &replay{
		path: r.File, lane: l, seed: seed, scale: scale, factor: r.Scale, faster: faster, lasts: r.CompressTo,
		spread: time.Duration(float64(min(mostSpread, period/100)) / faster), rates: rates, grain: -1,
	}
	var err error
	p.in, err = recording.Open(p.path)
	return p, err
}

// next implements schedule.
func (p *replay) next(horizon time.Duration) (arrival, bool) {
	for {
		if p.ahead == nil {
			p.ahead = p.read()
		}
		if len(p.copies) > 0 && (p.ahead == nil || p.copies[0].at <= p.ahead.at) {
			if p.copies[0].at.Truncate(Grain) > horizon {
				return arrival{}, false
			}
			a := heap.Pop(&p.copies).(arrival)
			a.seq = p.lane.seq(p.sent)
			p.sent++
			return a, true
		}
		if p.ahead == nil || p.ahead.at.Truncate(Grain) > horizon {
			return arrival{}, false
		}
		p.multiply(*p.ahead)
		p.ahead = nil
	}
}

// multiply puts a request that is due among the copies, as often as the scale
// has it.
func (p *replay) multiply(r recorded) {
	if !slices.Contains(p.lane.routes, r.route) {
		return
	}
	if begin := r.at.Truncate(Grain); begin != p.grain {
		p.grain, p.now = begin, max(0, p.scale(begin))*p.factor
	}
	rng := draw(p.seed, replayStream, r.number)
	for n := range int(p.now + rng.Float64()) {
		a := r.arrival
		if n > 0 {
			a.at += time.Duration(rng.Float64() * float64(p.spread))
		}
		heap.Push(&p.copies, a)
	}
}

// read returns the recording's next request; nil when it cannot be read.
func (p *replay) read() *recorded {
	if p.broken != nil {
		return nil
	}
	q, err := p.in.Next()
	if errors.Is(err, io.EOF) {
		q, err = p.again()
	}
	if err != nil {
		p.broken = fmt.Errorf("replay: %w", err)
		return nil
	}
	p.count++
	return &recorded{arrival{at: p.round + time.Duration(float64(q.At)/p.faster), route: q.Route}, p.count}
}

// again starts the recording from its beginning.
func (p *replay) again() (recording.Request, error) {
	if err := p.in.Close(); err != nil {
		return recording.Request{}, err
	}
	in, err := recording.Open(p.path)
	if err != nil {
		return recording.Request{}, err
	}
	p.in, p.round = in, p.round+p.lasts
	return p.in.Next()
}

// Rate implements schedule. It is about this: a recording has no rate.
func (p *replay) Rate(at time.Duration) float64 {
	return p.lane.share * max(0, p.scale(at)) * p.rates.Rate(at)
}

func (p *replay) close() error { return errors.Join(p.broken, p.in.Close()) }
