package verdict

import (
	"cmp"
	"fmt"
	"slices"

	"meshsim.dev/meshsim/results"
)

// pods blames a pod of the called service, or of the caller, that was stopped,
// died or was not ready just then. The pod that the failure names goes first.
// Where no pod is named and pods of different fates compete, nobody is blamed.
func (a *attribution) pods(r *results.Request, w way) (blame, bool) {
	if !slices.Contains(brokenClasses, r.Class) {
		return blame{}, false
	}
	s, rival, found := a.podSpan(r, w)
	if !found {
		return blame{}, false
	}
	if node, down := a.nodeOf(s); down {
		if failedFast(r) { // as when more comes than can be served, too
			return undecided(r, w, s, node), true
		}
		return a.nodeBlame(node, w), true
	}
	if node, here := a.goneNode(r, w); here {
		if s.pod != w.calleePod && s.pod != w.callerPod { // no pod is named, it is only of that service
			return a.nodeBlame(node, w), true
		}
		return undecided(r, w, s, node), true
	}
	if rival.state != "" {
		return undecided(r, w, s, rival), true
	}
	return a.podBlame(r, w, s), true
}

// undecided names two things of which either may have failed a request.
func undecided(r *results.Request, w way, one, other span) blame {
	b := unknown(r, w)
	b.cause += ", which two things explain"
	b.near = []string{one.words(), other.words()}
	return b
}

// podSpan finds the pod to blame. rival is set when another pod's fate explains
// the failure no worse.
func (a *attribution) podSpan(r *results.Request, w way) (best, rival span, found bool) {
	sent, done := sentAt(r), r.Done
	for _, side := range []struct{ service, pod string }{{w.callee, w.calleePod}, {w.caller, w.callerPod}} {
		if side.pod != "" {
			if best, found = a.around.byPod[side.pod].gravest(sent, done); found {
				return best, span{}, true
			}
			if side.pod == w.calleePod && w.callerPod == "" {
				return span{}, span{}, false // it was this pod, and nothing happened to it
			}
			continue
		}
		// A pod that stops refuses, it does not hang.
		if side.service == "" || slices.Contains(hanging, r.Class) {
			continue
		}
		of := a.around.byService[side.service]
		if best, found = of.gravest(sent, done); found {
			return best, rivalOf(of, best, sent, done), true
		}
	}
	return span{}, span{}, false
}

// hanging are failures of those that nobody answers.
var hanging = []string{results.ClassTimeout, "http-504", "grpc-DEADLINE_EXCEEDED"}

// rivalOf returns a span of another pod of which another cause would be read: one
// pod may have stopped, one died, and one not have been ready.
func rivalOf(of *spanIndex, best span, sent, done int64) (rival span) {
	of.during(sent, done, func(s span) {
		if s.pod != best.pod && fate(s.state) != fate(best.state) {
			rival = s
		}
	})
	return rival
}

// fate is the kind of cause that is read from a pod's state.
func fate(state string) string {
	switch state {
	case results.StateTerminating, results.StateGone:
		return causeDrain
	case results.StateOOMKilled, results.StateRestarted:
		return causeRestart
	}
	return causeNotReady
}

func (a *attribution) podBlame(r *results.Request, w way, s span) blame {
	b := blame{services: []string{cmp.Or(s.service, w.callee)}, pods: []string{s.pod}, near: []string{s.words()}}
	where := " in " + r.Phase
	if step, running := a.around.stepAt(r.Done); running {
		where = " during " + step.name
	}
	service := cmp.Or(s.service, s.pod)
	switch s.state {
	case results.StateTerminating, results.StateGone:
		b.kind = causeDrain
		b.remedied(causeDrain)
		shop := a.run.Shop
		switch {
		case shop.Drain && shop.TerminationGracePeriodSeconds > 0 && shop.ProxyWaitSeconds > shop.TerminationGracePeriodSeconds:
			b.remedied("grace")
			b.cause = fmt.Sprintf("%s pods were killed when their grace period of %d s ended, before their proxies' wait of %d s,%s",
				service, shop.TerminationGracePeriodSeconds, shop.ProxyWaitSeconds, where)
		case shop.Drain:
			b.cause = fmt.Sprintf("%s pods were stopped with requests on their way, despite %d s of drain,%s", service, shop.DrainSeconds, where)
		default:
			b.cause = fmt.Sprintf("%s pods were stopped without drain%s", service, where)
		}
	case results.StateOOMKilled:
		b.kind, b.cause = causeRestart, fmt.Sprintf("%s ran out of memory and was killed%s", service, where)
		b.remedied("memory")
	case results.StateRestarted:
		b.kind, b.cause = causeRestart, fmt.Sprintf("%s died and was restarted%s", service, where)
		b.remedied(causeRestart)
	default:
		b.kind, b.cause = causeNotReady, fmt.Sprintf("%s pods were not ready%s", service, where)
		b.remedied(causeNotReady)
	}
	return b
}

// hung tells whether a request waited for somebody who did not answer, as from a
// node that is gone. Whoever refuses at once is there.
func hung(r *results.Request) bool {
	return slices.Contains(hanging, r.Class) || slices.Contains(brokenClasses, r.Class) && r.Done-sentAt(r) >= int64(hangs)
}

// nodes blames a node that was gone. Before the control plane noticed it, or
// where other nodes hold the service too, only what stood on it is its fault.
func (a *attribution) nodes(r *results.Request, w way) (blame, bool) {
	node, _ := a.goneNode(r, w)
	return a.nodeBlame(node, w), node.node != ""
}

// goneNode returns the node that was gone; here when the called service is known
// to stand on it.
func (a *attribution) goneNode(r *results.Request, w way) (node span, here bool) {
	if !hung(r) {
		return span{}, false
	}
	a.around.nodes.during(sentAt(r), r.Done, func(s span) {
		on, known := a.around.where.on(s.node, w)
		noticed := s.at <= r.Done+int64(after)
		if on || !known && noticed {
			node, here = s, on
		}
	})
	return node, here
}

// nodeOf returns the node that took a pod down: the pod was not ready, or was
// taken away, because its node was gone.
func (a *attribution) nodeOf(s span) (node span, down bool) {
	if s.state != results.StateNotReady && s.state != results.StateGone {
		return span{}, false
	}
	name := cmp.Or(a.around.where.node[s.pod], s.node)
	a.around.nodes.during(s.at, s.at, func(n span) {
		if n.node == name && n.at <= s.at+int64(after) {
			node, down = n, true
		}
	})
	return node, down
}

func (a *attribution) nodeBlame(node span, w way) blame {
	b := blame{
		kind: causeNode, cause: "node " + node.node + " was not ready", services: w.services(),
		near: []string{fmt.Sprintf("node %s not ready at %s", node.node, at(node.at))},
	}
	b.remedied(causeNode)
	if w.calleePod != "" {
		b.pods = []string{w.calleePod}
	}
	return b
}
