package synthetic

import (
	"fmt"
	"time"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// begin starts one trouble.
func (t *troubles) begin(kind string, at int64) {
	service := t.anyService()
	p := t.living(service, at)
	if kind == Database {
		p = t.pods[shopchart.Database][0]
	}
	if p == nil {
		return
	}
	switch kind {
	case Drain:
		t.stop(p, at)
	case Restart:
		t.die(p, at)
	case NotReady:
		t.fall(p, at)
	case NoProxy, Policy:
		t.enforce(kind, p, at)
	case Certificate:
		t.expire(p, at)
	case Node:
		t.lose(p.node, at)
	case Database:
		t.database(p, at)
	case Version:
		t.bring(service, at)
	case Saturation:
		t.saturate(service, at)
	case Sender:
		t.harms = append(t.harms, harm{
			trouble: Sender, from: at, to: at + t.between(time.Second, 3*time.Second),
			hits:  func(c call) bool { return c.caller == nil && t.random.Float64() < 0.2 },
			fails: func(r *results.Request, _ call) { r.Class, r.Error = results.ClassSender, "too many open files" },
		})
	}
}

func to(p *pod) func(call) bool { return func(c call) bool { return c.callee == p } }

// stop ends a pod before callers know: SIGTERM beats the endpoint's removal.
func (t *troubles) stop(p *pod, at int64) {
	removed := at + t.between(200*time.Millisecond, 2*time.Second)
	known := removed + t.between(100*time.Millisecond, 1500*time.Millisecond)
	t.replace(p, at, known)
	t.podEvent(at+t.between(0, 300*time.Millisecond), p, results.StateTerminating)
	t.endpoint(removed, p, results.StateRemoved)
	t.podEvent(known+t.between(500*time.Millisecond, 6*time.Second), p, results.StateGone)
	t.harms = append(t.harms, harm{trouble: Drain, service: p.service, pod: p.name, from: at, to: known, hits: to(p), fails: t.broken})
}

// die kills a container; its pod goes on when it has come again.
func (t *troubles) die(p *pod, at int64) {
	back := at + t.between(3*time.Second, 8*time.Second)
	state := results.StateRestarted
	if t.random.IntN(2) == 0 {
		state = results.StateOOMKilled
	}
	t.podEvent(at+t.between(200*time.Millisecond, 2500*time.Millisecond), p, state)
	t.podEvent(back, p, results.StateReady)
	t.harms = append(t.harms, harm{trouble: Restart, service: p.service, pod: p.name, from: at, to: back, hits: to(p), fails: t.broken})
}

// fall makes a pod stop answering, which its readiness tells a little later.
func (t *troubles) fall(p *pod, at int64) {
	told := at + t.between(0, 800*time.Millisecond)
	removed := told + t.between(100*time.Millisecond, 2*time.Second)
	t.podEvent(told, p, results.StateNotReady)
	t.endpoint(removed, p, results.StateRemoved)
	back := removed + t.between(5*time.Second, 15*time.Second)
	t.podEvent(back, p, results.StateReady)
	t.harms = append(t.harms, harm{trouble: NotReady, service: p.service, pod: p.name, from: at, to: removed, hits: to(p), fails: t.broken})
}

// enforce refuses the calls of one pod, or of one service that has its proxies.
func (t *troubles) enforce(kind string, p *pod, at int64) {
	t.event(at, results.StepBegin, "enforce", "enforce all-authenticated", nil)
	end := at + t.between(4*time.Second, 10*time.Second)
	t.event(end, results.StepEnd, "enforce", "enforce all-authenticated", nil)
	hits := func(c call) bool {
		return c.caller != nil && c.caller.service == p.service && c.caller.meshed && c.callee.service != shopchart.Database
	}
	if kind == NoProxy {
		p.meshed = false
		t.podEvent(at-int64(time.Second), p, results.StateReady)
		hits = func(c call) bool { return c.caller == p && c.callee.service != shopchart.Database }
		// Enforcement goes on; the pod gets its proxy by being replaced.
		fixed := end + t.between(time.Second, 3*time.Second)
		p.ends = fixed
		fresh := t.addPod(p.service, p.node, fixed)
		t.podEvent(fixed-int64(time.Second), fresh, results.StateReady)
		t.podEvent(fixed, p, results.StateTerminating)
		t.podEvent(fixed+int64(5*time.Second), p, results.StateGone)
	}
	t.told(at, end, func(c call) bool {
		return c.caller != nil && c.caller.service == p.service && c.callee.service != shopchart.Database
	})
	t.harms = append(t.harms, harm{
		trouble: kind, service: p.service, from: at, to: end, hits: hits,
		fails: func(r *results.Request, c call) {
			r.Class, r.Status, r.Error = "http-403", 403, "unauthorized request on route"
			if t.random.IntN(2) == 0 {
				r.Class, r.Status, r.Error = "http-500", 500, c.callee.service+": PermissionDenied"
			}
		},
	})
}

// expire lets a pod's certificate end.
func (t *troubles) expire(p *pod, at int64) {
	words := []string{"x509: certificate has expired or is not yet valid", "invalid peer certificate: UnknownIssuer", "x509: certificate signed by unknown authority"}
	said := words[t.random.IntN(len(words))]
	t.harms = append(t.harms, harm{
		trouble: Certificate, service: p.service, pod: p.name, from: at, to: at + t.between(2*time.Second, 6*time.Second), hits: to(p),
		fails: func(r *results.Request, _ call) {
			r.Class, r.Status, r.Error = "http-503", 503, said
			if t.random.IntN(2) == 0 {
				r.Class = results.ClassTLS
			}
		},
	})
}

// lose takes a node away. The control plane notices after a while, and makes its
// pods not ready then.
func (t *troubles) lose(node string, at int64) {
	noticed := at + t.between(4*time.Second, 40*time.Second)
	back := noticed + t.between(10*time.Second, 20*time.Second)
	t.event(noticed, results.Node, node, "", map[string]string{results.FieldState: results.StateNotReady})
	t.event(back, results.Node, node, "", map[string]string{results.FieldState: results.StateReady})
	known := noticed + t.between(300*time.Millisecond, 2*time.Second)
	for _, service := range append(shopchart.Services(), shopchart.Database) {
		for _, p := range t.pods[service] {
			if p.node == node && p.begins <= at && p.ends > noticed {
				t.podEvent(noticed+t.between(100*time.Millisecond, 600*time.Millisecond), p, results.StateNotReady)
				t.podEvent(back+t.between(time.Second, 3*time.Second), p, results.StateReady)
			}
		}
	}
	t.harms = append(t.harms, harm{
		trouble: Node, from: at, to: known, hits: func(c call) bool { return c.callee.node == node && t.random.Float64() < 0.2 },
		fails: func(r *results.Request, c call) {
			r.Done = c.sent + t.between(900*time.Millisecond, 3*time.Second)
			t.brokenAs(r, results.ClassTimeout, "http-504", "http-503")
		},
	})
}

func (t *troubles) database(p *pod, at int64) {
	back := at + t.between(2*time.Second, 6*time.Second)
	t.podEvent(at+t.between(200*time.Millisecond, 2*time.Second), p, results.StateRestarted)
	t.podEvent(back, p, results.StateReady)
	t.harms = append(t.harms, harm{trouble: Database, service: shopchart.Database, pod: p.name, from: at, to: back, hits: to(p), fails: t.broken})
}

// saturate sends a service more than it can take; its callers' proxies fail fast.
// It goes on serving as much as it can.
func (t *troubles) saturate(service string, at int64) {
	end := at + t.between(2*time.Second, 5*time.Second)
	const around = int64(20 * time.Second)
	t.told(at-around, end+around, func(c call) bool { return c.callee.service == service })
	t.harms = append(t.harms, harm{
		trouble: Saturation, service: service, from: at, to: end,
		hits: func(c call) bool { return c.callee.service == service && t.random.Float64() < 0.5 },
		fails: func(r *results.Request, _ call) {
			r.Class, r.Status, r.Error = "http-503", 503, "service in fail-fast"
			if t.random.IntN(3) == 0 {
				r.Class, r.Error = "grpc-RESOURCE_EXHAUSTED", "load shed"
			}
		},
	})
}

// broken is how a request ends that nobody serves.
func (t *troubles) broken(r *results.Request, _ call) {
	t.brokenAs(r, results.ClassConnectRefused, results.ClassEOF, results.ClassReset, "http-502", "http-503", "grpc-UNAVAILABLE")
}

func (t *troubles) brokenAs(r *results.Request, classes ...string) {
	r.Class = classes[t.random.IntN(len(classes))]
	r.Error = "connection closed"
	_, _ = fmt.Sscanf(r.Class, "http-%d", &r.Status)
}

// tell writes down as much of where a request failed as a record knows: not
// always the pod, and the way only where the shop could answer.
func (t *troubles) tell(r *results.Request, c call) {
	if c.caller == nil {
		r.Hop = c.callee.service
		if t.random.IntN(3) == 0 {
			r.Pod = c.callee.name
		}
		return
	}
	r.Hop = c.caller.service + ">" + c.callee.service
	switch t.random.IntN(4) {
	case 0:
		r.Pod = c.callee.name
	case 1:
		r.Pod = c.caller.name
	}
	if t.random.IntN(2) == 0 && edgeOf(r.Route) == c.caller.service {
		answer := ""
		if t.random.IntN(3) == 0 {
			answer = fmt.Sprintf("=%s@%s/v1:300", c.callee.name, c.callee.node)
		}
		r.Hops = fmt.Sprintf("%s@%s/v1:1500(%s:100:900!14%s)", c.caller.name, c.caller.node, c.callee.service, answer)
	}
}

func edgeOf(route string) string {
	for _, r := range scenarios.Routes() {
		if r.Name == route {
			return r.Service
		}
	}
	return ""
}
