// Package scenarios is what to rehearse: the traffic, the phases and the steps
// in them, and the budgets that must hold. Scenarios are YAML; they are read
// strictly, and everything that is wrong with one is told at once, with its
// place, before anything is raised.
package scenarios

import (
	"fmt"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
	"meshsim.dev/meshsim/scenarios/journey"
	"meshsim.dev/meshsim/scenarios/shape"
)

// APIVersion and Kind begin every scenario file.
const (
	APIVersion = "meshsim.dev/v1alpha1"
	Kind       = "Scenario"
)

// Scenario is one scenario file, read and checked.
type Scenario struct {
	Metadata Metadata
	Spec     Spec
	// Source is the file that it was read from, or the shipped file's name.
	Source string
	// Day is how long one day lasts by LoadDay, 0 where the scenario says it.
	Day time.Duration
	// Warnings are what is allowed and yet hardly meant.
	Warnings []string
}

// Metadata names the scenario.
type Metadata struct {
	Name        string
	Description string // one line
}

// Spec is what is rehearsed.
type Spec struct {
	Topology  string // default eks-1.24
	Seed      uint64 // default 1; the same seed makes the same traffic
	Shop      Shop
	Edge      Edge
	Evidence  Evidence
	Traffic   Traffic
	Phases    []Phase
	Budgets   []budget.Budget
	Overrides bundle.Overrides // images and charts in the place of the bundle's
}

// Shop is how carefully the shop's pods are replaced, whether its database is copied, and
// what else it is like.
type Shop struct {
	Drain                         bool // default true
	DrainSeconds                  int  // default 5
	ProxyWaitSeconds              int  // default 8
	TerminationGracePeriodSeconds int  // default 30
	MinReadySeconds               int  // how long a new pod is watched before an old one goes; default 0
	// DatabaseReplica asks for the database's streaming replica; without it there is
	// one where the host has room.
	DatabaseReplica bool
	// Values are more of the shop chart's own: see shopKeys. Nil for none.
	Values map[string]any
}

// Traffic is the shop's day and how it is replayed.
type Traffic struct {
	Day          Day
	CompressTo   time.Duration // how long one day lasts; default 90s
	Timeout      time.Duration // of one request; default 5s
	MaxLate      time.Duration // a request sent later than this is late; default 50ms
	MaxLateShare float64       // 0–1, default 0.01; more late ones leave latency inconclusive
	// Mix weighs the routes; default as in mtls-rollout.
	Mix map[string]int
	// Shape is the rate over time; nil for the launch day of Day in CompressTo.
	Shape shape.Shape
	// Replay, when it is not nil, takes the place of Shape and Mix.
	Replay *Replay
	// ShapeText is Shape as it was written, for ParseShape; "" when it cannot be
	// read elsewhere, as it names files, or there is none.
	ShapeText string
	// Agents send from inside the cluster.
	Agents []Agents
	// Journeys, when they are not nil, take the place of Mix.
	Journeys *journey.Chain
	Sender   Sender
}

// Day is a day of the real shop.
type Day struct {
	Requests       int // of an ordinary day; default 1000
	LaunchRequests int // of the whole launch day, which is what is replayed; default 5000
}

// Phase is a part of the rehearsal. It ends when its steps are done and Until
// holds.
type Phase struct {
	Name   string
	Scale  float64 // multiplies the day's requests; default 1
	Steps  []Step
	Until  Until
	Judged bool // default true
}

// Until is how long a phase lasts at least. Requests defaults to what a judged
// phase needs to be conclusive.
type Until struct {
	Requests int
	AtLeast  time.Duration
}

// Rates returns the rate over time at scale 1, from the first phase's begin.
// Customers on journeys make their requests one after another, so those come
// later than the shape has them.
func (t Traffic) Rates() shape.Shape {
	if t.Journeys != nil {
		return shape.Later(t.Arriving(), t.Journeys.Delays())
	}
	return t.Arriving()
}

// Arriving returns the shape that arrivals are drawn from: Rates, but with all
// requests of a journey at its beginning.
func (t Traffic) Arriving() shape.Shape {
	switch {
	case t.Replay != nil:
		return t.Replay.shape()
	case t.Shape != nil:
		return t.Shape
	default:
		return shape.LaunchDay(t.Day.Requests, t.Day.LaunchRequests, t.CompressTo)
	}
}

// MeanRate returns the requests a second that there are on average in the long
// run at scale.
func (t Traffic) MeanRate(scale float64) float64 { return t.Rates().Mean() * scale }

// HighestRate returns a rate in requests a second that the scenario's traffic
// never exceeds in the mean.
func (s *Scenario) HighestRate() float64 {
	scale := 0.0
	for _, p := range s.Spec.Phases {
		scale = max(scale, p.Scale)
	}
	return scale * s.Spec.Traffic.Rates().Bound()
}

// Cycle returns how long the traffic takes to repeat itself once it has settled:
// a launch day, a recording, a shape's round. It is 0 for what is steady then.
func (t Traffic) Cycle() time.Duration {
	if t.Replay != nil {
		return t.Replay.CompressTo
	}
	return shape.Period(t.Arriving())
}

// Faster is how many times as fast as in the real shop time goes by.
func (t Traffic) Faster() float64 {
	if t.Replay != nil {
		return t.Replay.Recording.Period().Seconds() / t.Replay.CompressTo.Seconds()
	}
	return (24 * time.Hour).Seconds() / t.CompressTo.Seconds()
}

