package synthetic

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// Troubles of a run: what really made a request fail.
const (
	Drain       = "drain"
	Restart     = "restart"
	NotReady    = "not-ready"
	NoProxy     = "no-proxy"
	Policy      = "policy"
	Certificate = "certificate"
	Database    = "database"
	Node        = "node"
	Saturation  = "saturation"
	Sender      = "sender"
	Version     = "version"
	Unknown     = "unknown" // nothing that a record could show
)

// Kinds are all troubles that a record shows.
func Kinds() []string {
	return []string{Drain, Restart, NotReady, NoProxy, Policy, Certificate, Database, Node, Saturation, Sender, Version}
}

// Failure is one failed request and what really failed it.
type Failure struct {
	Request results.Request
	Trouble string
	Service string // that the trouble was with, "" where it is no service's
	Pod     string // the same, of its pod
}

// TroubleOptions say what is to go wrong.
type TroubleOptions struct {
	Seed     uint64
	Lasts    time.Duration // default 10 min
	Rate     float64       // requests a second; default 50
	Troubles []string      // in turns; default all kinds
	Every    time.Duration // mean time between troubles; default 25 s
	Innocent time.Duration // mean time between events that fail nothing; default 15 s
	Strange  float64       // share of requests that fail of themselves; default 0.0002
	Drain    bool          // pods stop after a drain (innocent stops fail nothing either way)
}

// TroubledRun is a run in which many things go wrong, several at once now and
// then, among events that do no harm. It is worked out from how each trouble
// does its harm: which pods answer, from when to when, and when the watch hears
// of it.
type TroubledRun struct {
	Run      results.Run
	Events   []results.Event
	Probes   []results.Probe
	Failures []Failure
	Served   []results.Request // those whose ways could tell who else was served
	Requests int
}

// pod is one pod of the made-up cluster.
type pod struct {
	name, service, node string
	begins, ends        int64 // as an endpoint that callers use
	meshed              bool
	version             string // "" is v1
}

// harm is what one trouble does: it fails requests that break accepts.
type harm struct {
	trouble, service, pod string
	from, to              int64
	hits                  func(c call) bool
	fails                 func(r *results.Request, c call)
}

// call is one call of a request: the pods at both ends.
type call struct {
	caller, callee *pod // caller is nil at the edge
	sent           int64
}

type troubles struct {
	TroubleOptions
	random    *rand.Rand
	run       TroubledRun
	nodes     []string
	pods      map[string][]*pod
	harms     []harm
	made      int
	calls     map[string][]string // callees by caller
	endpoints []*pod              // of one call, kept for the next one's

	spells []spell
	canary map[string]int64 // until when a service had its last one
}

// Trouble makes a troubled run.
func Trouble(o TroubleOptions) TroubledRun {
	if o.Lasts == 0 {
		o.Lasts = 10 * time.Minute
	}
	if o.Rate == 0 {
		o.Rate = 50
	}
	if len(o.Troubles) == 0 {
		o.Troubles = Kinds()
	}
	if o.Every == 0 {
		o.Every = 25 * time.Second
	}
	if o.Innocent == 0 {
		o.Innocent = 15 * time.Second
	}
	if o.Strange == 0 {
		o.Strange = 0.0002
	}
	t := &troubles{
		TroubleOptions: o, random: rand.New(rand.NewPCG(o.Seed, 0x74726f75)), pods: map[string][]*pod{}, canary: map[string]int64{}, calls: map[string][]string{},
		nodes: []string{"worker", "worker2", "worker3", "worker4"},
	}
	t.run.Run = results.Run{
		ID: "troubled", Scenario: "troubled", Phases: []results.PhasePlan{{Name: "soak", Judged: true}},
		Shop: results.Shop{Drain: o.Drain, DrainSeconds: 5, ProxyWaitSeconds: 10, TerminationGracePeriodSeconds: 30},
	}
	for _, e := range shopchart.Edges() {
		t.calls[e.Caller] = append(t.calls[e.Caller], e.Callee)
	}
	for _, service := range append(shopchart.Services(), shopchart.Database) {
		for i := range 3 {
			if service == shopchart.Database && i > 0 {
				break
			}
			t.addPod(service, t.nodes[t.random.IntN(len(t.nodes))], 0)
		}
	}
	t.schedule()
	t.send()
	return t.run
}

