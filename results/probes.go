package results

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names of the probes.
const (
	ProbeInjection    = "injection"
	ProbeMTLS         = "mtls"
	ProbePlaintext    = "plaintext"
	ProbeIssuer       = "issuer-certificate"
	ProbeVaultUnseal  = "vault-unseal"
	ProbeAddedLatency = "added-latency"
	ProbeLedger       = "ledger"
	ProbeLinkerdCheck = "linkerd-check"
	ProbeLeaves       = "leaf-certificates"

	ProbeResources     = "proxy-resources"
	ProbePromQL        = "promql"
	ProbeVaultSeal     = "vault-seal"
	ProbeVaultRotation = "vault-rotation"
	ProbeHostLoad      = "host-load"

	ProbeSecretsRotated = "secrets-rotated"
)

// NewProbe makes a line of probes.jsonl from one of the data types below.
func NewProbe(at int64, name, phase string, data any) (Probe, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return Probe{}, fmt.Errorf("encode probe %s: %w", name, err)
	}
	return Probe{At: at, Probe: name, Phase: phase, Data: raw}, nil
}

// ProbeWarning names the warning that a probe could not be taken, and why.
func ProbeWarning(name string) string { return "probe " + name }

// Fields that are pointers must be set: a nil one is evidence that is missing.

// Injection is the data of probe injection: which of the shop's pods have a proxy.
type Injection struct {
	Pods     int      `json:"pods"`
	Injected int      `json:"injected"`
	Missing  []string `json:"missing"` // names of pods without a proxy
}

// MTLS is the data of probe mtls: service-to-service calls by the proxies' own
// count during Phase.
type MTLS struct {
	Phase     string           `json:"phase"`
	TLS       int64            `json:"tls"`
	Plain     int64            `json:"plain"`
	ByReason  map[string]int64 `json:"byReason,omitempty"` // plain calls by no_tls_reason
	ByService map[string]Calls `json:"byService,omitempty"`
}

// Calls counts the calls that one service received.
type Calls struct {
	TLS   int64 `json:"tls"`
	Plain int64 `json:"plain"`
}

// Plaintext is the data of probe plaintext: unencrypted calls tried from a pod
// without a proxy. An attempt that got no clear answer is in neither count.
type Plaintext struct {
	Attempts int      `json:"attempts"`
	Refused  int      `json:"refused"`
	Accepted int      `json:"accepted"`
	Evidence []string `json:"evidence,omitempty"`
	// Exempt are ports that were tried as well and may let such calls in; they are
	// in none of the counts, and nil where a record is older.
	Exempt []ExemptPort `json:"exempt,omitempty"`
}

// ExemptPort is what became of unencrypted calls to one port of one service.
type ExemptPort struct {
	Service string `json:"service"`
	Port    int    `json:"port"`
	Exempt  string `json:"exempt"` // why it may let them in
	Got     string `json:"got"`    // admitted | refused | unclear
	Detail  string `json:"detail,omitempty"`
}

// OpenText says which exempt ports let anyone in, and why; "" when none did.
func (p Plaintext) OpenText() string {
	open := map[string][]int{}
	for _, e := range p.Exempt {
		if e.Got == GotIn && !slices.Contains(open[e.Exempt], e.Port) {
			open[e.Exempt] = append(open[e.Exempt], e.Port)
		}
	}
	var parts []string
	for _, why := range slices.Sorted(maps.Keys(open)) {
		var ports []string
		for _, port := range slices.Sorted(slices.Values(open[why])) {
			ports = append(ports, "port "+strconv.Itoa(port))
		}
		parts = append(parts, fmt.Sprintf("%s: anyone gets in without mTLS, as %s", strings.Join(ports, ", "), why))
	}
	return strings.Join(parts, "; ")
}

// Issuer is the data of probe issuer-certificate.
type Issuer struct {
	NotBefore          time.Time `json:"notBefore"`
	NotAfter           time.Time `json:"notAfter"`
	IsCA               *bool     `json:"isCA"`
	KeyAlgorithm       string    `json:"keyAlgorithm"` // ECDSA
	Curve              string    `json:"curve"`        // P-256
	RenewBeforeSeconds int64     `json:"renewBeforeSeconds"`
	RenewalTime        time.Time `json:"renewalTime"`
	ChainsToAnchor     *bool     `json:"chainsToAnchor"`
}

