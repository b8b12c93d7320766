package results

import "time"

// AgentGroup is one group of senders inside the cluster.
type AgentGroup struct {
	Name   string  `json:"name"`
	Meshed bool    `json:"meshed"`
	Zone   string  `json:"zone,omitempty"` // that was asked for
	Target string  `json:"target"`
	Share  float64 `json:"share,omitempty"` // 0–1 of the run's own traffic
	Rate   float64 `json:"rate,omitempty"`  // requests a second at scale 1, on top of it
	From   string  `json:"from"`            // the phase with which they began
	// Latency is of all of the group's finished requests, from the agents' own
	// histograms merged; nil when none has told.
	Latency *AgentLatency `json:"latency,omitempty"`
	Agents  []Agent       `json:"agents"`
}

// AgentLatency is a group's, from the scheduled instants.
type AgentLatency struct {
	Requests int64         `json:"requests"`
	P50      time.Duration `json:"p50Ns"`
	P99      time.Duration `json:"p99Ns"`
	Max      time.Duration `json:"maxNs"`
}

// Agent is one sender of a group.
type Agent struct {
	Name     string `json:"name"` // as requests have it
	Pod      string `json:"pod,omitempty"`
	Node     string `json:"node,omitempty"`
	Zone     string `json:"zone,omitempty"`
	Requests int64  `json:"requests"` // whose results came
	// Begin and End are the agent's clock against the run's, before and after.
	Begin *ClockOffset `json:"clockBegin,omitempty"`
	End   *ClockOffset `json:"clockEnd,omitempty"`
	// Drift is how much the offset changed between the two.
	Drift time.Duration `json:"driftNs,omitempty"`
	Lost  string        `json:"lost,omitempty"` // why its results ended early
}

// ClockOffset is one measurement of an agent's clock through the API server.
// Whatever the way there and back took, the offset is off by no more than the
// uncertainty.
type ClockOffset struct {
	At          int64         `json:"atNs"`     // since the run's start
	Offset      time.Duration `json:"offsetNs"` // the run's time less the agent's monotonic clock
	Uncertainty time.Duration `json:"uncertaintyNs"`
	// WallOffset is the agent's time of day less this machine's, as uncertain.
	WallOffset time.Duration `json:"wallOffsetNs"`
}

// Missing is a part of a phase's traffic whose results never came, so that
// nothing is known of it.
type Missing struct {
	Agent    string `json:"agent"`
	Phase    string `json:"phase"`
	Requests int64  `json:"requests"` // scheduled, with no result
	From     int64  `json:"fromNs"`   // the first one's scheduled instant, since the run's start
	Why      string `json:"why"`
}