func (t *troubles) addPod(service, node string, begins int64) *pod {
	t.made++
	p := &pod{name: fmt.Sprintf("%s-6d5f%04x-x%03x", service, t.made, t.made*7%4096), service: service, node: node, begins: begins, ends: 1 << 62, meshed: true}
	t.pods[service] = append(t.pods[service], p)
	return p
}

// schedule spreads troubles and innocent events over the run.
func (t *troubles) schedule() {
	kind := 0
	for at := t.wait(t.Every); at < int64(t.Lasts)-int64(30*time.Second); at += t.wait(t.Every) {
		t.begin(t.Troubles[kind%len(t.Troubles)], at)
		kind++
	}
	for at := t.wait(t.Innocent); at < int64(t.Lasts); at += t.wait(t.Innocent) {
		t.innocent(at)
	}
	slices.SortStableFunc(t.run.Events, func(a, b results.Event) int { return int(min(max(a.At-b.At, -1), 1)) })
}

func (t *troubles) wait(mean time.Duration) int64 {
	return int64(t.random.ExpFloat64() * float64(mean))
}

// between draws a time between two.
func (t *troubles) between(lo, hi time.Duration) int64 {
	return int64(lo) + t.random.Int64N(int64(hi-lo)+1)
}

func (t *troubles) event(at int64, kind, name, detail string, fields map[string]string) {
	t.run.Events = append(t.run.Events, results.Event{At: at, Kind: kind, Name: name, Phase: "soak", Detail: detail, Fields: fields})
}

func (t *troubles) podEvent(at int64, p *pod, state string) {
	meshed := "false"
	if p.meshed {
		meshed = "true"
	}
	t.event(at, results.Pod, p.name, "", map[string]string{
		results.FieldService: p.service, results.FieldState: state, results.FieldNode: p.node, results.FieldMeshed: meshed,
	})
}

func (t *troubles) endpoint(at int64, p *pod, state string) {
	t.event(at, results.Endpoints, p.service, "", map[string]string{
		results.FieldService: p.service, results.FieldState: state, results.FieldPod: p.name,
	})
}

