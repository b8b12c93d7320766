package traffic

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"google.golang.org/protobuf/proto"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/journey"
)

// Script is what a run sends: each request follows from the seed and the
// request's index alone, which is its Seq in the run's record. It is safe for
// concurrent use.
//
// Without journeys, sender s of n sends the indices s, s+n, s+2n, …; with them,
// step k of journey j has the index j × the longest journey + k.
type Script struct {
	seed     uint64
	plan     senderPlan
	journeys *journey.Chain // nil for none
	replays  bool           // the recording decides the routes
}

// Streams of randomness of their own, beside those of the senders, which are
// numbered from 0.
const (
	routeStream   = 1 << 32 // the choice of routes
	replayStream  = 2 << 32 // what of a recording is left out or sent more than once
	journeyStream = 3 << 32 // when journeys begin, and how they go
	visitorStream = 4 << 32 // who makes a journey, and what for
	stepStream    = 5 << 32 // the rest of a journey's requests
)

// NewScript returns the script of a scenario's traffic.
func NewScript(t scenarios.Traffic, seed uint64) (*Script, error) {
	plan, err := newSenderPlan(t.Weights())
	if err != nil {
		return nil, err
	}
	return &Script{seed: seed, plan: plan, journeys: t.Journeys, replays: t.Replay != nil}, nil
}

// ScriptOf returns the script of a run that has been, from its record.
func ScriptOf(run results.Run) (*Script, error) {
	t := scenarios.Traffic{Mix: run.Traffic.Mix}
	if set := run.Traffic.Journeys; set != nil {
		var err error
		if t.Journeys, err = journey.New(*set); err != nil {
			return nil, fmt.Errorf("the run's journeys: %w", err)
		}
	}
	if routes := run.Traffic.Replayed; len(routes) > 0 {
		t.Mix = map[string]int{}
		for _, route := range routes {
			t.Mix[route] = 1 // the weights are the recording's; which routes there are is enough
		}
	}
	if len(t.Mix) == 0 && t.Journeys == nil {
		return nil, errors.New("the run's record does not say which routes were sent: it is older than that, and of a replay")
	}
	s, err := NewScript(t, run.Seed)
	if err != nil {
		return nil, err
	}
	s.replays = len(run.Traffic.Replayed) > 0
	return s, nil
}

// errUnscripted is returned for an index that no request has.
var errUnscripted = errors.New("no request has this index")

// errRecorded is returned where only the recording, or the run's record, knows.
var errRecorded = errors.New("a replay's routes are in its record")

// route is that of a request.
func (s *Script) route(seq uint64) (string, error) {
	if s.journeys != nil {
		longest := uint64(s.journeys.Set().Longest)
		visits := s.walk(seq/longest, nil)
		if k := seq % longest; k < uint64(len(visits)) {
			return visits[k].Route, nil
		}
		return "", errUnscripted
	}
	stream, n := s.place(seq)
	switch {
	case stream > 0:
		return s.plan.grpc[stream-1], nil
	case s.plan.http.Total() == 0:
		return "", errUnscripted // there is no sender of this number
	case s.replays:
		return "", errRecorded
	}
	return s.plan.http.pick(draw(s.seed, routeStream, n)), nil
}

// place is the sender of an index, and its how-manieth request that is.
func (s *Script) place(seq uint64) (stream, n uint64) {
	streams := s.plan.streams()
	return seq % streams, seq / streams
}

// walk is a journey, appended to into.
func (s *Script) walk(number uint64, into []journey.Visit) []journey.Visit {
	return s.journeys.Walk(draw(s.seed, journeyStream, number), into)
}

// rng is the randomness that a request is made of, and who makes it: nil where
// that is not a customer on a journey.
func (s *Script) rng(seq uint64) (*rand.Rand, *visitor) {
	if s.journeys == nil {
		stream, n := s.place(seq)
		return draw(s.seed, stream, n), nil
	}
	who := newVisitor(draw(s.seed, visitorStream, seq/uint64(s.journeys.Set().Longest)))
	return draw(s.seed, stepStream, seq), &who
}

// call makes the HTTP request with an index.
func (s *Script) call(seq uint64, route string) (call, error) {
	rng, who := s.rng(seq)
	return callFor(route, rng, who)
}

// message makes the message of the gRPC request with an index.
func (s *Script) message(seq uint64, m method) proto.Message {
	rng, who := s.rng(seq)
	return m.message(rng, who)
}

// senderPlan shares the routes out: one sender for all HTTP routes, one for
// each gRPC method.
type senderPlan struct {
	http  Mix
	grpc  []string // routes, sorted
	share map[string]float64
}

func newSenderPlan(weights map[string]int) (senderPlan, error) {
	all, err := NewMix(weights)
	if err != nil {
		return senderPlan{}, err
	}
	if all.Total() == 0 {
		return senderPlan{}, errors.New("the mix gives weight to no route")
	}
	p := senderPlan{share: map[string]float64{}}
	overHTTP := map[string]int{}
	for _, route := range slices.Sorted(maps.Keys(weights)) {
		weight := weights[route]
		switch protoOf(route) {
		case "http":
			overHTTP[route] = weight
		case "grpc":
			if weight > 0 {
				p.grpc = append(p.grpc, route)
				p.share[route] = float64(weight) / all.Total()
			}
		default:
			return senderPlan{}, fmt.Errorf("the mix names an unknown route %q", route)
		}
	}
	p.http, err = NewMix(overHTTP)
	p.share["http"] = p.http.Total() / all.Total()
	return p, err
}

// streams is how many senders there may be; that of HTTP has its number also
// where it has nothing to send.
func (p senderPlan) streams() uint64 { return uint64(1 + len(p.grpc)) }

// lanes are the senders' parts.
func (p senderPlan) lanes(seed uint64) []lane {
	var all []lane
	if p.http.Total() > 0 {
		all = append(all, lane{
			streams: p.streams(), proto: "http", share: p.share["http"], routes: p.http.routes,
			route: func(n uint64) string { return p.http.pick(draw(seed, routeStream, n)) },
		})
	}
	for i, name := range p.grpc {
		all = append(all, lane{
			number: uint64(i + 1), streams: p.streams(), proto: "grpc", share: p.share[name], routes: []string{name},
			route: func(uint64) string { return name },
		})
	}
	return all
}

func protoOf(route string) string {
	r, _ := scenarios.FindRoute(route)
	return r.Proto
}

// edgeService is the service that answers a route at the edge.
func edgeService(route string) string {
	r, _ := scenarios.FindRoute(route)
	return r.Service
}
