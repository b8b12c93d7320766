package verdict

import (
	"slices"
	"sort"

	"meshsim.dev/meshsim/results"
)

// readiness is when each pod could be sent to, as events tell it. A pod that was
// there before anybody watched was ready until an event says otherwise.
type readiness map[string][]turn

// turn is an instant from which on a pod is ready, or is not.
type turn struct {
	at    int64
	ready bool
}

// take notes an event of a pod; events come in order.
func (r readiness) take(e results.Event) {
	turns := r[e.Name]
	switch e.Fields[results.FieldState] {
	case results.StateCreated:
		if len(turns) == 0 {
			r[e.Name] = []turn{{e.At, false}}
		}
	case results.StateReady:
		if len(turns) == 0 { // it was made
			turns = []turn{{e.At, false}}
		}
		r[e.Name] = append(turns, turn{e.At, true})
	case results.StateNotReady, results.StateTerminating, results.StateGone, results.StateRestarted, results.StateOOMKilled:
		if len(turns) == 0 {
			turns = []turn{{-1, true}}
		}
		r[e.Name] = append(turns, turn{e.At, false})
	}
}

// during tells whether a pod was ready at any time from one instant to another.
func (r readiness) during(pod string, from, to int64) bool {
	turns, known := r[pod]
	if !known {
		return true
	}
	i := sort.Search(len(turns), func(i int) bool { return turns[i].at > from })
	if i > 0 && turns[i-1].ready {
		return true
	}
	return slices.ContainsFunc(turns[i:], func(t turn) bool { return t.ready && t.at <= to })
}

// nobodyReady tells whether all known pods of a service had ceased to be ready
// for as long as a request waited for one.
func (s *surroundings) nobodyReady(service string, r *results.Request) bool {
	pods := s.where.pods[service]
	from := min(sentAt(r)+int64(after), r.Done) // it asked others before
	return len(pods) > 0 && !slices.ContainsFunc(pods, func(pod string) bool { return s.ready.during(pod, from, r.Done) })
}

// nobody blames a service that had no ready pod, where a request waited for one
// in vain: its caller's proxy answered in the end, or nobody did. What took the
// pods away is the better answer where it is known.
func (a *attribution) nobody(r *results.Request, w way) (blame, bool) {
	waited := failedFast(r) || slices.Contains(hanging, r.Class)
	if !waited || w.calleePod != "" || !a.around.nobodyReady(w.callee, r) {
		return blame{}, false
	}
	s, found := a.around.byService[w.callee].gravest(sentAt(r), r.Done)
	if found && fate(s.state) == causeRestart {
		return a.podBlame(r, w, s), true
	}
	if _, down := a.nodeOf(s); down {
		return blame{}, false
	}
	b := blame{kind: causeNotReady, cause: "no pod of " + w.callee + " was ready", services: []string{w.callee}}
	b.remedied(causeNotReady)
	if found {
		b.pods, b.near = []string{s.pod}, []string{s.words()}
	}
	return b, true
}
