package results

import (
	"time"

	"meshsim.dev/meshsim/scenarios/journey"
)

// Run is run.json: what ran, on what, and with what intent. It is written when
// the run starts and again when it ends; a run without EndedAt was cut off.
type Run struct {
	ID        string    `json:"id"`
	Scenario  string    `json:"scenario"`
	Mesh      string    `json:"mesh"` // linkerd | fakemesh | ""
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	Seed      uint64    `json:"seed"`

	Topology          string  `json:"topology"`
	KubernetesVersion string  `json:"kubernetesVersion"`
	Fit               Fit     `json:"fit"`
	Images            []Image `json:"images,omitempty"`
	Charts            []Chart `json:"charts,omitempty"`
	// StandIns names the parts that were played by programs of this project.
	StandIns []string `json:"standIns,omitempty"`
	// Notes say what was not as in the real shop (no cross-zone delay, …).
	Notes []string `json:"notes,omitempty"`
	Host  Host     `json:"host"`

	Traffic Traffic     `json:"traffic"`
	Shop    Shop        `json:"shop"`
	Edge    Edge        `json:"edge,omitzero"` // zero in records that are older than it
	Phases  []PhasePlan `json:"phases,omitempty"`
	// Budgets are the scenario's budget lines, word for word.
	Budgets []string `json:"budgets,omitempty"`

	// Interrupted is set when the run was stopped before its last phase ended.
	Interrupted bool `json:"interrupted,omitempty"`
	// Error says why the run ended early, "" when it did not.
	Error string `json:"error,omitempty"`

	Calibration  *Calibration     `json:"calibration,omitempty"`
	ClockOffsets map[string]int64 `json:"clockOffsetsNs,omitempty"` // by node
	// Agents are the senders inside the cluster, Missing what they were to send
	// and brought no result of.
	Agents  []AgentGroup `json:"agents,omitempty"`
	Missing []Missing    `json:"missing,omitempty"`
	// Tool is the version of meshsim that ran.
	Tool string `json:"tool,omitempty"`

	// Recorded is filled by the folder: how many lines each file held when
	// this was written. A file that holds fewer has lost some.
	Recorded Recorded `json:"recorded,omitzero"`

	// Cut is set by reading: the file stops before its end, and what it held
	// beyond that is missing here.
	Cut bool `json:"-"`
}

// Ended tells whether the run came to its end and said so.
func (r Run) Ended() bool { return !r.EndedAt.IsZero() }

// Fit says by what the pods' requests were multiplied to fit the host.
type Fit struct {
	CPU    float64  `json:"cpu"`    // ≤ 1
	Memory float64  `json:"memory"` // ≤ 1
	Notes  []string `json:"notes,omitempty"`
}

// Image is one image that took part, as the bundle knows it.
type Image struct {
	Name    string `json:"name"`
	Ref     string `json:"ref"`
	Digest  string `json:"digest"`
	Version string `json:"version,omitempty"`
	Origin  string `json:"origin,omitempty"` // built | pulled | local
	// Source is what was given in the place of the bundle's own, "" for its own.
	Source string `json:"source,omitempty"`
}

// Chart is one Helm chart of the bundle.
type Chart struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Origin  string `json:"origin,omitempty"` // as of an image
	Source  string `json:"source,omitempty"` // as of an image
}

// Host is the machine that the run took place on.
type Host struct {
	OS          string `json:"os"`
	Kernel      string `json:"kernel"`
	CPUs        int    `json:"cpus"`
	MemoryBytes int64  `json:"memoryBytes"`
}

