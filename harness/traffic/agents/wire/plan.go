// Package wire is what the harness and its agents in the cluster say to each
// other: the plan of a sender, its part of a schedule, and the frames in which
// its results come.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/shape"
)

// Version is of everything in this package. An agent of another version is of
// another build than the harness, and might draw another schedule.
const Version = 1

// Plan is what an agent is to send. With its index it says all: the requests
// and their instants are drawn from it, not told one by one.
type Plan struct {
	Version int     `json:"version"`
	Run     string  `json:"run"`
	Group   string  `json:"group"`
	Seed    uint64  `json:"seed"`
	Part    Part    `json:"part"` // with an Index of 0, in whose place the agent's own comes
	Traffic Traffic `json:"traffic"`
	HTTP    string  `json:"http,omitempty"` // host:port
	GRPC    string  `json:"grpc,omitempty"`
	// Hosts are all that may be sent to.
	Hosts []string `json:"hosts"`
}

// Traffic is a scenario's traffic in a form that can be handed on.
type Traffic struct {
	Requests       int            `json:"requests"` // of an ordinary day
	LaunchRequests int            `json:"launchRequests"`
	CompressTo     time.Duration  `json:"compressToNs"`
	Timeout        time.Duration  `json:"timeoutNs"`
	MaxLate        time.Duration  `json:"maxLateNs"`
	Mix            map[string]int `json:"mix"`
	Shape          string         `json:"shape,omitempty"` // as scenarios have it
	Rate           float64        `json:"rate,omitempty"`  // in the shape's place, requests a second
}

// TrafficOf returns what a group sends, as it is handed on.
func TrafficOf(t scenarios.Traffic, a scenarios.Agents) Traffic {
	handed := Traffic{
		Requests: t.Day.Requests, LaunchRequests: t.Day.LaunchRequests, CompressTo: t.CompressTo,
		Timeout: t.Timeout, MaxLate: t.MaxLate, Mix: t.Mix, Rate: a.Rate,
	}
	if a.Direct() {
		handed.Mix = map[string]int{a.Target: 1}
	}
	if a.Rate == 0 {
		handed.Shape = t.ShapeText
	}
	return handed
}

// Scenario returns the traffic as senders take it.
func (t Traffic) Scenario() (scenarios.Traffic, error) {
	s := scenarios.Traffic{
		Day:        scenarios.Day{Requests: t.Requests, LaunchRequests: t.LaunchRequests},
		CompressTo: t.CompressTo, Timeout: t.Timeout, MaxLate: t.MaxLate, Mix: t.Mix,
	}
	switch {
	case t.Rate > 0:
		s.Shape = shape.Constant(t.Rate)
	case t.Shape != "":
		given, err := scenarios.ParseShape("the plan's shape", t.Shape, s)
		if err != nil {
			return scenarios.Traffic{}, err
		}
		s.Shape = given
	}
	return s, nil
}

// ReadPlan reads a plan for the agent of an index.
func ReadPlan(raw []byte, index int) (Plan, error) {
	var p Plan
	if err := json.Unmarshal(raw, &p); err != nil {
		return Plan{}, fmt.Errorf("read the plan: %w", err)
	}
	if p.Version != Version {
		return Plan{}, fmt.Errorf("the plan is of version %d, and this agent understands %d", p.Version, Version)
	}
	p.Part.Index = index
	if err := p.Part.check(); err != nil {
		return Plan{}, fmt.Errorf("the plan: %w", err)
	}
	if len(p.Hosts) == 0 {
		return Plan{}, errors.New("the plan names no host to send to")
	}
	return p, nil
}