// living returns a pod of a service that stands at an instant and goes on.
func (t *troubles) living(service string, at int64) *pod {
	var alive []*pod
	for _, p := range t.pods[service] {
		if p.begins <= at && p.ends > at+int64(time.Minute) {
			alive = append(alive, p)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	return alive[t.random.IntN(len(alive))]
}

func (t *troubles) anyService() string {
	all := shopchart.Services()
	return all[t.random.IntN(len(all))]
}

// innocent is something that fails no request.
func (t *troubles) innocent(at int64) {
	p := t.living(t.anyService(), at)
	if p == nil {
		return
	}
	switch t.random.IntN(4) {
	case 0: // a pod is replaced as it should be
		t.replace(p, at, at)
		t.podEvent(at+t.between(0, 300*time.Millisecond), p, results.StateTerminating)
		t.endpoint(at+t.between(50*time.Millisecond, time.Second), p, results.StateRemoved)
		t.podEvent(at+t.between(6*time.Second, 12*time.Second), p, results.StateGone)
	case 1: // a readiness that came and went
		t.podEvent(at, p, results.StateNotReady)
		t.podEvent(at+t.between(500*time.Millisecond, 3*time.Second), p, results.StateReady)
	case 2:
		t.event(at, results.Warning, p.name, "Unhealthy: Readiness probe failed: timeout", map[string]string{"object": "Pod"})
	default: // a node is closed to new pods
		t.event(at, results.Node, p.node, "", map[string]string{results.FieldState: results.StateReady, "schedulable": "false"})
	}
}

// replace ends a pod as an endpoint and brings another in its place.
func (t *troubles) replace(p *pod, at, ends int64) {
	p.ends = ends
	fresh := t.addPod(p.service, t.nodes[t.random.IntN(len(t.nodes))], at-int64(2*time.Second))
	fresh.meshed = p.meshed
	t.podEvent(at-int64(8*time.Second), fresh, results.StateCreated)
	t.podEvent(at-int64(2*time.Second), fresh, results.StateReady)
	t.endpoint(at-int64(2*time.Second), fresh, results.StateAdded)
}

// send sends the whole run's requests, each along the shop's declared calls.
func (t *troubles) send() {
	slices.SortFunc(t.harms, func(a, b harm) int { return int(min(max(a.from-b.from, -1), 1)) })
	routes := scenarios.Routes()
	for at := t.wait(time.Second) / int64(t.Rate); at < int64(t.Lasts); at += int64(t.random.ExpFloat64() / t.Rate * 1e9) {
		t.run.Requests++
		route := routes[t.random.IntN(len(routes))]
		r := results.Request{
			Seq: uint64(t.run.Requests), Scheduled: at, Sent: at + int64(t.random.ExpFloat64()*2e5), Phase: "soak", Route: route.Name, Proto: route.Proto,
			Outcome: results.Failed,
		}
		calls := t.walk(route.Service, r.Sent)
		if f, failed := t.fate(r, calls); failed {
			t.run.Failures = append(t.run.Failures, f)
		} else {
			t.serve(r, calls)
		}
	}
}

// fate sends a request through the shop and returns its failure, if it fails.
func (t *troubles) fate(r results.Request, calls []call) (Failure, bool) {
	for _, c := range calls {
		for _, h := range t.harms {
			if c.sent < h.from || c.sent >= h.to || !h.hits(c) {
				continue
			}
			r.Done = c.sent + t.between(time.Millisecond, 40*time.Millisecond)
			h.fails(&r, c)
			if h.trouble == Version {
				t.tellAnswered(&r, c)
			} else {
				t.tell(&r, c)
			}
			return Failure{Request: r, Trouble: h.trouble, Service: h.service, Pod: h.pod}, true
		}
	}
	if t.random.Float64() >= t.Strange || len(calls) == 0 {
		return Failure{}, false
	}
	c := calls[t.random.IntN(len(calls))]
	if c.callee.service == shopchart.Database { // which would be the database's trouble
		c = calls[0]
	}
	r.Done = c.sent + t.between(time.Millisecond, 40*time.Millisecond)
	t.brokenAs(&r, "http-500", "http-503", "http-500", results.ClassTimeout)
	r.Error = "internal error"
	t.tell(&r, c)
	return Failure{Request: r, Trouble: Unknown}, true
}

// walk draws the calls of a request: from outside to its route's service, and
// from each service to those that it may call, as deep as three.
func (t *troubles) walk(edge string, sent int64) []call {
	first := t.serving(edge, sent)
	if first == nil {
		return nil
	}
	all := []call{{callee: first, sent: sent}}
	from := all
	for range 2 {
		var next []call
		for _, c := range from {
			for _, callee := range t.calls[c.callee.service] {
				if t.random.Float64() < 0.4 {
					continue
				}
				at := c.sent + t.between(100*time.Microsecond, 2*time.Millisecond)
				if to := t.serving(callee, at); to != nil {
					next = append(next, call{caller: c.callee, callee: to, sent: at})
				}
			}
		}
		all = append(all, next...)
		from = next
	}
	return all
}

// serving draws one of the pods that callers take for an endpoint.
func (t *troubles) serving(service string, at int64) *pod {
	t.endpoints = t.endpoints[:0]
	for _, p := range t.pods[service] {
		if p.begins <= at && at < p.ends {
			t.endpoints = append(t.endpoints, p)
		}
	}
	if len(t.endpoints) == 0 {
		return nil
	}
	return t.endpoints[t.random.IntN(len(t.endpoints))]
}
