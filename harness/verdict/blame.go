package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
)

// blame is what is found about one failure, before it joins its group.
type blame struct {
	kind, cause, mend string
	mode              string // id of what breaks like this in a rollout
	services, pods    []string
	step              string
	near              []string // what happened around it
	asks              question // that all requests together may answer
	at                int64    // when it was asked first
}

// blame decides on the cause of one failed request. Each judge sees it in turn;
// whoever has evidence speaks, and when nobody has, the cause is unknown.
func (a *attribution) blame(r *results.Request, told []hops.Hop) blame {
	w := wayOf(r, told)
	for _, judge := range []func(*results.Request, way) (blame, bool){
		a.sender, a.policy, a.certificate, a.distrusted, a.database, a.saturation, a.nobody, a.pods, a.nodes,
	} {
		if b, ok := judge(r, w); ok {
			return a.during(r, b)
		}
	}
	b := unknown(r, w)
	b.asks = a.versions.question(w)
	return a.during(r, b)
}

// during adds the step that ran, and what may lie behind the cause.
func (a *attribution) during(r *results.Request, b blame) blame {
	if step, running := a.around.stepAt(r.Done); running && b.step == "" {
		b.step = step.words
	}
	b.near = append(b.near, a.around.asked.before(b.kind, r.Done)...)
	return b
}

func unknown(r *results.Request, w way) blame {
	b := blame{kind: causeUnknown, cause: "unknown: " + cmp.Or(r.Class, "unnamed failure") + " " + w.words(), services: w.services()}
	if r.Pod != "" {
		b.pods = []string{r.Pod}
	}
	return b
}

func (a *attribution) sender(r *results.Request, _ way) (blame, bool) {
	b := blame{kind: causeSender, cause: "the sender itself could not send"}
	b.remedied(causeSender)
	return b, r.Class == results.ClassSender
}

// policy names the caller that was refused, and the policy in force: the one
// that was enforced last.
func (a *attribution) policy(r *results.Request, w way) (blame, bool) {
	if !slices.Contains(deniedClasses, r.Class) && !mentions(r.Error, "permission_denied", "permissiondenied", "permission denied") {
		return blame{}, false
	}
	b := blame{
		kind: causePolicy, services: w.services(),
		cause: fmt.Sprintf("%s refused %s", cmp.Or(w.callee, "the shop"), cmp.Or(w.caller, "callers from outside")),
	}
	b.remedied("unenforced")
	if step, found := a.around.lastStep("enforce", r.Done); found {
		b.remedied(causePolicy)
		b.cause += " once " + policyOf(step) + " was enforced"
		b.step = step.words
		b.near = append(b.near, fmt.Sprintf("step %s began at %s", step.words, at(step.from)))
	}
	if r.Pod != "" {
		b.pods = []string{r.Pod}
	}
	return a.refusedPod(r, w, b), true
}

// refusedPod tells whether the caller that was refused has no proxy. Where its
// pod is not known, the service's other pods and calls are to tell it.
func (a *attribution) refusedPod(r *results.Request, w way, b blame) blame {
	q := question{about: causeNoProxy, service: w.caller, callee: w.callee, since: a.around.enforcedAt(r)}
	if w.callerPod == "" {
		if len(a.around.noProxy[w.caller]) > 0 {
			b.asks, b.at = q, r.Scheduled
		}
		return b
	}
	bare := a.around.bare(w.callerPod)
	a.refusals.note(q, func(seen *admissions) { seen.of(bare).refused++ })
	if bare {
		return b.withoutProxy(w.caller, []string{w.callerPod})
	}
	return b
}

// withoutProxy blames callers for having no proxy.
func (b blame) withoutProxy(caller string, pods []string) blame {
	b.kind, b.pods = causeNoProxy, pods
	b.remedied(causeNoProxy)
	b.cause += fmt.Sprintf(": %s has no proxy", caller)
	b.near = append(b.near, fmt.Sprintf("pods of %s without a proxy: %s", caller, listed(pods, 5)))
	return b
}

// policyOf names the policy of a step "enforce all-authenticated".
func policyOf(step stepSpan) string {
	if name, ok := strings.CutPrefix(step.words, step.name+" "); ok {
		return "policy " + name
	}
	return "the policy"
}

