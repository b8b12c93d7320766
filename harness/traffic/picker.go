package traffic

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/metadata"
)

// ghz keeps its results to itself until the end of a run, in the order of
// their ends. What it lets be chosen is gRPC's balancing policy, and a policy
// meets every call: its picker is asked before each attempt and told the end
// of it, trailers included. watchedPolicy is pick_first that watches so.
const (
	watchedPolicy = "meshsim_watched_pick_first"
	callKey       = "x-meshsim-call" // metadata: sender and request
)

// The policy must be in gRPC's registry, which belongs to the process; the
// senders that its pickers report to are found by their number.
func init() { balancer.Register(watchedBuilder{balancer.Get(pickfirst.Name)}) }

var watched = &watchers{by: map[uint64]*grpcSender{}}

// watchers are the senders under way.
type watchers struct {
	mu   sync.Mutex
	last uint64
	by   map[uint64]*grpcSender
}

func (w *watchers) add(s *grpcSender) (id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	w.by[w.last] = s
	return w.last
}

func (w *watchers) remove(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.by, id)
}

// find reads a call's metadata.
func (w *watchers) find(ctx context.Context) (s *grpcSender, n uint64, ok bool) {
	md, _ := metadata.FromOutgoingContext(ctx)
	id, number, _ := strings.Cut(first(md, callKey), "/")
	sender, err := strconv.ParseUint(id, 10, 64)
	if err != nil {
		return nil, 0, false
	}
	n, err = strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, 0, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok = w.by[sender]
	return s, n, ok
}

func callValue(id, n uint64) string {
	return strconv.FormatUint(id, 10) + "/" + strconv.FormatUint(n, 10)
}

// watchedBuilder builds pick_first with watched pickers.
type watchedBuilder struct{ inner balancer.Builder }

func (b watchedBuilder) Name() string { return watchedPolicy }

func (b watchedBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return b.inner.Build(watchedConn{cc}, o)
}

type watchedConn struct{ balancer.ClientConn }

func (c watchedConn) UpdateState(s balancer.State) {
	s.Picker = watchedPicker{s.Picker}
	c.ClientConn.UpdateState(s)
}

type watchedPicker struct{ inner balancer.Picker }

// Pick is called before each attempt of a call, and again when the connection
// was not ready.
func (p watchedPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := p.inner.Pick(info)
	s, n, ok := watched.find(info.Ctx)
	if !ok {
		return result, err
	}
	s.picked(info.Ctx, n, err)
	if err != nil {
		return result, err
	}
	done := result.Done
	result.Done = func(d balancer.DoneInfo) {
		s.ended(n, d)
		if done != nil {
			done(d)
		}
	}
	return result, nil
}
