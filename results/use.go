package results

// Names of the probes of what Vault and the API server were asked for.
const (
	ProbeVaultAudit = "vault-audit"
	ProbeWebhooks   = "webhook-calls"
)

// VaultAudit is the data of probe vault-audit: Vault's own audit log between From
// and To, nanoseconds since the run's start, reduced to who did what. No value,
// token or key is in it, hashed or not.
type VaultAudit struct {
	From     int64 `json:"from"`
	To       int64 `json:"to"`
	Requests int64 `json:"requests"` // that were answered
	Denied   int64 `json:"denied"`   // of them for want of permission
	Failed   int64 `json:"failed"`   // of them for another reason
	// Clear counts entries that hold a token or a secret as it is, where Vault
	// should have put its HMAC.
	Clear int64 `json:"clear"`
	// Uses are the requests by kind, the most frequent first. Others is how many
	// are in kinds that no room was left for.
	Uses   []VaultUse `json:"uses"`
	Others int64      `json:"others,omitempty"`
	// Untold counts denied requests that stand in no event, for there were too many.
	Untold int64    `json:"untold,omitempty"`
	Missed []string `json:"missed,omitempty"` // what of the log may not have been read
}

// VaultUse is one kind of requests to Vault.
type VaultUse struct {
	Operation string `json:"operation"` // read | update | …
	Path      string `json:"path"`
	Role      string `json:"role,omitempty"` // of Kubernetes auth, or what else the token is called
	Error     string `json:"error,omitempty"`
	Count     int64  `json:"count"`
}

// Webhooks is the data of probe webhook-calls: admissions that webhooks were asked
// for between From and To, nanoseconds since the run's start, by the API server's
// own count.
type Webhooks struct {
	Phase string `json:"phase"`
	From  int64  `json:"from"`
	To    int64  `json:"to"`
	// Whole tells that one and the same API server was asked all the time; else
	// some calls are in no count.
	Whole *bool          `json:"whole"`
	Calls []WebhookCalls `json:"calls"` // those that were called, by name
}

// WebhookCalls is how one webhook was called.
type WebhookCalls struct {
	Name     string `json:"name"`
	Type     string `json:"type"` // admit | validating, as the API server names them
	Calls    int64  `json:"calls"`
	Rejected int64  `json:"rejected"` // by its own word
	// FailedClosed are calls that did not get through, so that the object was refused;
	// FailedOpen those whose object was let in all the same.
	FailedClosed int64   `json:"failedClosed"`
	FailedOpen   int64   `json:"failedOpen"`
	MeanMs       float64 `json:"meanMs"`
	// WithinMs is the edge of the histogram that the slowest call stayed below; 0
	// when there is none.
	WithinMs float64 `json:"withinMs,omitempty"`
}

// States of an event of Vault (FieldState), and of a webhook.
const (
	StateServed       = "served"
	StateDenied       = "denied"
	StateFailed       = "failed"
	StateRejected     = "rejected"
	StateFailedClosed = "failed-closed"
	StateFailedOpen   = "failed-open"
)

// Keys of the fields of Vault's events.
const (
	FieldOperation = "operation"
	FieldPath      = "path"
	FieldRole      = "role"
	FieldEntity    = "entity"
	FieldClient    = "client" // pod that a request in vain came from, or its address
)
