// Package scenarios is what to rehearse: the traffic, the phases and the steps
// in them, and the budgets that must hold. Scenarios are YAML; they are read
// strictly, and everything that is wrong with one is told at once, with its
// place, before anything is raised.
package scenarios

import (
	"fmt"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
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
	Topology string // default eks-1.24
	Seed     uint64 // default 1; the same seed makes the same traffic
	Shop     Shop
	Edge     Edge
	Traffic  Traffic
	Phases   []Phase
	Budgets  []budget.Budget
}

// Shop is how carefully the shop's pods stop.
type Shop struct {
	Drain                         bool // default true
	DrainSeconds                  int  // default 5
	ProxyWaitSeconds              int  // default 8
	TerminationGracePeriodSeconds int  // default 30
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

// MeanRate returns the requests a second that the day has on average at scale.
func (t Traffic) MeanRate(scale float64) float64 {
	return float64(t.Day.LaunchRequests) * scale / t.CompressTo.Seconds()
}

// HoldLimit returns how long a phase may wait for its requests after its steps
// are done: far longer than it should take, so that only a starving phase ends
// by it.
func (s *Scenario) HoldLimit(p Phase) time.Duration {
	return 2*s.expected(p) + s.Spec.Traffic.CompressTo + time.Minute
}

// expected returns how long the phase takes when its steps take no time.
func (s *Scenario) expected(p Phase) time.Duration {
	sending := float64(p.Until.Requests) / s.Spec.Traffic.MeanRate(p.Scale)
	return max(p.Until.AtLeast, time.Duration(sending*float64(time.Second)))
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
	return results.Traffic{
		RealPerDay: t.Day.Requests, LaunchPerDay: t.Day.LaunchRequests, CompressTo: t.CompressTo,
		Timeout: t.Timeout, MaxLate: t.MaxLate, MaxLateShare: t.MaxLateShare, Mix: t.Mix,
	}
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
		return s.Name + " " + o.Component
	case *Inject:
		if len(o.Services) == 0 {
			return s.Name + " all services"
		}
		return s.Name + " " + strings.Join(o.Services, ", ")
	case *AwaitAuthenticated:
		return fmt.Sprintf("%s for %s", s.Name, o.Cycle)
	case *Enforce:
		return s.Name + " " + o.Policy
	case *MeasureAddedLatency:
		return fmt.Sprintf("%s with %d triples of %d bytes", s.Name, o.Triples, o.PayloadBytes)
	default:
		return s.Name
	}
}
