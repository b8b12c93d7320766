package verdict

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
)

// way is the two services that a request failed between, with their pods where
// the record names them.
type way struct {
	caller, callee       string
	callerPod, calleePod string
	calleeNode           string
}

// wayOf reads where a request failed: from the deepest call of its hops that
// failed, else from its hop, else it is the route's own service.
func wayOf(r *results.Request, told []hops.Hop) way {
	names := strings.Split(r.Hop, ">")
	w := way{callee: names[len(names)-1]}
	if n := len(names); n > 1 {
		w.caller = names[n-2]
	}
	if r.Hop == "" {
		w.callee = edgeService(r.Route)
	}
	if failed, ok := failedHop(told); ok && (w.caller == "" || failed.caller == w.caller && failed.callee == w.callee) {
		w = failed
	}
	// The pod that a failure names is whichever side's name it begins with.
	switch {
	case r.Pod == "":
	case w.caller != "" && strings.HasPrefix(r.Pod, w.caller+"-"):
		w.callerPod = r.Pod
	default:
		w.calleePod = r.Pod
	}
	return w
}

// failedHop returns the call farthest from the edge that failed.
func failedHop(all []hops.Hop) (way, bool) {
	worst := -1
	for i, h := range all {
		if h.Code != codes.OK && (worst < 0 || h.Depth >= all[worst].Depth) {
			worst = i
		}
	}
	if worst < 0 {
		return way{}, false
	}
	h := all[worst]
	w := way{caller: h.Caller, callee: h.Service, calleePod: h.Pod, calleeNode: h.Node}
	w.callerPod = callerOf(all, worst).Pod
	return w, true
}

// callerOf returns the hop that called hop i, the zero hop of the first.
func callerOf(all []hops.Hop, i int) (caller hops.Hop) {
	for _, c := range slices.Backward(all[:i]) {
		if c.Depth == all[i].Depth-1 {
			return c
		}
	}
	return caller
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

// stay is where on its way a request spent most of its time.
type stay struct {
	service string // that took the time itself, or that was called
	caller  string // "" when the service itself took it
	pod     string // of the service, "" when it did not say
	took    time.Duration
	share   float64 // of the request's whole time
}

// longestStay finds the service, or the stretch between two, that took most of
// a request. A service's own time is what its calls do not cover; calls that
// ran side by side are counted once.
func longestStay(r *results.Request, all []hops.Hop) (stay, bool) {
	if len(all) == 0 {
		return stay{}, false
	}
	whole := time.Duration(r.Done - r.Sent)
	var best stay
	keep := func(s stay) {
		if s.took > best.took {
			best = s
		}
	}
	for i, h := range all {
		if h.Answered() {
			keep(stay{service: h.Service, pod: h.Pod, took: h.Own - covered(all, i)})
			keep(stay{service: h.Service, caller: h.Caller, pod: h.Pod, took: h.Took - h.Own})
		} else {
			keep(stay{service: h.Service, caller: h.Caller, took: h.Took})
		}
	}
	keep(stay{service: all[0].Service, caller: "the load balancer", pod: all[0].Pod, took: whole - all[0].Own})
	if whole > 0 {
		best.share = float64(best.took) / float64(whole)
	}
	return best, true
}

// covered is how much of hop i's own time its direct calls cover.
func covered(all []hops.Hop, i int) time.Duration {
	var sum, end time.Duration
	for _, h := range all[i+1:] {
		if h.Depth <= all[i].Depth {
			break
		}
		if h.Depth > all[i].Depth+1 {
			continue
		}
		from, to := max(h.Start, end), h.Start+h.Took
		if to > from {
			sum += to - from
			end = to
		}
	}
	return sum
}