// Traffic is what was sent and by which rules a request counts as late.
type Traffic struct {
	// RealPerDay and LaunchPerDay are the shop's figures, uncompressed.
	RealPerDay   int           `json:"realPerDay"`
	LaunchPerDay int           `json:"launchPerDay"`
	CompressTo   time.Duration `json:"compressToNs"` // how long one day lasts
	// Day is CompressTo where the flag --day gave it, 0 where the scenario did.
	Day time.Duration `json:"dayNs,omitempty"`
	// Shape says in words what was sent in the launch day's place, with its mean
	// requests a second at scale 1 and how many times as fast as in the real shop
	// time went by; "" for the launch day.
	Shape    string        `json:"shape,omitempty"`
	MeanRate float64       `json:"meanRate,omitempty"`
	Faster   float64       `json:"faster,omitempty"`
	Timeout  time.Duration `json:"timeoutNs"` // of one request
	// MaxLate is how long after its scheduled instant a request may be sent.
	MaxLate time.Duration `json:"maxLateNs"`
	// MaxLateShare (0–1) is the share of late requests above which latency
	// budgets are inconclusive.
	MaxLateShare float64        `json:"maxLateShare"`
	Mix          map[string]int `json:"mix,omitempty"` // weight by route
	// Journeys are what customers did in the mix's place, nil for a mix.
	Journeys *journey.Set `json:"journeys,omitempty"`
	// Replayed are the routes of a recording that was sent again.
	Replayed []string `json:"replayed,omitempty"`
	// Connections is how REST requests were sent: keep-alive, new or http2, ""
	// in older records; MaxConnections is 0 where nothing bounded them.
	Connections    string `json:"connections,omitempty"`
	MaxConnections int    `json:"maxConnections,omitempty"`
	// HTTP and GRPC are where the load balancer was: 127.0.0.1:port.
	HTTP string `json:"http,omitempty"`
	GRPC string `json:"grpc,omitempty"`
}

// DayLasts returns how long one day lasted, 0 where what was sent may have none.
func (t Traffic) DayLasts() time.Duration {
	if t.Shape != "" {
		return t.Day
	}
	return t.CompressTo
}

// Shop is how carefully the shop's pods were replaced.
type Shop struct {
	Drain                         bool `json:"drain"`
	DrainSeconds                  int  `json:"drainSeconds"`
	ProxyWaitSeconds              int  `json:"proxyWaitSeconds"`
	TerminationGracePeriodSeconds int  `json:"terminationGracePeriodSeconds"`
	MinReadySeconds               int  `json:"minReadySeconds,omitempty"`
	DatabaseReplica               bool `json:"databaseReplica,omitempty"` // it was asked for
	// Values are more of the shop chart's, as the scenario gives them.
	Values map[string]any `json:"values,omitempty"`
}

// Edge is how the load balancer was told to treat its targets.
type Edge struct {
	Targets                    string `json:"targets"` // instance | ip
	DeregistrationDelaySeconds int    `json:"deregistrationDelaySeconds"`
	SlowStartSeconds           int    `json:"slowStartSeconds"`
	Algorithm                  string `json:"algorithm"`
	IdleTimeoutSeconds         int    `json:"idleTimeoutSeconds"`
}

// PhasePlan is one phase as the scenario planned it.
type PhasePlan struct {
	Name   string  `json:"name"`
	Scale  float64 `json:"scale"` // of the day's requests
	Judged bool    `json:"judged"`
	// MinRequests is how many requests the phase waits for before it ends.
	MinRequests int `json:"minRequests"`
}

// Calibration is what the sender measured against a server that does nothing,
// so that its own share of every latency is known, and how fast it can send.
type Calibration struct {
	// Of requests at an easy rate, from their scheduled instants.
	Requests int           `json:"requests"`
	P50      time.Duration `json:"p50Ns"`
	P99      time.Duration `json:"p99Ns"`
	Max      time.Duration `json:"maxNs"`
	// Trials are the rates that were tried, in their order, and Held the highest
	// that was held, in requests a second. Both are empty in older records.
	Trials []Trial `json:"trials,omitempty"`
	Held   float64 `json:"heldPerSecond,omitempty"`
	// Wanted is the highest rate that the scenario means to send.
	Wanted float64 `json:"wantedPerSecond,omitempty"`
}

// Trial is a rate at which the sender was tried.
type Trial struct {
	Rate float64 `json:"rate"` // meant, in requests a second
	// Requests were scheduled; of them NotSent never left, and Failed did in vain.
	Requests int64 `json:"requests"`
	NotSent  int64 `json:"notSent,omitempty"`
	Failed   int64 `json:"failed,omitempty"`
	// Lags are how late requests left, of those that did.
	LagP50 time.Duration `json:"lagP50Ns"`
	LagP99 time.Duration `json:"lagP99Ns"`
	LagMax time.Duration `json:"lagMaxNs"`
	Held   bool          `json:"held"`
}

// Recorded counts the lines of each file.
type Recorded struct {
	Requests int64 `json:"requests"`
	Events   int64 `json:"events"`
	Probes   int64 `json:"probes"`
}
