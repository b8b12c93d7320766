package budget

import (
	"fmt"
	"strings"
)

// Explain says in one sentence what the budget asks. judged are the phases that
// it holds in where it does not say.
func (b Budget) Explain(judged []string) string {
	where := b.where(judged)
	what := b.what()
	switch b.Subject {
	case Requests, Calls:
		return fmt.Sprintf("%s, at least %d %s are seen", where, b.Count, what)
	case FailedRequests, FailedCalls:
		return fmt.Sprintf("%s, %s may fail%s", where, b.atMost(what), b.counter())
	case RejectedRequests:
		return fmt.Sprintf("%s, %s may get a business refusal (sold out, declined, not found)", where, b.atMost(what))
	case LateRequests:
		return fmt.Sprintf("%s, %s may leave the sender late or never", where, b.atMost(what))
	case Availability:
		return fmt.Sprintf("%s, at least %s of the %s are served, shown at 95 %% confidence", where, percent(b.Ratio), what)
	case EndToEnd:
		return fmt.Sprintf("%s, %s of all %s, timed from their scheduled instant, stays %s %s", where, quantile(b.Quantile), what, below(b.Op), short(b.Duration))
	case CallLatency:
		return fmt.Sprintf("%s, %s of all %s, as the caller timed them, stays %s %s", where, quantile(b.Quantile), what, below(b.Op), short(b.Duration))
	case Recovery:
		return fmt.Sprintf("%s after %s at the latest, %s fail no more: for %d s in a row none does", short(b.Duration), b.Mark, what, CleanSeconds)
	}
	return b.explainMesh(where)
}

// explainMesh explains what is judged from probes and events.
func (b Budget) explainMesh(where string) string {
	switch b.Subject {
	case AddedLatency:
		return fmt.Sprintf("the mesh adds less than %s per %s at %s: meshed minus plain twins, interleaved, with a bootstrap interval",
			short(b.Duration), b.Per, quantile(b.Quantile))
	case InjectedPods:
		return fmt.Sprintf("%s of the shop's pods have the mesh's proxy", b.atLeast())
	case MTLSCalls:
		return fmt.Sprintf("%s, %s of the calls between services are encrypted, by the proxies' own count", where, b.atLeast())
	case PlaintextAccepted:
		return fmt.Sprintf("%s unencrypted calls from a pod without a proxy get in after enforcement", upTo(b.Count))
	case EncryptedFlows:
		return fmt.Sprintf("%s, %s of the flows between pods%s are TLS on the wire", where, b.atLeast(), b.chosen())
	case PlaintextFlows:
		return fmt.Sprintf("%s, %s flows between pods%s are plaintext on the wire", where, upTo(b.Count), b.chosen())
	case Canaries:
		return fmt.Sprintf("%s, %s planted strings are read on the wire", where, upTo(b.Count))
	case ProxyMemory:
		return fmt.Sprintf("%s, no proxy%s has %s %s of memory in use", where, b.chosen(), over(b.Op), size(b.Count))
	case ProxyCPU:
		return fmt.Sprintf("%s, no proxy%s takes %s %.6g cores on average", where, b.chosen(), over(b.Op), b.Cores)
	case Restarts:
		return fmt.Sprintf("%s, %s containers%s die and come again", where, upTo(b.Count), b.chosen())
	case OOMKills:
		return fmt.Sprintf("%s, %s containers%s are killed for want of memory", where, upTo(b.Count), b.chosen())
	case PromQL:
		return fmt.Sprintf("%s, every sample of the query is %s %.6g, and there is one", where, b.Op, b.Value)
	case AutoscalersMeasured, AutoscalerWarnings, AutoscaledReplicas, ReplicaLag, WritesReplicated, ReplicaBack:
		return b.explainScale(where)
	}
	return b.explainTrust(where)
}

// explainScale explains what is about autoscalers and the database's replica.
func (b Budget) explainScale(where string) string {
	switch b.Subject {
	case AutoscalersMeasured:
		return fmt.Sprintf("%s, %s of the autoscalers read what their pods use", where, b.atLeast())
	case AutoscalerWarnings:
		return fmt.Sprintf("%s, autoscalers%s give %s warnings, such as FailedGetResourceMetric", where, b.chosen(), upTo(b.Count))
	case AutoscaledReplicas:
		how := map[Op]string{Equal: "exactly", AtMost: "at most", AtLeast: "at least"}[b.Op]
		return fmt.Sprintf("%s, autoscalers%s have %s %d pods each", where, b.chosen(), how, b.Count)
	case ReplicaLag:
		limit := short(b.Duration)
		if b.Duration == 0 {
			limit = size(b.Count) + " of log"
		}
		return fmt.Sprintf("%s, the database's replica streams and is %s %s behind, by the primary's account", where, below(b.Op), limit)
	case WritesReplicated:
		return fmt.Sprintf("%s, what is written to the primary can be read on its replica within %s", where, short(b.Duration))
	default:
		return fmt.Sprintf("after its restart the database's replica streams again within %s, and the shop reads from it again", short(b.Duration))
	}
}

