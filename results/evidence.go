package results

import "time"

// Names of the probes of what is encrypted, who is who, and who gets in.
const (
	ProbeIdentity      = "identity"
	ProbeWire          = "wire"
	ProbeAuthorisation = "authorisation"
)

// Identity is the data of probe identity: every proxy's certificate as it
// presents it. Proxies is how many there are; one that presented none is Silent.
type Identity struct {
	Proxies   int         `json:"proxies"`
	Presented []Presented `json:"presented"`
	Silent    []string    `json:"silent"`
}

// Presented is one proxy's certificate.
type Presented struct {
	Pod      string    `json:"pod"`
	UID      string    `json:"uid,omitempty"` // the pod's; names of database pods come again
	Identity string    `json:"identity"`      // its DNS name
	Expected string    `json:"expected"`      // what the pod's service account asks for
	From     time.Time `json:"notBefore"`
	Until    time.Time `json:"notAfter"`
	Key      string    `json:"key"`    // as a budget names it: ecdsa-p256
	Chains   *bool     `json:"chains"` // to the trust anchor
	// Renewed tells whether the pod presented another one earlier in the run; nil
	// where it was not looked at before.
	Renewed *bool  `json:"renewed,omitempty"`
	Why     string `json:"why,omitempty"` // it does not chain
	Serial  string `json:"serial,omitempty"`
	Version string `json:"version,omitempty"` // of TLS
}

// Wire is the data of probe wire: flows between pods as captures on the nodes
// saw them between From and To, nanoseconds since the run's start. A run has
// many, of one part of it each.
type Wire struct {
	From    int64    `json:"from"`
	To      int64    `json:"to"`
	Nodes   []string `json:"nodes"`   // that were captured on
	Missing []string `json:"missing"` // nodes without a capture, for some of the time
	// Why says of each missing node what became of its capture; nil where a record
	// is older.
	Why     map[string]string `json:"why,omitempty"`
	Dropped int64             `json:"dropped"`         // packets and flows that the captures lost, or could not tell
	Flows   []Flow            `json:"flows"`           // that carried bytes, by pair of services and kind
	Planted int64             `json:"planted"`         // canary strings in the traffic
	Found   int64             `json:"found"`           // times that one was read where all should be encrypted
	Where   []string          `json:"where,omitempty"` // examples of those
	// Captures say what each capture did, and took.
	Captures []Captured `json:"captures,omitempty"`
}

// Flow is a number of flows of one kind from one service to another.
type Flow struct {
	Source      string   `json:"source"` // a service of the shop, namespace/workload, or node or outside
	Destination string   `json:"destination"`
	Port        int      `json:"port"`
	Kind        string   `json:"kind"` // tls | mixed | http1 | http2 | postgresql | server-first | other | unknown
	Count       int64    `json:"count"`
	Exempt      string   `json:"exempt,omitempty"` // why it may be plaintext: the database, kubelet's probes
	Examples    []string `json:"examples,omitempty"`
	Version     string   `json:"version,omitempty"` // of TLS, as the server chose it: 1.3
	ALPN        string   `json:"alpn,omitempty"`    // what the client offered
	Bytes       int64    `json:"bytes,omitempty"`
}

// Kinds of flows that are no protocol's.
const (
	FlowTLS     = "tls"     // encrypted
	FlowMixed   = "mixed"   // TLS, in which a canary could be read all the same
	FlowUnknown = "unknown" // followed from its middle, and nothing told what it was
)

// Names of sources and destinations that are no workload.
const (
	PartyNode    = "node"
	PartyOutside = "outside" // an address that no pod and no node has
)

// Captured is what one node's capture did.
type Captured struct {
	Node       string  `json:"node"`
	Seconds    float64 `json:"seconds"` // that were followed
	Packets    uint64  `json:"packets"`
	Drops      uint64  `json:"drops"`   // packets that the kernel had no room for
	Evicted    uint64  `json:"evicted"` // flows that were forgotten for want of room
	Lost       uint64  `json:"lost"`    // flows that no row had room for
	Gaps       uint64  `json:"gaps"`    // places where bytes of a flow never came by
	CPUSeconds float64 `json:"cpuSeconds"`
	RSSBytes   int64   `json:"rssBytes"`
}

// Authorisation is the data of probe authorisation: who tried to call whom, who
// may, and who got in.
type Authorisation struct {
	Attempts []Attempt `json:"attempts"`
}

// Outcomes of an attempt.
const (
	GotIn     = "admitted"
	GotOut    = "refused"
	GotNoWord = "unclear" // it ended in a way that says neither
)

// Credentials with which a call is tried.
const (
	AsOwn            = "own"             // meshed, with the caller's own service account
	AsWrongAccount   = "wrong-account"   // meshed, with an account that no service has
	AsOtherNamespace = "other-namespace" // meshed, with the caller's name in another namespace
	AsPlaintext      = "plaintext"       // without a proxy
	AsForeign        = "foreign"         // TLS with a certificate of another authority
	AsExpired        = "expired"         // the same, past its time
)

// Attempt is one caller's try at one callee.
type Attempt struct {
	Caller string `json:"caller"`
	Callee string `json:"callee"`
	// As says with what credentials: own, wrong-account, other-namespace, expired,
	// foreign, plaintext.
	As string `json:"as"`
	// Client is the identity that the callee's proxy was shown, "" without one, and
	// in every attempt of a record that is older.
	Client  string `json:"client,omitempty"`
	Allowed *bool  `json:"allowed"` // by the declared callers
	Got     string `json:"got"`     // admitted | refused | unclear
	Detail  string `json:"detail,omitempty"`
	// Counted tells whether a refusal showed in the deny counters, AlertedAfterMs
	// when an alert was raised: below zero for never. Nil where nobody looked.
	Counted        *bool  `json:"counted,omitempty"`
	AlertedAfterMs *int64 `json:"alertedAfterMs,omitempty"`
	// Unasked: it was refused before any policy was asked, as in a handshake with a
	// certificate that is not trusted. No deny counter shows that.
	Unasked bool `json:"unasked,omitempty"`
	// At is when it was tried, by its node's clock.
	At time.Time `json:"at,omitzero"`
	To string    `json:"to,omitempty"` // what was dialled: service, pod or proxy
}
