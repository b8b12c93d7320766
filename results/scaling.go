package results

// Names of the probes of autoscalers and of the database's replica.
const (
	ProbeAutoscaling    = "autoscaling"
	ProbeReplication    = "replication"
	ProbeReplicaRestart = "replica-restart"
)

// AutoscalerKind is the kind of an autoscaler in FieldObject.
const AutoscalerKind = "HorizontalPodAutoscaler"

// Autoscaling is the data of probe autoscaling: every autoscaler of the shop as
// it was when Phase ended.
type Autoscaling struct {
	Phase       string       `json:"phase"`
	Autoscalers []Autoscaler `json:"autoscalers"`
}

// Autoscaler is one HorizontalPodAutoscaler, by its own status.
type Autoscaler struct {
	Name    string `json:"name"` // of it and of its Deployment
	Service string `json:"service"`
	Least   int    `json:"least"` // pods
	Most    int    `json:"most"`
	Current int    `json:"current"`
	Desired int    `json:"desired"`
	// Percent of the pods' requests that they use on average; nil where it has read
	// no metrics.
	Percent *int `json:"percent,omitempty"`
	Target  int  `json:"target"` // per cent
	Active  bool `json:"active"` // it can tell how many pods are wanted
	// Why it is not active, by its own words.
	Why string `json:"why,omitempty"`
}

// Measured tells whether the autoscaler reads what its pods use.
func (a Autoscaler) Measured() bool { return a.Active && a.Percent != nil }

// Replication is the data of probe replication: how far the database's replicas
// are behind when Phase ended, by the primary's pg_stat_replication, and a row
// that was written to the primary and looked for on the replica.
type Replication struct {
	Phase    string    `json:"phase"`
	Standbys []Standby `json:"standbys"`
	// ReadableAfterMs is when the row could be read at the latest, from before it
	// was written; below zero when it could not.
	ReadableAfterMs *int64   `json:"readableAfterMs"`
	Readers         []string `json:"readers"` // services that have connections to the replica
	Why             string   `json:"why,omitempty"`
}

// Standby is one line of pg_stat_replication.
type Standby struct {
	Name     string `json:"name"`
	State    string `json:"state"`              // streaming, or how far it has got
	LagBytes *int64 `json:"lagBytes,omitempty"` // of log that it has not replayed
	// LagSeconds is how long the last of it took to be replayed; PostgreSQL does not
	// say where all has been replayed and nothing is written.
	LagSeconds *float64 `json:"lagSeconds,omitempty"`
}

// Streaming is the state of a standby that follows.
const Streaming = "streaming"

// ReplicaRestart is the data of probe replica-restart. Times are from the pod's
// deletion, below zero for never.
type ReplicaRestart struct {
	ReadBefore       []string `json:"readBefore"` // services that had connections to it
	StreamedAfterMs  *int64   `json:"streamedAfterMs"`
	ReadAgain        []string `json:"readAgain"` // services that have by now
	ReadAgainAfterMs *int64   `json:"readAgainAfterMs"`
}