// explainTrust explains what is about certificates, access, Vault and orders.
func (b Budget) explainTrust(where string) string {
	switch b.Subject {
	case IssuerCertificate:
		key := b.Key
		if key == "" {
			key = Keys()[0]
		}
		return fmt.Sprintf("the mesh's issuer certificate lasts %s and is renewed %s before its end; it is a CA with an %s key below the trust anchor",
			Days(b.Duration), Days(b.Lead), key)
	case CertificatesLast:
		return fmt.Sprintf("at no look does a proxy present a certificate that lasts longer than %s", Days(b.Duration))
	case CertificatesExpired:
		return fmt.Sprintf("at every look, %s proxies have a certificate that has ended", upTo(b.Count))
	case CertificatesChained:
		return fmt.Sprintf("at every look, %s of the proxies present a certificate that chains to the trust anchor", b.atLeast())
	case CertificatesNamed:
		return fmt.Sprintf("at every look, %s of the proxies present the identity of their pod's service account", b.atLeast())
	case CertificatesRenewed:
		return fmt.Sprintf("%s of the proxies that were looked at twice, and are there in the end, were seen to renew their certificate", b.atLeast())
	case CertificatesKeyed:
		return fmt.Sprintf("at every look, %s of the proxies present a certificate with an %s key", b.atLeast(), b.Key)
	case Admitted:
		return fmt.Sprintf("%s calls get in that the declared callers do not allow", upTo(b.Count))
	case Refused:
		return fmt.Sprintf("%s calls are refused that the declared callers allow", upTo(b.Count))
	case DenialsCounted:
		return fmt.Sprintf("%s of the refused attempts show in the proxies' deny counters, by callee and caller", b.atLeast())
	case DenialsAlerted:
		return fmt.Sprintf("an unauthorised attempt has an alert firing in the run's Prometheus within %s; the way from there to somebody's chat is not rehearsed", short(b.Duration))
	case VaultUnsealed:
		text := "after a restart Vault is unsealed by the key service, with no operator's key"
		if b.Duration > 0 {
			text += ", within " + short(b.Duration)
		}
		return text
	case VaultSealed:
		return fmt.Sprintf("%s, Vault is sealed or silent for %s %s in all", where, below(b.Op), short(b.Duration))
	case VaultRotated:
		return fmt.Sprintf("every secret that the shop reads from Vault is set to be replaced every %s, and none is older", Days(b.Duration))
	case VaultDenied:
		return fmt.Sprintf("%s, %s requests to Vault are denied for want of permission", where, upTo(b.Count))
	case HooksFailed:
		return fmt.Sprintf("%s, %s calls to admission webhooks get no answer, whether the object was then let in or not", where, upTo(b.Count))
	case HooksFailedOpen:
		return fmt.Sprintf("%s, %s objects are let in past an admission webhook that could not be called", where, upTo(b.Count))
	case HooksRejected:
		return fmt.Sprintf("%s, %s objects are refused by an admission webhook", where, upTo(b.Count))
	case VaultSecretsAge:
		return fmt.Sprintf("no secret that the shop reads from Vault is older than %s", Days(b.Duration))
	case VaultCertsAge:
		return fmt.Sprintf("no issuing certificate that Vault has signed for the mesh is older than %s", Days(b.Duration))
	case OrdersLost:
		return fmt.Sprintf("%s orders that were acknowledged are missing from the database or in it twice", upTo(b.Count))
	case ItemsOversold:
		return fmt.Sprintf("%s items are sold more often than there were in stock", upTo(b.Count))
	default:
		return fmt.Sprintf("%s orders have no payment, or not the right one", upTo(b.Count))
	}
}