// certificate tells which certificate was refused, and why, as far as the error
// says it.
func (a *attribution) certificate(r *results.Request, w way) (blame, bool) {
	if r.Class != results.ClassTLS && !mentions(r.Error, "x509:", "tls: ", "certificate has expired", "unknownissuer", "certnotvalidyet") {
		return blame{}, false
	}
	b := blame{kind: causeCertificate, cause: handshake + w.words(), services: w.services()}
	whose := cmp.Or(identityIn(r.Error), w.callee, "the shop")
	b.remedied("anchor")
	switch {
	case mentions(r.Error, "expired"):
		b.remedied("expired")
		b.cause += ": the certificate of " + whose + " has expired"
	case mentions(r.Error, "not yet valid", "notvalidyet"):
		b.remedied("clock")
		b.cause += ": the certificate of " + whose + " is not valid yet"
	case mentions(r.Error, "unknown authority", "unknownissuer", "unknown issuer", "self-signed", "self signed"):
		b.cause += ": the certificate of " + whose + " does not chain to the caller's trust anchor"
	}
	for _, pod := range a.around.expired {
		if pod == w.calleePod || pod == w.callerPod || serviceOfPod(pod) != "" && serviceOfPod(pod) == w.callee {
			b.pods = append(b.pods, pod)
		}
	}
	if len(b.pods) > 0 {
		b.near = append(b.near, "certificates that had ended: "+listed(b.pods, 5))
	} else if r.Pod != "" {
		b.pods = []string{r.Pod}
	}
	return b, true
}

const handshake = "a TLS handshake failed "

// identityIn returns the mesh identity that an error names, "" when none.
func identityIn(text string) string {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \t\"'`,;()[]", r) }) {
		if name, _, ok := strings.Cut(word, ".serviceaccount.identity."); ok && name != "" {
			return short(name, 120)
		}
	}
	return ""
}

// connectionHop is where a way tells that a service waited for one of its
// connections to the database.
const connectionHop = "postgres-connection"

func (a *attribution) database(r *results.Request, w way) (blame, bool) {
	if w.callee != "postgres" && w.callee != connectionHop && !mentions(r.Error, "sqlstate", "postgres") {
		return blame{}, false
	}
	w.callee = "postgres"
	s, found := a.around.byService["postgres"].gravest(sentAt(r), r.Done)
	if node, here := a.goneNode(r, w); here {
		if found && s.state != results.StateNotReady {
			return undecided(r, w, s, node), true
		}
		return a.nodeBlame(node, w), true
	}
	b := blame{kind: causeDatabase, services: []string{"postgres"}, cause: "the database did not answer " + cmp.Or(w.caller, edgeService(r.Route), "the shop")}
	b.remedied(causeDatabase)
	if found {
		b.pods = []string{s.pod}
		b.near = []string{s.words()}
	} else if step, ok := a.around.lastStep("enforce", r.Done); ok && r.Done-step.from <= int64(nodeWindow) {
		b.remedied("pool")
		b.near = []string{fmt.Sprintf("step %s began at %s", step.words, at(step.from))}
	} else if slices.Contains(hanging, r.Class) {
		b.asks = question{about: causeDatabase, service: w.caller, since: r.Scheduled / int64(databaseSpell)}
	}
	return b, true
}

// saturation believes what a proxy says of itself: it sheds load, or fails fast
// when more comes than it gets rid of. It also fails fast when all pods are
// gone, but not when one of several is; and when none can be connected to, which
// only the others' requests tell from too much load.
func (a *attribution) saturation(r *results.Request, w way) (blame, bool) {
	shed := r.Class == "http-429" || r.Class == "grpc-RESOURCE_EXHAUSTED" ||
		mentions(r.Error, "load shed", "loadshed", "load-shed", "resource exhausted", "too many requests", "overloaded")
	if !shed && !(failedFast(r) && a.around.podsInTrouble(w.callee, r) < 2 && !a.around.nobodyReady(w.callee, r)) {
		return blame{}, false
	}
	b := blame{kind: causeSaturation, cause: saturated + w.words(), services: w.services()}
	b.remedied(causeSaturation)
	if !shed {
		b.asks = question{about: causeSaturation, service: w.callee, since: r.Scheduled / int64(versionSlice)}
	}
	if r.Pod != "" {
		b.pods = []string{r.Pod}
	}
	return b, true
}

const saturated = "more came than could be served "

// failedFast tells of a proxy that found nobody to send to in time.
func failedFast(r *results.Request) bool { return mentions(r.Error, "fail-fast", "failfast") }

func mentions(text string, words ...string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}
