package verdict

import (
	"cmp"
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
// was near a request: every look is a binary search and a short walk.
type surroundings struct {
	byPod     map[string]*spanIndex
	byService map[string]*spanIndex
	nodes     *spanIndex
	starts    map[string]int64 // when a pod became ready first
	steps     []stepSpan       // by beginning
	named     map[string][]stepSpan
	noProxy   map[string][]string // pods without a proxy, by service
	meshed    map[string]bool     // by pod, where it is known
	ends      map[string]int64    // when a pod was gone
	expired   []string            // pods whose proxy's certificate had ended
	flawed    flaws
	ready     readiness
	where     locations
	asked     upstream
}

// stepSpan is one step while it ran; to is the end of time when it never ended.
type stepSpan struct {
	name, words string
	from, to    int64
}

func newSurroundings(events []results.Event, probes []results.Probe) *surroundings {
	s := &surroundings{
		byPod: map[string]*spanIndex{}, byService: map[string]*spanIndex{}, starts: map[string]int64{},
		named: map[string][]stepSpan{}, noProxy: map[string][]string{}, meshed: map[string]bool{}, ends: map[string]int64{}, where: newLocations(),
		flawed: flaws{}, ready: readiness{},
	}
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b results.Event) int { return cmp.Compare(a.At, b.At) })
	lives, nodes := map[string]*podLife{}, &nodeLives{open: map[string]int{}}
	for _, e := range events {
		s.asked.take(e)
		switch e.Kind {
		case results.Pod:
			s.notePod(e)
			s.ready.take(e)
			life := lives[e.Name]
			if life == nil {
				life = &podLife{}
				lives[e.Name] = life
			}
			life.take(e)
		case results.Endpoints:
			if life := lives[e.Fields[results.FieldPod]]; life != nil && e.Fields[results.FieldState] == results.StateRemoved {
				life.removed(e.At)
			}
		case results.Node:
			nodes.take(e)
		case results.StepBegin:
			s.steps = append(s.steps, stepSpan{name: e.Name, words: stepWords(e), from: e.At, to: math.MaxInt64})
		case results.StepEnd:
			s.endStep(e)
		}
	}
	s.index(lives)
	s.nodes = newSpanIndex(nodes.spans)
	for _, step := range s.steps {
		s.named[step.name] = append(s.named[step.name], step)
	}
	s.addProbes(probes)
	return s
}

func (s *surroundings) notePod(e results.Event) {
	service := e.Fields[results.FieldService]
	switch e.Fields[results.FieldMeshed] {
	case "true":
		s.meshed[e.Name] = true
	case "false":
		if was, known := s.meshed[e.Name]; (!known || was) && len(s.noProxy[service]) < maxPods {
			s.noProxy[service] = append(s.noProxy[service], e.Name)
		}
		s.meshed[e.Name] = false
	}
	if e.Fields[results.FieldState] == results.StateGone {
		s.ends[e.Name] = e.At
	}
	s.where.put(service, e.Name, e.Fields[results.FieldNode])
	if _, known := s.starts[e.Name]; !known && e.Fields[results.FieldState] == results.StateReady {
		s.starts[e.Name] = e.At
	}
}

// index arranges the spans of all pods, by pod and by service.
func (s *surroundings) index(lives map[string]*podLife) {
	ofService := map[string][]span{}
	for pod, life := range lives {
		own := make([]span, len(life.spans))
		for i, one := range life.spans {
			ofService[one.service] = append(ofService[one.service], *one)
			own[i] = *one
			own[i].newUntil = one.to // whoever was sent to this very pod was sent to it
		}
		s.byPod[pod] = newSpanIndex(own)
	}
	for service, spans := range ofService {
		// The order of a map is none; a verdict must not depend on it.
		slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.pod, b.pod)) })
		s.byService[service] = newSpanIndex(spans)
	}
}

// nodeLives turns the events of nodes into spans.
type nodeLives struct {
	spans []span
	open  map[string]int // index of the span that has not ended
}