// short is how long something real lasts when days are compressed, a second at
// least.
func (t Traffic) short(real time.Duration) time.Duration {
	return max(time.Duration(float64(real)/t.Faster()), time.Second)
}

// source is where the requests' routes come from.
func (t Traffic) source() string {
	switch {
	case t.Replay != nil:
		return "replay"
	case t.Journeys != nil:
		return "set of journeys"
	}
	return "mix"
}

// Sends tells whether there are requests of a route.
func (t Traffic) Sends(route string) bool {
	return t.Weights()[route] > 0
}

// HoldLimit returns how long a phase may wait for its requests after its steps
// are done: far longer than it should take, so that only a starving phase ends
// by it.
func (s *Scenario) HoldLimit(p Phase) time.Duration {
	takes := s.expected(p)
	for _, planned := range s.Plan().Phases {
		if planned.Name == p.Name {
			takes = max(takes, planned.AtLeast)
		}
	}
	return min(2*takes, longestFor) + s.Spec.Traffic.CompressTo + time.Minute
}

// expected returns how long the phase takes at the mean rate when its steps
// take no time.
func (s *Scenario) expected(p Phase) time.Duration {
	if p.Until.Requests == 0 {
		return p.Until.AtLeast
	}
	sending := float64(p.Until.Requests) / s.Spec.Traffic.MeanRate(p.Scale)
	return max(p.Until.AtLeast, time.Duration(min(sending, longestFor.Seconds())*float64(time.Second)))
}

// BudgetLines returns the budgets as they were written.
func (s *Scenario) BudgetLines() []string {
	lines := make([]string, len(s.Spec.Budgets))
	for i, b := range s.Spec.Budgets {
		lines[i] = b.Text
	}
	return lines
}

// RecordedTraffic returns the traffic as a run's record keeps it.
func (s *Scenario) RecordedTraffic() results.Traffic {
	t := s.Spec.Traffic
	recorded := results.Traffic{
		RealPerDay: t.Day.Requests, LaunchPerDay: t.Day.LaunchRequests, CompressTo: t.CompressTo, Day: s.Day,
		Timeout: t.Timeout, MaxLate: t.MaxLate, MaxLateShare: t.MaxLateShare, Mix: t.Mix,
		Connections: t.Sender.Connections, MaxConnections: t.Sender.MaxConnections,
	}
	if t.Shape != nil || t.Replay != nil || t.Journeys != nil {
		recorded.Shape, recorded.MeanRate, recorded.Faster = t.Rates().String(), t.MeanRate(1), t.Faster()
	}
	if t.Replay != nil || t.Journeys != nil {
		recorded.Mix = nil
	}
	if t.Replay != nil {
		recorded.Replayed = t.Replay.Routes()
	}
	if t.Journeys != nil {
		set := t.Journeys.Set()
		recorded.Journeys = &set
	}
	return recorded
}

// Judged returns the names of the judged phases.
func (s *Scenario) Judged() []string {
	var names []string
	for _, p := range s.Spec.Phases {
		if p.Judged {
			names = append(names, p.Name)
		}
	}
	return names
}

// Route is one kind of call that customers make.
type Route struct {
	Name    string
	Service string // that answers it at the edge
	Proto   string // http | grpc
}

// Routes returns what a traffic mix may be made of.
func Routes() []Route {
	return []Route{
		{"browse", "product-catalog", "http"},
		{"search", "product-catalog", "http"},
		{"configure", "configuration-engine", "http"},
		{"order", "order-processing", "http"},
		{"customer", "customer-profile", "http"},
		{"recommend", "recommendation-service", "http"},
		{"grpc-get-product", "product-catalog", "grpc"},
		{"grpc-stock", "inventory-management", "grpc"},
	}
}

// String writes the step as a reader says it: its name and its options.
func (s Step) String() string {
	switch o := s.Options.(type) {
	case *Install:
		if o.HA {
			return s.Name + " " + o.Component + ", highly available"
		}
		return s.Name + " " + o.Component
	case *UpgradeMesh:
		words := s.Name + " as it is"
		if len(o.Values) > 0 {
			words = s.Name + " with other " + strings.Join(valuePaths(o.Values), ", ")
		}
		if o.RollDataPlane {
			words += ", then restart the services with a proxy"
		}
		return words
	case *UninstallMesh:
		if o.KeepCRDs {
			return s.Name + ", leaving its CRDs"
		}
		return s.Name
	case *Inject:
		words := s.Name + " all services"
		if len(o.Services) > 0 {
			words = s.Name + " " + strings.Join(o.Services, ", ")
		}
		if o.Database {
			words += " and the database"
		}
		return words
	case *AwaitAuthenticated:
		return fmt.Sprintf("%s for %s", s.Name, o.Cycle)
	case *Enforce:
		if o.Callers == CallersDeclared {
			return s.Name + " " + o.Policy + ", declared callers only"
		}
		return s.Name + " " + o.Policy
	case *Behave:
		return fmt.Sprintf("%s: %s %s", s.Name, o.Service, behaving(o.Behaviour))
	case *Canary, *Autoscale, *AwaitReplicas:
		return fmt.Sprintf("%s: %s", s.Name, o)
	case *EndCanary:
		return s.Name + " of " + o.Service
	case *MeasureAddedLatency:
		if o.Path == PathShop {
			return fmt.Sprintf("%s of the shop with %d triples", s.Name, o.Triples)
		}
		return fmt.Sprintf("%s with %d triples of %d bytes", s.Name, o.Triples, o.PayloadBytes)
	default:
		return s.Name
	}
}