// Evidence says where what the budget is judged from comes from: files of the
// run folder and, in probes.jsonl, the probe.
func (b Budget) Evidence() string {
	probe := func(name string) string { return "probes.jsonl, probe " + name }
	switch b.Subject {
	case AddedLatency:
		if b.Per == "request" {
			return probe("added-latency") + ", from step measure-added-latency with path: shop"
		}
		return probe("added-latency") + ", from step measure-added-latency"
	case InjectedPods:
		return probe("injection") + ", at the end"
	case MTLSCalls:
		return probe("mtls") + ", at the end of each phase with proxies"
	case PlaintextAccepted:
		return probe("plaintext") + ", from step probe-plaintext after enforce"
	case EncryptedFlows, PlaintextFlows, Canaries:
		return probe("wire") + ", a capture on every node"
	case ProxyMemory, ProxyCPU:
		return probe("proxy-resources") + ", at the end of each phase, from the kubelets"
	case IssuerCertificate:
		return probe("issuer-certificate") + ", at the end"
	case CertificatesExpired:
		return probe("leaf-certificates") + ", at the end of each phase with proxies, from their own figures"
	case CertificatesLast, CertificatesChained, CertificatesNamed, CertificatesRenewed, CertificatesKeyed:
		return probe("identity") + ", every proxy's certificate as presented at the end of each phase with proxies"
	case Admitted, Refused, DenialsCounted, DenialsAlerted:
		return probe("authorisation") + ", attempts from pods that may and pods that may not"
	case VaultUnsealed:
		return probe("vault-unseal") + ", from step restart-vault"
	case VaultSealed:
		return probe("vault-seal") + ", asked every 2 s from Vault's first answer"
	case VaultDenied:
		return probe("vault-audit") + ", Vault's own audit log, and its events in events.jsonl"
	case HooksFailed, HooksFailedOpen, HooksRejected:
		return probe("webhook-calls") + ", at the end of each phase, from the API server's own count"
	case VaultRotated, VaultSecretsAge, VaultCertsAge:
		return probe("vault-rotation") + ", at the end, from Vault itself"
	case OrdersLost, ItemsOversold, PaymentsUnmatched:
		return probe("ledger") + ", every order looked up in PostgreSQL"
	case Restarts, OOMKills:
		return "events.jsonl, the pods' containers"
	case AutoscalersMeasured, AutoscaledReplicas:
		return probe("autoscaling") + ", at the end of each phase with autoscalers"
	case AutoscalerWarnings:
		return "events.jsonl, Kubernetes' own on autoscalers"
	case ReplicaLag, WritesReplicated:
		return probe("replication") + ", at the end of each phase, from pg_stat_replication and a row that is written"
	case ReplicaBack:
		return probe("replica-restart") + ", from step restart-replica"
	case PromQL:
		return probe("promql") + ", asked of the run's Prometheus at the end of each phase"
	}
	if len(b.Marks()) > 0 {
		return b.of() + ", and the mark's time in events.jsonl"
	}
	return b.of()
}

// of says what of requests.jsonl is needed.
func (b Budget) of() string {
	if b.OnHops() {
		return "requests.jsonl, with the way of each request through the shop"
	}
	return "requests.jsonl"
}

// what names what is counted, and its filter.
func (b Budget) what() string {
	what := "requests"
	if b.OfCalls() {
		what = "calls between services"
	}
	return what + b.chosen()
}

// chosen says what the filter chooses.
func (b Budget) chosen() string {
	if len(b.Filter) == 0 {
		return ""
	}
	parts := make([]string, len(b.Filter))
	for i, c := range b.Filter {
		names := make([]string, len(c.Values))
		for j, v := range c.Values {
			names[j] = v.Name
		}
		parts[i] = string(c.Field) + " " + strings.Join(names, " or ")
	}
	return " of " + strings.Join(parts, " and ")
}

// where says in which phases or which window.
func (b Budget) where(judged []string) string {
	switch {
	case b.Window != nil:
		return b.Window.String()
	case len(b.Phases) > 0:
		return each(b.PhaseNames())
	case b.On() == OnRequests:
		return each(judged)
	case b.Subject == MTLSCalls:
		return "in each phase that began after enforcement"
	case b.On() == OnEnds:
		return "in the last phase that was looked at"
	default:
		return "over the whole run"
	}
}

func each(names []string) string {
	if len(names) == 1 {
		return "in " + names[0]
	}
	return "in each of " + strings.Join(names, ", ")
}

func (b Budget) atMost(what string) string {
	switch {
	case b.Share:
		return fmt.Sprintf("at most %s of the %s", percent(b.Ratio), what)
	case b.Count == 0:
		return "no " + what
	}
	return fmt.Sprintf("at most %d %s", b.Count, what)
}

// counter says by whom failures are counted, and what is to be shown.
func (b Budget) counter() string {
	text := ", counted at the client"
	if b.OfCalls() {
		text = ", by the caller's account"
	}
	if b.Shown > 0 {
		text += fmt.Sprintf(", of enough to show that %s do not", percent(b.Shown))
	}
	return text
}

func (b Budget) atLeast() string {
	if b.Ratio >= 1 {
		return "all"
	}
	return "at least " + percent(b.Ratio)
}

func upTo(n int64) string {
	if n == 0 {
		return "no"
	}
	return fmt.Sprintf("at most %d", n)
}

func below(o Op) string {
	if o == AtMost {
		return "within"
	}
	return "below"
}

func over(o Op) string {
	if o == AtMost {
		return "more than"
	}
	return "as much as"
}

func percent(ratio float64) string { return fmt.Sprintf("%.6g %%", ratio*100) }

func quantile(q float64) string { return fmt.Sprintf("p%.6g", q*100) }

func size(bytes int64) string {
	for _, u := range []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if float64(bytes) >= u.by {
			return fmt.Sprintf("%.4g %s", float64(bytes)/u.by, u.suffix)
		}
	}
	return fmt.Sprintf("%d B", bytes)
}
