package results

import "encoding/json"

// Outcomes of a request.
const (
	// OK: the shop did what was asked.
	OK = "ok"
	// Rejected: a business answer (sold out, payment declined, not found). It
	// counts as served.
	Rejected = "rejected"
	// Failed: 5xx, 403, transport error or timeout.
	Failed = "failed"
	// Undispatched: the sender could not send it at all, so it says nothing
	// about the shop and something about the sender.
	Undispatched = "undispatched"
)

// Classes of a failure. HTTP and gRPC statuses are classes of their own:
// http-502, grpc-UNAVAILABLE.
const (
	ClassConnectRefused = "connect-refused"
	ClassReset          = "reset"
	ClassEOF            = "eof"
	ClassTimeout        = "timeout"
	ClassTLS            = "tls"
	ClassPolicyDenied   = "policy-denied"
	ClassSender         = "sender" // the sender's own trouble
)

// Request is one line of requests.jsonl. Scheduled, Sent and Done are
// nanoseconds since the run's start; Sent and Done are 0 when the request was
// not dispatched.
type Request struct {
	Seq       uint64 `json:"seq"`
	Scheduled int64  `json:"scheduled"`
	Sent      int64  `json:"sent"`
	Done      int64  `json:"done"`
	Phase     string `json:"phase"`
	Route     string `json:"route"` // the mix's name of the call: browse, order, …
	Proto     string `json:"proto"` // http | grpc
	Status    int    `json:"status"`
	Outcome   string `json:"outcome"`
	Class     string `json:"class,omitempty"`
	// Hop is "caller>callee" where the shop could say it, else the service
	// that was called from outside, or "".
	Hop string `json:"hop,omitempty"`
	Pod string `json:"pod,omitempty"` // that answered, or that failed
	// Hops is the whole way that the request took through the shop, pods, nodes,
	// versions and times: one line of at most 1,200 bytes, as package
	// fakeshop/shopapi/hops writes and reads it. "" when the shop did not tell.
	Hops    string `json:"hops,omitempty"`
	Error   string `json:"error,omitempty"`
	OrderID string `json:"orderId,omitempty"`
	// Agent is who sent it from inside the cluster, "" for the sender outside.
	// Seq is unique for one sender's schedule, so with Agent in a run.
	Agent string `json:"agent,omitempty"`
}

// Latency is what a customer waited, in nanoseconds: from the scheduled
// instant, so that a sender's stall counts.
func (r *Request) Latency() int64 { return r.Done - r.Scheduled }

// Lag is how late the request left, in nanoseconds.
func (r *Request) Lag() int64 { return r.Sent - r.Scheduled }

// Told is what a customer knows of an order. Of one that was sent more than once
// the greatest counts.
type Told int

const (
	ToldNothing Told = iota // it was no order, or was never sent
	ToldUnsure              // no answer came, or one that says nothing: it may have happened
	ToldNo                  // it was refused: sold out, payment declined
	ToldYes                 // it is placed
)

// Told is what the request's answer says of its order.
func (r *Request) Told() Told {
	if r.OrderID == "" {
		return ToldNothing
	}
	switch r.Outcome {
	case OK:
		return ToldYes
	case Rejected:
		return ToldNo
	case Failed:
		return ToldUnsure
	}
	return ToldNothing
}

// Kinds of events.
const (
	PhaseBegin = "phase-begin" // Name: the phase
	PhaseEnd   = "phase-end"
	StepBegin  = "step-begin" // Name: the step; Detail: its options in words
	StepEnd    = "step-end"
	Pod        = "pod"       // Name: the pod; fields service, state, node
	Endpoints  = "endpoints" // Name: the service; fields state added|removed, pod
	Node       = "node"      // Name: the node; fields state ready|not-ready
	Warning    = "warning"
	Note       = "note"
	// Watching: from here on pods, endpoints and nodes are written down; Name: the
	// namespaces.
	Watching = "watching"
	// Rollout is of a Deployment: Name: its name; fields state begun|complete.
	Rollout = "rollout"
	// Certificate is what cert-manager or the mesh's identity says of one; Name: the
	// object; Detail: its reason and message.
	Certificate = "certificate"
	// Webhook is what the mesh's injector says of a call; Name: the object. Or what
	// the API server counts of one; Name: the webhook; fields state
	// rejected|failed-closed|failed-open.
	Webhook = "webhook"
	// Vault is an entry of its audit log; Name: operation and path; Detail: why it
	// was in vain; fields state served|denied|failed, operation, path, role, entity.
	Vault = "vault"
)

// Keys of an event's fields, which attribution reads.
const (
	FieldService = "service" // the Deployment that a pod belongs to
	FieldState   = "state"
	FieldNode    = "node"
	FieldZone    = "zone"
	FieldPod     = "pod"
	FieldMeshed  = "meshed" // "true" | "false": does the pod have a proxy
	FieldError   = "error"  // of a step that failed
	FieldObject  = "object" // the kind of what Kubernetes' own event is about
)

// States of a pod or a node (FieldState).
const (
	StateCreated     = "created"
	StateReady       = "ready"
	StateNotReady    = "not-ready"
	StateTerminating = "terminating" // deletion asked, SIGTERM on its way
	StateGone        = "gone"
	StateRestarted   = "restarted" // a container died and came again
	StateOOMKilled   = "oom-killed"
	StateAdded       = "added"
	StateRemoved     = "removed"
	StateBegun       = "begun"
	StateComplete    = "complete"
)

// Event is one line of events.jsonl: something that was done to the cluster or
// was seen to happen in it. At is nanoseconds since the run's start.
type Event struct {
	At     int64             `json:"at"`
	Kind   string            `json:"kind"`
	Name   string            `json:"name"`
	Phase  string            `json:"phase,omitempty"`
	Detail string            `json:"detail,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

// Probe is one line of probes.jsonl: one observation. Data has the shape that
// belongs to the probe's name.
type Probe struct {
	At    int64           `json:"at"`
	Probe string          `json:"probe"`
	Phase string          `json:"phase,omitempty"`
	Data  json.RawMessage `json:"data"`
}
