// Package budget is the little language of budgets: one readable line that must
// hold for a rehearsal to pass.
//
//	budget    = subject , qualifiers
//	subject   = "failed requests" ( "=" | "<=" ) count
//	          | "availability" ">=" ratio
//	          | "end-to-end" quantile ( "<" | "<=" ) duration
//	          | "added latency" quantile ( "<" | "<=" ) duration "per" ( "hop" | "request" )
//	          | "injected pods" ( "=" | ">=" ) ratio
//	          | "mtls calls" ( "=" | ">=" ) ratio
//	          | "plaintext calls accepted" ( "=" | "<=" ) count
//	          | "issuer certificate lasts" duration "," "renewed" duration "early"
//	          | "vault unsealed by itself" [ "within" duration ]
//	          | "orders lost or doubled" ( "=" | "<=" ) count
//	          | "items oversold" ( "=" | "<=" ) count
//	          | "payments unmatched" ( "=" | "<=" ) count
//	qualifiers = [ "in" phase { "," phase } ]      where the subject has phases
//	quantile  = "p" number                         p50, p99, p99.9
//	ratio     = number "%"                         99.95%
//	count     = whole number
//	duration  = number ( "us" | "ms" | "s" | "m" | "h" | "d" )
//
// Without "in", a budget on requests holds for every judged phase by itself,
// and one on mtls calls for the last count that was taken.
package budget

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Subject is what a budget is about, in the words it begins with.
type Subject string

const (
	FailedRequests    Subject = "failed requests"
	Availability      Subject = "availability"
	EndToEnd          Subject = "end-to-end"
	AddedLatency      Subject = "added latency"
	InjectedPods      Subject = "injected pods"
	MTLSCalls         Subject = "mtls calls"
	PlaintextAccepted Subject = "plaintext calls accepted"
	IssuerCertificate Subject = "issuer certificate lasts"
	VaultUnsealed     Subject = "vault unsealed by itself"
	OrdersLost        Subject = "orders lost or doubled"
	ItemsOversold     Subject = "items oversold"
	PaymentsUnmatched Subject = "payments unmatched"
)

// Op compares what was measured (left) with the budget's value (right).
type Op string

const (
	Equal   Op = "="
	Less    Op = "<"
	AtMost  Op = "<="
	AtLeast Op = ">="
)

// Budget is one parsed line. Which of the values it has depends on its subject.
type Budget struct {
	Text     string
	Subject  Subject
	Op       Op
	Count    int64         // of requests, calls, orders
	Ratio    float64       // 0–1
	Duration time.Duration // limit of a latency, life of a certificate, longest unsealing
	Lead     time.Duration // how long before its end a certificate is renewed
	Quantile float64       // 0–1
	Per      string        // hop | request
	Phases   []Name        // none: see the package comment
}

// Name is a phase's name and the column (from 1) that it stands at.
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

// OnRequests tells whether the budget is judged from requests, phase by phase.
func (b Budget) OnRequests() bool {
	return b.Subject == FailedRequests || b.Subject == Availability || b.Subject == EndToEnd
}

// Covers tells whether the budget holds for phase.
func (b Budget) Covers(phase string) bool {
	return len(b.Phases) == 0 || slices.ContainsFunc(b.Phases, func(n Name) bool { return n.Name == phase })
}

// DefaultAvailability is what a phase must be able to show when no budget says
// otherwise.
const DefaultAvailability = 0.9995

// Needed returns how many requests must be seen in phase before anything about
// it is conclusive: three divided by the share that may fail under the
// strictest availability budget that covers it (the rule of three, 95 %).
func Needed(all []Budget, phase string) int {
	strictest := 0.0
	for _, b := range all {
		if b.Subject == Availability && b.Covers(phase) {
			strictest = max(strictest, b.Ratio)
		}
	}
	if strictest == 0 {
		strictest = DefaultAvailability
	}
	return NeededFor(strictest)
}

// NeededFor returns how many requests without a failure show availability
// (below 1) at 95 % confidence.
func NeededFor(availability float64) int {
	// The tolerance keeps 3/0.0005 from becoming 6001 by rounding.
	return int(math.Ceil(3/(1-availability) - 1e-6))
}

// Explain says in one sentence what the budget asks and of which evidence.
func (b Budget) Explain(judged []string) string {
	where := strings.Join(judged, ", ")
	if len(b.Phases) > 0 {
		names := make([]string, len(b.Phases))
		for i, p := range b.Phases {
			names[i] = p.Name
		}
		where = strings.Join(names, ", ")
	}
	switch b.Subject {
	case FailedRequests:
		return fmt.Sprintf("in each of %s, %s requests may fail, counted at the client", where, upTo(b.Count))
	case Availability:
		return fmt.Sprintf("in each of %s, at least %s of the requests are served, shown at 95 %% confidence; %d requests without a failure show it",
			where, percent(b.Ratio), NeededFor(b.Ratio))
	case EndToEnd:
		return fmt.Sprintf("in each of %s, %s of all requests, timed from their scheduled instant, stays below %s",
			where, quantile(b.Quantile), b.Duration)
	case AddedLatency:
		return fmt.Sprintf("the mesh adds less than %s per %s at %s: meshed minus plain twins, interleaved, with a bootstrap interval",
			b.Duration, b.Per, quantile(b.Quantile))
	case InjectedPods:
		return fmt.Sprintf("%s of the shop's pods have the mesh's proxy", percent(b.Ratio))
	case MTLSCalls:
		return fmt.Sprintf("%s of the calls between services are encrypted, by the proxies' own count", percent(b.Ratio))
	case PlaintextAccepted:
		return fmt.Sprintf("%s unencrypted calls from a pod without a proxy get in after enforcement", upTo(b.Count))
	case IssuerCertificate:
		return fmt.Sprintf("the mesh's issuer certificate lasts %s and is renewed %s before its end; it is an ECDSA P-256 CA below the trust anchor",
			Days(b.Duration), Days(b.Lead))
	case VaultUnsealed:
		return "after a restart Vault is unsealed by the key service, with no operator's key"
	case OrdersLost:
		return fmt.Sprintf("%s orders that were acknowledged are missing from the database or in it twice", upTo(b.Count))
	case ItemsOversold:
		return fmt.Sprintf("%s items are sold more often than there were in stock", upTo(b.Count))
	default:
		return fmt.Sprintf("%s orders have no payment, or not the right one", upTo(b.Count))
	}
}

func upTo(n int64) string {
	if n == 0 {
		return "no"
	}
	return fmt.Sprintf("at most %d", n)
}

func percent(ratio float64) string { return fmt.Sprintf("%.6g %%", ratio*100) }

func quantile(q float64) string { return fmt.Sprintf("p%.6g", q*100) }

// Days writes a duration in days where it is whole days, else as Go does.
func Days(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
