package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
)

// way is the services that a failed request was between.
type way struct{ caller, callee string }

// wayOf reads the hop where the shop told it, else the route's own service.
func wayOf(r *results.Request) way {
	hops := strings.Split(r.Hop, ">")
	if r.Hop == "" {
		return way{callee: edgeService(r.Route)}
	}
	if n := len(hops); n > 1 {
		return way{hops[n-2], hops[n-1]}
	}
	return way{callee: hops[0]}
}

// blame is what is found about one failure, before it joins its group.
type blame struct {
	kind, cause, mend string
	services, pods    []string
	step              string
	near              []string // what happened around it
}

// blame decides on the cause of one failed request. Each judge sees it in turn;
// whoever has evidence speaks, and when nobody has, the cause is unknown.
func (a *attribution) blame(r *results.Request) blame {
	w := wayOf(r)
	for _, judge := range []func(*results.Request, way) (blame, bool){
		a.sender, a.policy, a.certificate, a.database, a.pods, a.nodes,
	} {
		if b, ok := judge(r, w); ok {
			if step, running := a.around.stepAt(r.Done); running && b.step == "" {
				b.step = step.words
			}
			return b
		}
	}
	b := blame{kind: causeUnknown, cause: "unknown: " + cmp.Or(r.Class, "unnamed failure") + " " + w.words(), services: w.services()}
	if step, running := a.around.stepAt(r.Done); running {
		b.step = step.words
	}
	if r.Pod != "" {
		b.pods = []string{r.Pod}
	}
	return b
}

func (w way) words() string {
	switch {
	case w.caller != "":
		return "between " + w.caller + " and " + w.callee
	case w.callee != "":
		return "at " + w.callee
	default:
		return "at the edge"
	}
}

func (w way) services() []string {
	return slices.DeleteFunc([]string{w.callee, w.caller}, func(s string) bool { return s == "" })
}

func (a *attribution) sender(r *results.Request, _ way) (blame, bool) {
	return blame{
		kind: causeSender, cause: "the sender itself could not send",
		mend: "give the machine that sends more room, or send less",
	}, r.Class == results.ClassSender
}

var deniedClasses = []string{results.ClassPolicyDenied, "http-403", "grpc-PERMISSION_DENIED"}

func (a *attribution) policy(r *results.Request, w way) (blame, bool) {
	if !slices.Contains(deniedClasses, r.Class) && !mentions(r.Error, "permission_denied", "permissiondenied", "permission denied") {
		return blame{}, false
	}
	who := cmp.Or(w.caller, "callers from outside")
	b := blame{
		kind: causePolicy, services: w.services(), cause: fmt.Sprintf("%s refused %s", cmp.Or(w.callee, "the shop"), who),
		mend: "give every caller its proxy, and enforce only after a whole day of traffic without an unencrypted call",
	}
	if step, found := a.around.lastStep("enforce", r.Done); found {
		b.cause += " once the policy was enforced"
		b.step = step.words
		b.near = append(b.near, fmt.Sprintf("step %s began at %s", step.words, at(step.from)))
	}
	if pods := a.around.unmeshed(w.caller); len(pods) > 0 {
		b.cause += fmt.Sprintf(": %s has no proxy", w.caller)
		b.pods = pods
		b.near = append(b.near, fmt.Sprintf("pods of %s without a proxy: %s", w.caller, listed(pods, 5)))
	} else if r.Pod != "" {
		b.pods = []string{r.Pod}
	}
	return b, true
}

func (a *attribution) certificate(r *results.Request, w way) (blame, bool) {
	if r.Class != results.ClassTLS && !mentions(r.Error, "x509:", "tls: ", "certificate has expired", "unknownissuer") {
		return blame{}, false
	}
	return blame{
		kind: causeCertificate, cause: "a TLS handshake failed " + w.words(), services: w.services(),
		mend: "compare the proxies' trust anchors with the issuer's chain, and their clocks",
	}, true
}

func (a *attribution) database(r *results.Request, w way) (blame, bool) {
	if w.callee != "postgres" && !mentions(r.Error, "sqlstate", "postgres") {
		return blame{}, false
	}
	b := blame{kind: causeDatabase, services: []string{"postgres"}, cause: "the database did not answer " + cmp.Or(w.caller, w.callee)}
	if e, found := a.around.podNear("", "postgres", r); found {
		b.pods = []string{e.pod}
		b.near = []string{e.words()}
	}
	return b, true
}

// brokenClasses are what a request gets when nobody serves it any more, or not
// yet.
var brokenClasses = []string{
	results.ClassConnectRefused, results.ClassReset, results.ClassEOF, results.ClassTimeout, "http-502", "http-503", "http-504",
	"grpc-UNAVAILABLE", "grpc-DEADLINE_EXCEEDED", "grpc-CANCELLED", "grpc-UNKNOWN",
}

// pods blames a pod of the called service, or of the caller, that was stopped,
// died or was not ready just then. The pod that the failure names goes first.
func (a *attribution) pods(r *results.Request, w way) (blame, bool) {
	if !slices.Contains(brokenClasses, r.Class) {
		return blame{}, false
	}
	var e podEvent
	found := false
	if r.Pod != "" {
		e, found = a.around.podNear(r.Pod, "", r)
	}
	for _, service := range []string{w.callee, w.caller, edgeService(r.Route)} {
		if !found && service != "" {
			e, found = a.around.podNear("", service, r)
		}
	}
	if !found {
		return blame{}, false
	}
	b := blame{services: []string{e.service}, pods: []string{e.pod}, near: []string{e.words()}}
	where := " in " + r.Phase
	if step, running := a.around.stepAt(r.Done); running {
		where = " during " + step.name
	}
	service := cmp.Or(e.service, e.pod)
	switch e.state {
	case results.StateTerminating, results.StateGone:
		b.kind = causeDrain
		b.mend = "after SIGTERM keep serving until no endpoint points at the pod: drain < proxy wait < grace period"
		if a.run.Shop.Drain {
			b.cause = fmt.Sprintf("%s pods were stopped with requests on their way, despite %d s of drain,%s", service, a.run.Shop.DrainSeconds, where)
		} else {
			b.cause = fmt.Sprintf("%s pods were stopped without drain%s", service, where)
		}
	case results.StateOOMKilled:
		b.kind, b.cause = causeRestart, fmt.Sprintf("%s ran out of memory and was killed%s", service, where)
		b.mend = "raise the memory limit"
	case results.StateRestarted:
		b.kind, b.cause = causeRestart, fmt.Sprintf("%s died and was restarted%s", service, where)
		b.mend = "read the log of the container before its restart"
	default:
		b.kind, b.cause = causeNotReady, fmt.Sprintf("%s pods were not ready%s", service, where)
		b.mend = "keep enough ready pods: maxUnavailable 0, readiness that tells the truth"
	}
	return b, true
}

func (a *attribution) nodes(r *results.Request, w way) (blame, bool) {
	if !slices.Contains(brokenClasses, r.Class) {
		return blame{}, false
	}
	e, found := a.around.nodeNear(r)
	return blame{
		kind: causeNode, cause: "node " + e.pod + " was not ready", services: w.services(),
		near: []string{fmt.Sprintf("node %s not ready at %s", e.pod, at(e.at))}, mend: "spread replicas over nodes and zones",
	}, found
}

func mentions(text string, words ...string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

// How long before a failure an event may be to explain it: from SIGTERM a pod
// has its grace period (30 s by default) to do harm, and most harm is early.
// after allows for a watch that hears of an event later than the client.
const (
	podWindow  = 20 * time.Second
	nodeWindow = 60 * time.Second
	after      = time.Second
)