// VaultUnseal is the data of probe vault-unseal.
type VaultUnseal struct {
	Restarted bool   `json:"restarted"`
	Seal      string `json:"seal"` // awskms
	// UnsealedAfterMs is negative when Vault stayed sealed.
	UnsealedAfterMs  *int64 `json:"unsealedAfterMs"`
	OperatorKeysUsed *bool  `json:"operatorKeysUsed"`
}

// AddedLatency is the data of probe added-latency. Index i of the three sample
// lists is one interleaved triple; samples are milliseconds.
type AddedLatency struct {
	PayloadBytes int                `json:"payloadBytes"`
	Samples      AddedLatencySample `json:"samples"`
	// PerHop is one call between two pods; else it is a whole request of a customer,
	// and Path says what was asked for and who answered.
	PerHop bool   `json:"perHop"`
	Path   string `json:"path,omitempty"`
	// Lost triples had a call without a whole answer; they were measured again.
	Lost int `json:"lost,omitempty"`
	// Planned is how many triples were to be measured, 0 where the record does not
	// say; Agent is who measured, where there are several.
	Planned int    `json:"planned,omitempty"`
	Agent   string `json:"agent,omitempty"`
}

// AddedLatencySample holds the three measured twins.
type AddedLatencySample struct {
	Plain      []float64 `json:"plain"`
	Meshed     []float64 `json:"meshed"`
	PlainAgain []float64 `json:"plainAgain"`
}

// Ledger is the data of probe ledger: every order compared with the database.
type Ledger struct {
	Acknowledged    int      `json:"acknowledged"` // orders that the client was told are placed
	Ambiguous       int      `json:"ambiguous"`    // orders whose answer was lost
	Written         int      `json:"written"`      // orders that are confirmed
	Lost            []string `json:"lost"`         // acknowledged, and not confirmed
	Doubled         []string `json:"doubled"`
	Oversold        []string `json:"oversold"`
	PaymentMismatch []string `json:"paymentMismatch"`
	// Unsettled orders were still under way when they were looked up: what becomes
	// of them is not known.
	Unsettled []string `json:"unsettled,omitempty"`
	// Answers is nil in records that are older than it: they do not tell what
	// became of orders that were refused or left without an answer.
	Answers *Answers `json:"answers,omitempty"`
}

// Answers is what became of the orders that were not acknowledged.
type Answers struct {
	Refused      int      `json:"refused"`      // orders that the client was told come to nothing
	Contradicted []string `json:"contradicted"` // refused, and confirmed all the same
	Unasked      []string `json:"unasked"`      // confirmed, and in no request of the record
	// The orders whose answer was lost, by what the database says of them; those
	// that are still under way are in none.
	AmbiguousWritten   int `json:"ambiguousWritten"`
	AmbiguousCancelled int `json:"ambiguousCancelled"`
	AmbiguousAbsent    int `json:"ambiguousAbsent"`
}

// LinkerdCheck is the data of probe linkerd-check: what Linkerd's own
// `linkerd check` says of the cluster.
type LinkerdCheck struct {
	When      string    `json:"when"`      // what it followed, in words
	DataPlane bool      `json:"dataPlane"` // the shop's proxies were looked at too
	Success   bool      `json:"success"`
	Passed    int       `json:"passed"`
	Findings  []Finding `json:"findings"` // what did not pass
	// Reports are its JSON documents as they came: the mesh's own, then one an extension.
	Reports []json.RawMessage `json:"reports"`
}

// Finding is one check that did not pass.
type Finding struct {
	Category string `json:"category"`
	Check    string `json:"check"`
	Result   string `json:"result"` // warning | error
	Error    string `json:"error,omitempty"`
}

// Leaves is the data of probe leaf-certificates: when the proxies' own
// certificates end, by their own figures.
type Leaves struct {
	Proxies  int       `json:"proxies"`           // of the shop's pods
	Earliest time.Time `json:"earliest,omitzero"` // the first to end
	Expired  []string  `json:"expired"`           // pods whose certificate has ended
	Silent   []string  `json:"silent"`            // meshed pods that gave no figure
}
