package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshapi"
)

// Resource names an object in the metrics of outbound traffic.
type Resource struct {
	Group, Kind, Namespace, Name string
	Port                         uint16
}

func resourceOf(r *meshapi.Resource) Resource {
	return Resource{
		Group: r.GetGroup(), Kind: r.GetKind(), Namespace: r.GetNamespace(), Name: r.GetName(), Port: uint16(r.GetPort()),
	}
}

// Outbound are the routes of one address. They do not change: others take
// their place.
type Outbound struct {
	Parent Resource
	routes []route[*Way]
}

// Way is where requests that match a rule go.
type Way struct {
	Route   Resource
	Filters *Filters
	Timeout time.Duration // 0 is without limit

	backends []Backend
	shares   shares
}

// Backend is one Service of a Way.
type Backend struct {
	Resource Resource
	Filters  *Filters
	Addr     netip.AddrPort
	Failure  string // why Addr is none
}

// Route finds the way of a request; matched is how many characters of the path
// a prefix matched. Without any routes it is the plain way; nil when there are
// routes and none matches.
func (o *Outbound) Route(r *http.Request) (way *Way, matched int) {
	found, closest := find(o.routes, &request{Request: r, path: rawPath(r)})
	if found == nil {
		return nil, 0
	}
	return *found, closest.path
}

// Addresses are those of all backends.
func (o *Outbound) Addresses() []netip.AddrPort {
	var all []netip.AddrPort
	for i := range o.routes {
		for j := range o.routes[i].rules {
			for _, b := range o.routes[i].rules[j].value.backends {
				if b.Failure == "" {
					all = append(all, b.Addr)
				}
			}
		}
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

// Plain says whether requests go where they were going.
func (w *Way) Plain() bool { return len(w.backends) == 0 }

// Backend gives the next backend its request. It is nil when none has a weight.
// Not to be called on a plain way.
func (w *Way) Backend() *Backend {
	if w.shares.total == 0 {
		return nil
	}
	return &w.backends[w.shares.next()]
}

// CompileOutbound makes an Outbound of what the controller sent.
func CompileOutbound(rules *meshapi.OutboundRules) (*Outbound, error) {
	out := &Outbound{Parent: resourceOf(rules.GetParent())}
	routes := rules.GetRoutes()
	if len(routes) == 0 {
		routes = []*meshapi.Route{{Resource: builtin("http"), Rules: []*meshapi.Rule{{}}}}
	}
	for _, rt := range routes {
		c, err := compileRoute(rt, func(rl *meshapi.Rule) (*Way, error) { return compileWay(rt, rl) })
		if err != nil {
			return nil, err
		}
		out.routes = append(out.routes, c)
	}
	return out, nil
}

func compileWay(rt *meshapi.Route, rl *meshapi.Rule) (*Way, error) {
	w := &Way{Route: resourceOf(rt.GetResource()), Timeout: rl.GetTimeout().AsDuration()}
	var err error
	if w.Filters, err = compileFilters(rl.GetFilters()); err != nil {
		return nil, err
	}
	weights := make([]uint32, 0, len(rl.GetBackends()))
	for _, b := range rl.GetBackends() {
		c := Backend{Resource: resourceOf(b.GetResource()), Failure: b.GetFailure()}
		if c.Filters, err = compileFilters(b.GetFilters()); err != nil {
			return nil, err
		}
		if c.Failure == "" {
			if c.Addr, err = netip.ParseAddrPort(b.GetAddress()); err != nil {
				return nil, fmt.Errorf("backend %s: %q is no address with a port", c.Resource.Name, b.GetAddress())
			}
		}
		w.backends = append(w.backends, c)
		weights = append(weights, b.GetWeight())
	}
	w.shares = newShares(weights)
	return w, nil
}

// shares deal out turns by weight: in every run of as many turns as the weights
// sum up to, reduced, each has exactly its share, and in between each is never
// far from it. The turns go round all places in strides of about the golden
// ratio, which spreads them evenly.
type shares struct {
	ends   []uint64 // of each one's places
	total  uint64
	stride uint64
	turn   *atomic.Uint64
}

func newShares(weights []uint32) shares {
	var common uint64
	for _, w := range weights {
		common = gcd(uint64(w), common)
	}
	s := shares{turn: &atomic.Uint64{}}
	for _, w := range weights {
		s.total += uint64(w) / max(common, 1)
		s.ends = append(s.ends, s.total)
	}
	if s.total == 0 {
		return s
	}
	s.stride = stride(s.total)
	// Many proxies that learn of a canary at once do not all begin with it.
	s.turn.Store(rand.Uint64N(s.total))
	return s
}

func (s *shares) next() int {
	place := s.turn.Add(1) % s.total * s.stride % s.total
	i := 0
	for place >= s.ends[i] {
		i++
	}
	return i
}

// stride is the number nearest to total divided by the golden ratio that has no
// divisor in common with total.
func stride(total uint64) uint64 {
	near := uint64(math.Round(float64(total) * (math.Sqrt(5) - 1) / 2))
	for off := uint64(0); ; off++ {
		if gcd(near+off, total) == 1 {
			return near + off
		}
		if off < near && gcd(near-off, total) == 1 {
			return near - off
		}
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
