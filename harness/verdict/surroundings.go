package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// surroundings is what happened in the cluster, arranged for looking up what
// was near an instant: every look is a binary search and a short walk.
type surroundings struct {
	byPod     map[string][]podEvent // ascending, as the next
	byService map[string][]podEvent
	nodes     []podEvent // not-ready only; pod holds the node's name
	steps     []stepSpan
	noProxy   map[string][]string // pods without a proxy, by service
}

type podEvent struct {
	at                  int64
	pod, service, state string
}

func (e podEvent) words() string { return fmt.Sprintf("pod %s %s at %s", e.pod, e.state, at(e.at)) }

// stepSpan is one step while it ran; to is the end of time when it never ended.
type stepSpan struct {
	name, words string
	from, to    int64
}

// gravity ranks what a pod's event explains: a killed container says more than
// a readiness that came and went. States that are not here explain nothing.
var gravity = map[string]int{
	results.StateOOMKilled: 5, results.StateTerminating: 4, results.StateRestarted: 3,
	results.StateGone: 2, results.StateNotReady: 1,
}

func newSurroundings(events []results.Event, probes []results.Probe) surroundings {
	s := surroundings{byPod: map[string][]podEvent{}, byService: map[string][]podEvent{}, noProxy: map[string][]string{}}
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b results.Event) int { return cmp.Compare(a.At, b.At) })
	meshed := map[string]bool{}
	for _, e := range events {
		switch e.Kind {
		case results.Pod:
			s.addPod(e, meshed)
		case results.Node:
			if e.Fields[results.FieldState] == results.StateNotReady {
				s.nodes = append(s.nodes, podEvent{at: e.At, pod: e.Name})
			}
		case results.StepBegin:
			s.steps = append(s.steps, stepSpan{name: e.Name, words: stepWords(e), from: e.At, to: math.MaxInt64})
		case results.StepEnd:
			s.endStep(e)
		}
	}
	s.addInjection(probes, meshed)
	return s
}

func (s *surroundings) addPod(e results.Event, meshed map[string]bool) {
	p := podEvent{e.At, e.Name, e.Fields[results.FieldService], e.Fields[results.FieldState]}
	switch e.Fields[results.FieldMeshed] {
	case "true":
		meshed[e.Name] = true
	case "false":
		meshed[e.Name] = false
	}
	if gravity[p.state] == 0 {
		return
	}
	s.byPod[p.pod] = append(s.byPod[p.pod], p)
	s.byService[p.service] = append(s.byService[p.service], p)
}

func stepWords(e results.Event) string {
	if e.Detail != "" {
		return short(e.Detail, 80)
	}
	return e.Name
}

func (s *surroundings) endStep(e results.Event) {
	for i := range slices.Backward(s.steps) {
		if s.steps[i].name == e.Name && s.steps[i].to == math.MaxInt64 {
			s.steps[i].to = e.At
			return
		}
	}
}

// addInjection notes which pods the injection probe found without a proxy.
func (s *surroundings) addInjection(probes []results.Probe, meshed map[string]bool) {
	for _, p := range slices.Backward(probes) {
		if p.Probe != results.ProbeInjection {
			continue
		}
		seen, why := decode[results.Injection](p)
		if why != "" {
			return
		}
		for _, pod := range seen.Missing {
			if !meshed[pod] {
				service := serviceOfPod(pod)
				s.noProxy[service] = append(s.noProxy[service], pod)
			}
		}
		return
	}
}

// serviceOfPod reads a service from the name that its Deployment gives a pod.
func serviceOfPod(pod string) string {
	for _, name := range shopchart.Services() {
		if strings.HasPrefix(pod, name+"-") {
			return name
		}
	}
	return ""
}

// edgeService returns the service that answers a route, "" when unknown.
func edgeService(route string) string {
	for _, r := range scenarios.Routes() {
		if r.Name == route {
			return r.Service
		}
	}
	return ""
}

func (s *surroundings) unmeshed(service string) []string {
	if service == "" {
		return nil
	}
	return s.noProxy[service]
}

// podNear returns the gravest event of a pod, or of any pod of a service, near
// a request; among equals the last.
func (s *surroundings) podNear(pod, service string, r *results.Request) (podEvent, bool) {
	events := s.byService[service]
	if pod != "" {
		events = s.byPod[pod]
	}
	return gravest(events, sentAt(r)-int64(podWindow), r.Done+int64(after))
}

func (s *surroundings) nodeNear(r *results.Request) (podEvent, bool) {
	return gravest(s.nodes, sentAt(r)-int64(nodeWindow), r.Done+int64(after))
}

// sentAt is when a request's fate began.
func sentAt(r *results.Request) int64 { return max(r.Sent, r.Scheduled) }

// maxNear bounds the walk over one window, so that a storm of events does not
// make attribution quadratic.
const maxNear = 256

func gravest(events []podEvent, from, to int64) (podEvent, bool) {
	end := sort.Search(len(events), func(i int) bool { return events[i].at > to })
	best := -1
	for i := end - 1; i >= 0 && end-i <= maxNear && events[i].at >= from; i-- {
		if best < 0 || gravity[events[i].state] > gravity[events[best].state] {
			best = i
		}
	}
	if best < 0 {
		return podEvent{}, false
	}
	return events[best], true
}

// stepAt returns the step that ran at an instant, or had ended just before: its
// pods may still be stopping.
func (s *surroundings) stepAt(instant int64) (stepSpan, bool) {
	for _, step := range slices.Backward(s.steps) {
		linger := step.to
		if linger < math.MaxInt64-int64(podWindow) {
			linger += int64(10 * time.Second)
		}
		if step.from <= instant && instant <= linger {
			return step, true
		}
	}
	return stepSpan{}, false
}

// lastStep returns the last step of a name that had begun by an instant.
func (s *surroundings) lastStep(name string, instant int64) (stepSpan, bool) {
	for _, step := range slices.Backward(s.steps) {
		if step.name == name && step.from <= instant {
			return step, true
		}
	}
	return stepSpan{}, false
}
