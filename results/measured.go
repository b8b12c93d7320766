package results

import "time"

// The data of probes that look at a part of the run: From and To are
// nanoseconds since the run's start.

// ProxyResources is the data of probe proxy-resources: what the proxies used
// during Phase, by the kubelets' account.
type ProxyResources struct {
	Phase   string       `json:"phase"`
	From    int64        `json:"from"`
	To      int64        `json:"to"`
	Proxies []ProxyUsage `json:"proxies"`
	Silent  []string     `json:"silent,omitempty"` // meshed pods without a figure
}

// ProxyUsage is one proxy's.
type ProxyUsage struct {
	Pod         string `json:"pod"`
	Service     string `json:"service"`
	MemoryBytes int64  `json:"memoryBytes"` // working set, when the phase ended
	// Cores is the mean use of CPU since From or since the proxy's start; nil when
	// there is only one reading.
	Cores *float64 `json:"cores,omitempty"`
}

// Answer is the data of probe promql: one query's answer when Phase ended.
type Answer struct {
	Query   string   `json:"query"` // as the budget writes it
	Asked   string   `json:"asked"` // with $window filled in
	Phase   string   `json:"phase"`
	Samples []Sample `json:"samples"`
}

// Sample is one of an answer's. Value is a text because JSON knows no NaN.
type Sample struct {
	Labels map[string]string `json:"labels,omitempty"`
	Value  string            `json:"value"`
}

// VaultSeal is the data of probe vault-seal: what Vault said of its seal, every
// time that it changed. Nobody knows what it was before From or after To.
type VaultSeal struct {
	From   int64        `json:"from"` // Vault's first answer
	To     int64        `json:"to"`   // the last look
	States []SealChange `json:"states"`
}

// SealChange is when Vault was first seen in a state.
type SealChange struct {
	At    int64  `json:"at"`
	State string `json:"state"` // unsealed | sealed | silent
}

// States of Vault's seal.
const (
	SealUnsealed = "unsealed"
	SealSealed   = "sealed"
	SealSilent   = "silent" // it did not answer
)

// VaultRotation is the data of probe vault-rotation: how old each secret is that
// the shop reads, and each certificate that Vault signed for the mesh, and how
// often they are replaced. None of their values is in it.
type VaultRotation struct {
	Secrets      []SecretAge `json:"secrets"`
	Certificates []SecretAge `json:"certificates,omitempty"`
}

// SecretAge is one secret's, or one certificate's. Every is 0 where nothing
// replaces it.
type SecretAge struct {
	Path  string        `json:"path"` // in Vault, or namespace/name of a certificate
	Age   time.Duration `json:"ageNs"`
	Every time.Duration `json:"everyNs"`
	Since time.Time     `json:"since,omitzero"` // when the newest version was written, or begins
	// Version counts the versions of a secret, from 1; 0 for a certificate.
	Version int `json:"version,omitempty"`
	// Anchor is a certificate that all others hang from, which is not meant to be
	// replaced often.
	Anchor bool `json:"anchor,omitempty"`
}

// SecretsRotated is the data of probe secrets-rotated: what step rotate-secrets had
// renewed, and by which logins the services were connected to the database then.
type SecretsRotated struct {
	Job     string          `json:"job"`
	Secrets []RotatedSecret `json:"secrets"`
	Logins  []UsedLogin     `json:"logins"` // by service
	// JobMs is how long the rotator worked, with the time that it gives services to
	// take up what is new; UsedMs how long it took, from the same begin on, until
	// every service was seen to use it.
	JobMs  int64 `json:"jobMs"`
	UsedMs int64 `json:"usedMs"`
}

// RotatedSecret is one secret's version before and after.
type RotatedSecret struct {
	Path string `json:"path"`
	From int    `json:"from"`
	To   int    `json:"to"`
}

// UsedLogin is a login of the database that a service has sessions by. Before are
// those that it had sessions by when the step began.
type UsedLogin struct {
	Service  string   `json:"service"`
	Login    string   `json:"login"`
	Sessions int      `json:"sessions"`
	Before   []string `json:"before"`
}

// HostLoad is the data of probe host-load: how busy the host's CPUs were through
// a phase, with all that ran on them. Shares run from 0 to 1.
type HostLoad struct {
	Lasted time.Duration `json:"lastedNs"`
	Busy   float64       `json:"busy"`   // of all CPUs' time
	Stolen float64       `json:"stolen"` // of it, by other machines on the same hardware
	// Waiting is the share of the time in which some program waited for a CPU, nil
	// where the kernel does not tell.
	Waiting *float64 `json:"waiting,omitempty"`
	// Seconds are the phase's, one after the other, as far as they were followed.
	Seconds []HostSecond `json:"seconds,omitempty"`
}

// HostSecond is how busy the host's CPUs were in about a second. Shares run from
// 0 to 1, in thousandths.
type HostSecond struct {
	From    int64    `json:"from"` // nanoseconds since the run began
	To      int64    `json:"to"`
	Busy    float64  `json:"busy"`              // of all CPUs' time
	Waiting *float64 `json:"waiting,omitempty"` // of the time, in which some program waited for a CPU
}
