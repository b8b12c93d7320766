package synthetic

import (
	"fmt"
	"slices"
	"time"

	"meshsim.dev/meshsim/results"
)

// spell is a time in which served requests tell their ways, too: those with a
// call that matters. The ways of all would be as true, and take a while to make.
type spell struct {
	from, to int64
	matters  func(call) bool
}

// bring gives a service a pod of a second version, which fails half its calls.
func (t *troubles) bring(service string, at int64) {
	if at < t.canary[service]+int64(20*time.Second) {
		return // one at a time
	}
	end := at + t.between(20*time.Second, 40*time.Second)
	p := t.addPod(service, t.nodes[t.random.IntN(len(t.nodes))], at)
	p.ends, p.version = end, "v2"
	detail := fmt.Sprintf("canary: %s v2 gets 25 %% of its calls", service)
	t.event(at-int64(4*time.Second), results.StepBegin, "canary", detail, nil)
	t.podEvent(at-int64(2*time.Second), p, results.StateReady)
	t.event(at, results.StepEnd, "canary", detail, nil)
	t.event(end, results.StepBegin, "end-canary", "end-canary of "+service, nil)
	t.podEvent(end+int64(time.Second), p, results.StateTerminating)
	t.podEvent(end+int64(8*time.Second), p, results.StateGone)
	t.event(end+int64(time.Second), results.StepEnd, "end-canary", "end-canary of "+service, nil)
	t.canary[service] = end
	t.told(at, end, func(c call) bool { return c.callee.service == service })
	t.harms = append(t.harms, harm{
		trouble: Version, service: service, pod: p.name, from: at, to: end,
		hits:  func(c call) bool { return c.callee == p && t.random.Float64() < 0.5 },
		fails: func(r *results.Request, _ call) { r.Class, r.Status, r.Error = "http-500", 500, "internal error" },
	})
}

func (t *troubles) told(from, to int64, matters func(call) bool) {
	t.spells = append(t.spells, spell{from, to, matters})
}

// serve keeps a served request that is to tell its way.
func (t *troubles) serve(r results.Request, calls []call) {
	for _, s := range t.spells {
		if r.Scheduled < s.from || r.Scheduled >= s.to {
			continue
		}
		if i := slices.IndexFunc(calls, s.matters); i >= 0 {
			r.Outcome, r.Status = results.OK, 200
			r.Done = calls[i].sent + t.between(time.Millisecond, 40*time.Millisecond)
			r.Hops = wayTo(r.Route, calls[i], "")
			t.run.Served = append(t.run.Served, r)
			return
		}
	}
}

// tellAnswered is what a record knows of a failure that the called pod itself
// answered: all of it.
func (t *troubles) tellAnswered(r *results.Request, c call) {
	r.Hop, r.Pod = c.callee.service, c.callee.name
	if c.caller != nil {
		r.Hop = c.caller.service + ">" + c.callee.service
	}
	r.Hops = wayTo(r.Route, c, "!13")
}

// wayTo is the way of a request to one call, whose end is code.
func wayTo(route string, c call, code string) string {
	answer := fmt.Sprintf("%s@%s/%s:300", c.callee.name, c.callee.node, c.callee.of())
	if c.caller == nil {
		return answer
	}
	called := fmt.Sprintf("%s:100:900%s=%s", c.callee.service, code, answer)
	caller := fmt.Sprintf("%s@%s/%s:1500(%s)", c.caller.name, c.caller.node, c.caller.of(), called)
	if edge := edgeOf(route); edge != c.caller.service { // one between them is enough
		return fmt.Sprintf("%s-x@worker/v1:2000(%s:100:1800=%s)", edge, c.caller.service, caller)
	}
	return caller
}

func (p *pod) of() string {
	if p.version == "" {
		return "v1"
	}
	return p.version
}
