package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"meshsim.dev/meshsim/results"
)

// span is a time during which a pod or a node could fail requests.
type span struct {
	from, to int64 // of the run; it explains requests that were under way in it
	// newUntil ends the time in which a request may still be sent to the pod:
	// what is sent later goes elsewhere.
	newUntil                  int64
	at                        int64 // of the event itself
	pod, service, node, state string
}

func (s span) words() string {
	what := "pod " + s.pod
	if s.pod == "" {
		what = "node " + s.node
	}
	return fmt.Sprintf("%s %s at %s", what, s.state, at(s.at))
}

// explains tells whether a request was under way in the span.
func (s span) explains(sent, done int64) bool {
	return s.from <= done+int64(after) && sent <= s.to && sent <= s.newUntil
}

// How long before a failure an event may be to explain it. A pod that stops has
// its grace period (30 s by default) to do harm, and most harm is early. after
// allows for a watch that hears of an event later than the client.
const (
	podWindow  = 20 * time.Second
	nodeWindow = 60 * time.Second
	after      = time.Second
	// endpointLag is how long callers go on using an endpoint that was removed.
	endpointLag = 3 * time.Second
	// deathLag is how long after a container's death its status tells of it.
	deathLag = 3 * time.Second
	// nodeLag is how long after a node's end the control plane calls it not ready.
	nodeLag = 50 * time.Second
	// hangs is how long a request waits at least for a node that is gone.
	hangs = 500 * time.Millisecond
	// goneLag is how long after a pod's end its last requests are told.
	goneLag = 2 * time.Second
)

// gravity ranks what a span explains: a killed container says more than a
// readiness that came and went. States that are not here explain nothing.
var gravity = map[string]int{
	results.StateOOMKilled: 5, results.StateTerminating: 4, results.StateRestarted: 3,
	results.StateGone: 2, results.StateNotReady: 1,
}

// podLife turns the events of one pod into spans. Events come in order.
type podLife struct {
	spans    []*span
	stopping *span // since the pod was asked to stop
	notReady *span // since its readiness went
	died     *span // since a container of it died
}

func (l *podLife) open(e results.Event, from, to int64) *span {
	s := &span{
		from: from, to: to, newUntil: to, at: e.At, pod: e.Name, service: e.Fields[results.FieldService],
		node: e.Fields[results.FieldNode], state: e.Fields[results.FieldState],
	}
	l.spans = append(l.spans, s)
	return s
}

func (l *podLife) take(e results.Event) {
	switch e.Fields[results.FieldState] {
	case results.StateTerminating:
		l.ready(e.At)
		l.stopping = l.open(e, e.At, e.At+int64(podWindow))
	case results.StateGone:
		l.ready(e.At)
		if s := l.stopping; s != nil {
			s.to = max(e.At+int64(goneLag), s.at)
			s.newUntil = min(s.newUntil, s.to)
			return
		}
		l.open(e, e.At-int64(deathLag), e.At+int64(podWindow))
	case results.StateOOMKilled, results.StateRestarted:
		l.died = l.open(e, e.At-int64(deathLag), e.At+int64(podWindow))
	case results.StateNotReady:
		if l.stopping == nil { // a pod that stops is not ready either
			l.notReady = l.open(e, e.At-int64(after), e.At+int64(podWindow))
		}
	case results.StateReady:
		l.ready(e.At)
	}
}

// ready ends what a pod that is ready again has recovered from.
func (l *podLife) ready(at int64) {
	for _, s := range []**span{&l.notReady, &l.died} {
		if *s != nil {
			(*s).to = at + int64(after)
			(*s).newUntil = (*s).to
			*s = nil
		}
	}
}

// removed notes that a pod that stops or is not ready left a Service's
// endpoints: callers that know it no longer send to it.
func (l *podLife) removed(at int64) {
	for _, s := range []*span{l.stopping, l.notReady} {
		if s != nil {
			s.newUntil = min(at+int64(endpointLag), s.to)
		}
	}
}

// spanIndex finds the spans that a request was under way in, by a binary search
// and a walk over those that reach it.
type spanIndex struct {
	spans []span  // by from
	reach []int64 // latest end among the spans up to here
}

func newSpanIndex(spans []span) *spanIndex {
	slices.SortStableFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	x := &spanIndex{spans: spans, reach: make([]int64, len(spans))}
	latest := int64(math.MinInt64)
	for i, s := range spans {
		latest = max(latest, s.to)
		x.reach[i] = latest
	}
	return x
}

// maxNear bounds the walk for one request, so that a storm of events does not
// make attribution quadratic.
const maxNear = 256

// during calls see with the spans that explain a request, the latest first. A
// nil index has none.
func (x *spanIndex) during(sent, done int64, see func(span)) {
	if x == nil {
		return
	}
	end := sort.Search(len(x.spans), func(i int) bool { return x.spans[i].from > done+int64(after) })
	for i := end - 1; i >= 0 && end-i <= maxNear && x.reach[i] >= sent; i-- {
		if x.spans[i].explains(sent, done) {
			see(x.spans[i])
		}
	}
}

// gravest returns the span that explains a request best, the latest among
// equals.
func (x *spanIndex) gravest(sent, done int64) (best span, found bool) {
	x.during(sent, done, func(s span) {
		if !found || gravity[s.state] > gravity[best.state] {
			best, found = s, true
		}
	})
	return best, found
}