func (l *nodeLives) take(e results.Event) {
	switch e.Fields[results.FieldState] {
	case results.StateNotReady:
		if _, down := l.open[e.Name]; down {
			return
		}
		l.open[e.Name] = len(l.spans)
		to := e.At + int64(nodeWindow)
		l.spans = append(l.spans, span{
			from: e.At - int64(nodeLag), to: to, newUntil: to, at: e.At, node: e.Name, state: results.StateNotReady,
		})
	case results.StateReady:
		if i, down := l.open[e.Name]; down {
			s := &l.spans[i]
			s.to = min(s.to, max(e.At+int64(goneLag), s.at))
			s.newUntil = s.to
			delete(l.open, e.Name)
		}
	}
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

// addProbes notes which pods were found without a proxy, and whose certificates
// had ended.
func (s *surroundings) addProbes(probes []results.Probe) {
	s.flawed.take(probes)
	looked := map[string]bool{}
	for _, p := range slices.Backward(probes) {
		if looked[p.Probe] {
			continue
		}
		looked[p.Probe] = true
		switch p.Probe {
		case results.ProbeInjection:
			if seen, why := decode[results.Injection](p); why == "" {
				s.addMissing(seen.Missing)
			}
		case results.ProbeLeaves:
			if seen, why := decode[results.Leaves](p); why == "" {
				looked[p.Probe] = false // one that had ended earlier had ended
				for _, pod := range seen.Expired {
					if !slices.Contains(s.expired, pod) {
						s.expired = append(s.expired, pod)
					}
				}
			}
		}
	}
}

func (s *surroundings) addMissing(pods []string) {
	for _, pod := range pods {
		if _, known := s.meshed[pod]; !known {
			s.meshed[pod] = false
			service := serviceOfPod(pod)
			s.noProxy[service] = append(s.noProxy[service], pod)
		}
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

// unmeshed returns the pods of a service that stood without a proxy at an
// instant, and how many others it had.
func (s *surroundings) unmeshed(service string, instant int64) (pods []string, others int) {
	for _, p := range s.noProxy[service] {
		if s.stood(p, instant) {
			pods = append(pods, p)
		}
	}
	for _, p := range s.where.pods[service] {
		if !s.bare(p) && s.stood(p, instant) {
			others++
		}
	}
	return pods, others
}

// bare tells whether a pod is known to have no proxy.
func (s *surroundings) bare(pod string) bool {
	meshed, known := s.meshed[pod]
	return known && !meshed
}

// stood tells whether a pod had come and was not gone yet, as far as is known.
func (s *surroundings) stood(pod string, instant int64) bool {
	began, begins := s.starts[pod]
	ended, ends := s.ends[pod]
	return (!begins || began <= instant) && (!ends || ended >= instant)
}

// enforcedAt is when the policy in force came, -1 before any.
func (s *surroundings) enforcedAt(r *results.Request) int64 {
	if step, found := s.lastStep("enforce", r.Done); found {
		return step.from
	}
	return -1
}

// podsInTrouble counts the pods of a service that something happened to while a
// request was on its way, up to two.
func (s *surroundings) podsInTrouble(service string, r *results.Request) int {
	first, n := "", 0
	s.byService[service].during(sentAt(r), r.Done, func(one span) {
		if n == 0 {
			first, n = one.pod, 1
		} else if one.pod != first {
			n = 2
		}
	})
	return n
}

// sentAt is when a request's fate began.
func sentAt(r *results.Request) int64 { return max(r.Sent, r.Scheduled) }

// lingers is how long a step may explain what it left behind: its pods may
// still be stopping.
const lingers = 10 * time.Second

// maxSteps bounds the walk back over steps that ran side by side.
const maxSteps = 16

// stepAt returns the step that ran at an instant, or had ended just before.
func (s *surroundings) stepAt(instant int64) (stepSpan, bool) {
	end := sort.Search(len(s.steps), func(i int) bool { return s.steps[i].from > instant })
	for i := end - 1; i >= 0 && end-i <= maxSteps; i-- {
		step := s.steps[i]
		if step.to == math.MaxInt64 || instant <= step.to+int64(lingers) {
			return step, true
		}
	}
	return stepSpan{}, false
}

// lastStep returns the last step of a name that had begun by an instant.
func (s *surroundings) lastStep(name string, instant int64) (stepSpan, bool) {
	of := s.named[name]
	end := sort.Search(len(of), func(i int) bool { return of[i].from > instant })
	if end == 0 {
		return stepSpan{}, false
	}
	return of[end-1], true
}

// justStarted tells whether a pod became ready just before a request came to
// it. Only a pod that is named can have.
func (s *surroundings) justStarted(pod string, r *results.Request) bool {
	began, known := s.starts[pod]
	return known && began <= r.Done && began >= sentAt(r)-int64(warming)
}
