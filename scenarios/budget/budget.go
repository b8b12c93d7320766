// Package budget is the little language of budgets: one readable line that must
// hold for a rehearsal to pass. docs/scenarios.md holds its grammar; the tests
// hold the parser against it.
package budget

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Subject is what a budget is about, in the words it begins with.
type Subject string

// What a budget can be about. Of requests, as the client saw them:
const (
	Requests         Subject = "requests"
	FailedRequests   Subject = "failed requests"
	RejectedRequests Subject = "rejected requests"
	LateRequests     Subject = "late requests"
	Availability     Subject = "availability"
	EndToEnd         Subject = "end-to-end"
	Recovery         Subject = "recovery within"
)

// Of calls between services, as the shop's own hops tell them:
const (
	Calls       Subject = "calls"
	FailedCalls Subject = "failed calls"
	CallLatency Subject = "call latency"
)

// Of the mesh:
const (
	AddedLatency      Subject = "added latency"
	InjectedPods      Subject = "injected pods"
	MTLSCalls         Subject = "mtls calls"
	PlaintextAccepted Subject = "plaintext calls accepted"
	EncryptedFlows    Subject = "encrypted flows"
	PlaintextFlows    Subject = "plaintext flows"
	Canaries          Subject = "canaries in plaintext"
	ProxyMemory       Subject = "proxy memory"
	ProxyCPU          Subject = "proxy cpu"
)

// Of certificates and of who may call whom:
const (
	IssuerCertificate   Subject = "issuer certificate lasts"
	CertificatesLast    Subject = "proxy certificates last at most"
	CertificatesExpired Subject = "proxy certificates expired"
	CertificatesChained Subject = "proxy certificates chained"
	CertificatesNamed   Subject = "proxy certificates identified"
	CertificatesRenewed Subject = "proxy certificates renewed"
	CertificatesKeyed   Subject = "proxy certificates keyed"
	Admitted            Subject = "unauthorised calls admitted"
	Refused             Subject = "authorised calls refused"
	DenialsCounted      Subject = "denials counted"
	DenialsAlerted      Subject = "denials alerted within"
)

// Of what stands around them:
const (
	VaultUnsealed     Subject = "vault unsealed by itself"
	VaultSealed       Subject = "vault sealed"
	VaultRotated      Subject = "vault secrets rotated every"
	VaultSecretsAge   Subject = "vault secrets at most"
	VaultCertsAge     Subject = "vault certificates at most"
	VaultDenied       Subject = "vault requests denied"
	HooksFailed       Subject = "webhook calls failed"
	HooksFailedOpen   Subject = "webhook calls failed open"
	HooksRejected     Subject = "webhook calls rejected"
	OrdersLost        Subject = "orders lost or doubled"
	ItemsOversold     Subject = "items oversold"
	PaymentsUnmatched Subject = "payments unmatched"
	Restarts          Subject = "restarts"
	OOMKills          Subject = "oom kills"
	PromQL            Subject = "promql"
)

// Of autoscalers and of the database's replica:
const (
	AutoscalersMeasured Subject = "autoscalers measured"
	AutoscalerWarnings  Subject = "autoscaler warnings"
	AutoscaledReplicas  Subject = "autoscaled replicas"
	ReplicaLag          Subject = "replica lag"
	WritesReplicated    Subject = "writes replicated within"
	ReplicaBack         Subject = "replica back within"
)

// Op compares what was measured (left) with the budget's value (right).
type Op string

const (
	Equal   Op = "="
	Less    Op = "<"
	AtMost  Op = "<="
	More    Op = ">"
	AtLeast Op = ">="
)

// Holds tells whether measured stands to limit as the operator says.
func (o Op) Holds(measured, limit float64) bool {
	switch o {
	case Equal:
		return measured == limit
	case Less:
		return measured < limit
	case AtMost:
		return measured <= limit
	case More:
		return measured > limit
	default:
		return measured >= limit
	}
}

// Budget is one parsed line. Which of the values it has depends on its subject.
type Budget struct {
	Text     string
	Subject  Subject
	Op       Op
	Count    int64         // of requests, calls, orders, pods; of bytes of memory, of log
	Ratio    float64       // 0–1
	Share    bool          // the limit is Ratio where it could be Count
	Duration time.Duration // limit of a latency, life of a certificate, longest unsealing
	Lead     time.Duration // how long before its end a certificate is renewed
	Quantile float64       // 0–1
	Per      string        // hop | request
	Key      string        // a certificate's kind of key, as Keys lists them
	Cores    float64       // of CPU
	Query    string        // PromQL; $window stands for the phase's length
	Value    float64       // that the query's samples are compared with
	// Shown is the share of good requests that "shown to" asks to be shown at
	// 95 %; 0 where the line does not say.
	Shown  float64
	Filter []Condition // all must match
	Phases []Name      // none, and no window: see On
	Window *Window     // in the place of phases
	Mark   *Edge       // what recovery is counted from
}

// Name is a name in a budget and the column (from 1) that it stands at.
type Name struct {
	Name   string
	Column int
}

// Error is a budget that cannot be understood. Column counts from 1, in
// characters of the line.
type Error struct {
	Column  int
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Message) }

// On is what a budget's evidence is spread over.
type On int

const (
	// OnRun: one finding for the whole run.
	OnRun On = iota
	// OnRequests: judged from requests, in every judged phase by itself unless
	// the line names phases or a window.
	OnRequests
	// OnEnds: judged from what was looked at at the end of phases: of those that
	// the line names, else of the last.
	OnEnds
	// OnWindow: counted over the whole run unless the line names phases or a
	// window.
	OnWindow
)

// On tells what the budget's evidence is spread over.
func (b Budget) On() On { return ruleOf(b.Subject).on }

// OnRequests tells whether the budget is judged from requests, phase by phase.
func (b Budget) OnRequests() bool { return b.On() == OnRequests }

// OfCalls tells whether it counts calls between services, not requests.
func (b Budget) OfCalls() bool {
	return b.Subject == Calls || b.Subject == FailedCalls || b.Subject == CallLatency
}

// OnHops tells whether requests must say which way they went.
func (b Budget) OnHops() bool {
	return b.OfCalls() || slices.ContainsFunc(b.Filter, func(c Condition) bool { return c.Field.OfHops() })
}

// Plain tells whether it is about all requests of whole phases.
func (b Budget) Plain() bool { return len(b.Filter) == 0 && b.Window == nil && !b.OfCalls() }

// Covers tells whether the budget holds for phase.
func (b Budget) Covers(phase string) bool {
	return len(b.Phases) == 0 || slices.ContainsFunc(b.Phases, func(n Name) bool { return n.Name == phase })
}

// Keys are the kinds of keys that a budget can ask for.
func Keys() []string { return []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-4096", "ed25519"} }

// PhaseNames returns the names of the phases that the line names.
func (b Budget) PhaseNames() []string {
	names := make([]string, len(b.Phases))
	for i, p := range b.Phases {
		names[i] = p.Name
	}
	return names
}

// Days writes a duration in days where it is whole days, else as Go does.
func Days(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return short(d)
}

// short is a duration as Go writes it, without its zero ends: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
