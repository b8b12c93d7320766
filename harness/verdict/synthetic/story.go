package synthetic

import (
	"fmt"
	"time"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// action is something that happens at an instant of the run.
type action struct {
	at int64
	do func()
}

// plan spreads a phase's steps over its time.
func (g *generator) plan(p scenarios.Phase, begun, lasts int64) []action {
	var actions []action
	each := lasts / int64(len(p.Steps)+1)
	for i, step := range p.Steps {
		from, to := begun+int64(i)*each+each/10, begun+int64(i+1)*each
		actions = append(actions, action{from, func() { g.event(results.StepBegin, step.Name, p.Name, step.String(), nil) }})
		actions = append(actions, g.inside(step, p.Name, from, to)...)
		actions = append(actions, action{to, func() { g.event(results.StepEnd, step.Name, p.Name, step.String(), nil) }})
	}
	return actions
}

// inside is what happens while a step runs.
func (g *generator) inside(step scenarios.Step, phase string, from, to int64) []action {
	switch o := step.Options.(type) {
	case *scenarios.Inject:
		services := o.Services
		if len(services) == 0 {
			services = shopchart.Services()
		}
		return g.roll(services, phase, from, to, func(done int) { g.meshed = float64(done) / float64(len(shopchart.Services())) })
	case *scenarios.Enforce:
		services := shopchart.Services()
		if g.Careless {
			services = services[:2]
		}
		return g.roll(services, phase, from, to, func(int) { g.enforced = g.Careless })
	case *scenarios.MeasureAddedLatency:
		return []action{{to - 1, func() { g.twins(o, phase) }}}
	case *scenarios.ProbePlaintext:
		return []action{{to - 1, func() { g.plaintext(phase) }}}
	case *scenarios.RestartVault:
		return []action{{to - 1, func() {
			after, keys := int64(6240), false
			g.probe(results.ProbeVaultUnseal, phase, results.VaultUnseal{Restarted: true, Seal: "awskms", UnsealedAfterMs: &after, OperatorKeysUsed: &keys})
		}}}
	}
	return nil
}

// roll restarts services one after another, two pods each.
func (g *generator) roll(services []string, phase string, from, to int64, done func(int)) []action {
	var actions []action
	each := (to - from) / int64(len(services)+1)
	for i, service := range services {
		at := from + int64(i)*each
		for pod := range 2 {
			old := fmt.Sprintf("%s-6d5f7c9b4-x7k2%c", service, 'p'+pod)
			fresh := fmt.Sprintf("%s-84b9d6c5f-%c4wzn", service, 'q'+pod)
			actions = append(actions,
				action{at, func() { g.pod(fresh, service, phase, results.StateReady) }},
				action{at + each/4, func() {
					g.pod(old, service, phase, results.StateTerminating)
					if g.Careless {
						g.failing, g.dead[service] = old, g.now+int64(1200*time.Millisecond)
					}
				}},
			)
			at += each / 3
		}
		actions = append(actions, action{at, func() { done(i + 1) }})
	}
	return actions
}

func (g *generator) pod(name, service, phase, state string) {
	g.event(results.Pod, name, phase, "", map[string]string{results.FieldService: service, results.FieldState: state, results.FieldNode: "meshsim-worker2"})
}

func (g *generator) probe(name, phase string, data any) {
	p, err := results.NewProbe(g.now, name, phase, data)
	g.keep(err)
	g.keep(g.folder.AddProbe(p))
}

// twins are measured with a true added latency of 1.2 ms.
func (g *generator) twins(o *scenarios.MeasureAddedLatency, phase string) {
	data := results.AddedLatency{PayloadBytes: o.PayloadBytes, PerHop: o.Path != scenarios.PathShop, Planned: o.Triples}
	if !data.PerHop {
		data.Path = "a product's page"
	}
	for range o.Triples {
		plain := func() float64 { return 0.6 + g.random.ExpFloat64()*0.4 }
		data.Samples.Plain = append(data.Samples.Plain, plain())
		data.Samples.Meshed = append(data.Samples.Meshed, plain()+1.2+g.random.ExpFloat64()*0.2)
		data.Samples.PlainAgain = append(data.Samples.PlainAgain, plain())
	}
	g.probe(results.ProbeAddedLatency, phase, data)
}

func (g *generator) plaintext(phase string) {
	data := results.Plaintext{Attempts: 16, Refused: 16}
	if g.Careless {
		data = results.Plaintext{Attempts: 16, Refused: 6, Accepted: 10, Evidence: []string{"order-processing.prod-app:9090 answered a plaintext gRPC call"}}
	}
	g.probe(results.ProbePlaintext, phase, data)
}

// probes are what is looked at when the last phase has ended.
func (g *generator) probes() {
	const phase = "soak"
	injection := results.Injection{Pods: 26, Injected: 26, Missing: []string{}}
	mtls := results.MTLS{Phase: phase, TLS: 41822, ByService: map[string]results.Calls{}}
	if g.Careless {
		injection.Injected = 21
		for _, service := range shopchart.Services()[2:] {
			if service != "payment-gateway" {
				injection.Missing = append(injection.Missing, service+"-6d5f7c9b4-x7k2p")
			}
		}
		mtls.TLS, mtls.Plain, mtls.ByReason = 1207, 3310, map[string]int64{"no_tls_from_remote": 3310}
		mtls.ByService["payment-gateway"] = results.Calls{Plain: 3310}
	}
	g.betweenServices(phase, injection.Injected)
	g.probe(results.ProbeInjection, phase, injection)
	g.probe(results.ProbeMTLS, phase, mtls)
	yes, start := true, g.run.StartedAt
	life := 90 * 24 * time.Hour
	g.probe(results.ProbeIssuer, phase, results.Issuer{
		NotBefore: start, NotAfter: start.Add(life), IsCA: &yes, ChainsToAnchor: &yes, KeyAlgorithm: "ECDSA", Curve: "P-256",
		RenewBeforeSeconds: 7 * 24 * 3600, RenewalTime: start.Add(83 * 24 * time.Hour),
	})
	g.probe(results.ProbeLeaves, phase, results.Leaves{
		Proxies: injection.Injected, Earliest: start.Add(23 * time.Hour), Expired: []string{}, Silent: []string{},
	})
	g.inVault(phase)
	placed, unsure := g.orders[results.ToldYes], g.orders[results.ToldUnsure]
	g.probe(results.ProbeLedger, phase, results.Ledger{
		Acknowledged: placed, Ambiguous: unsure, Written: placed, Lost: []string{}, Doubled: []string{}, Oversold: []string{}, PaymentMismatch: []string{},
		Answers: &results.Answers{Refused: g.orders[results.ToldNo], Contradicted: []string{}, Unasked: []string{}, AmbiguousAbsent: unsure},
	})
}

// inVault is how old the shop's secrets are, and how Vault was used.
func (g *generator) inVault(phase string) {
	const day = 24 * time.Hour
	data := results.VaultRotation{Certificates: []results.SecretAge{{Path: "linkerd/linkerd-identity-issuer", Age: time.Hour, Every: 83 * day, Since: g.run.StartedAt}}}
	for _, service := range shopchart.Services() {
		data.Secrets = append(data.Secrets, results.SecretAge{Path: "secret/shop/" + service, Age: 4 * time.Minute, Every: 30 * day, Since: g.run.StartedAt.Add(12 * time.Minute), Version: 2})
	}
	g.probe(results.ProbeVaultRotation, phase, data)
	g.probe(results.ProbeVaultAudit, phase, results.VaultAudit{To: g.now, Requests: 1480})
}

// webhooks are how the mesh's were called in a phase.
func (g *generator) webhooks(phase string) {
	whole := true
	g.probe(results.ProbeWebhooks, phase, results.Webhooks{Phase: phase, From: g.phaseBegan, To: g.now, Whole: &whole,
		Calls: []results.WebhookCalls{{Name: "linkerd-proxy-injector.linkerd.io", Type: "admit", Calls: 24, MeanMs: 9}}})
}

// betweenServices is what captures saw on the wire, who was let in, and what
// proxies show: calls of services without a proxy are plaintext, and without a
// policy everybody is let in.
func (g *generator) betweenServices(phase string, proxies int) {
	meshed := func(service string) bool {
		return !g.Careless || service == "product-catalog" || service == "inventory-management" || service == "payment-gateway"
	}
	wire := results.Wire{From: g.phaseBegan, To: g.now, Nodes: []string{"meshsim-worker", "meshsim-worker2"}, Missing: []string{}, Planted: int64(g.PerPhase)}
	for _, e := range shopchart.Edges() {
		f := results.Flow{Source: e.Caller, Destination: e.Callee, Port: 9090, Kind: "http2", Count: int64(200 + g.random.IntN(4000))}
		switch {
		case e.Callee == shopchart.Database:
			f.Kind, f.Port, f.Exempt = "postgresql", 5432, "the database"
		case meshed(e.Caller) && meshed(e.Callee):
			f.Kind, f.Version = results.FlowTLS, "1.3"
		default:
			wire.Found += f.Count
		}
		wire.Flows = append(wire.Flows, f)
	}
	g.probe(results.ProbeWire, phase, wire)
	g.probe(results.ProbeAuthorisation, phase, g.attempts(meshed))
	yes := true
	shown := results.Identity{Proxies: proxies, Silent: []string{}}
	for i := range proxies {
		name := fmt.Sprintf("%s.prod-app.serviceaccount.identity.linkerd.cluster.local", shopchart.Services()[i%8])
		shown.Presented = append(shown.Presented, results.Presented{
			Pod: fmt.Sprintf("%s-%d", shopchart.Services()[i%8], i/8), Identity: name, Expected: name, Chains: &yes,
			From: g.run.StartedAt, Until: g.run.StartedAt.Add(24 * time.Hour), Key: "ecdsa-p256", Version: "1.3",
		})
	}
	g.probe(results.ProbeIdentity, phase, shown)
}

// attempts are everybody's at everybody else; those that are refused are counted
// by the callee's proxy and raise an alert.
func (g *generator) attempts(meshed func(string) bool) results.Authorisation {
	yes, no := true, false
	var all results.Authorisation
	for _, caller := range append(shopchart.Services(), "stranger") {
		for _, callee := range shopchart.Services() {
			if caller == callee {
				continue
			}
			a := results.Attempt{Caller: caller, Callee: callee, As: results.AsOwn, Allowed: &no, Got: results.GotOut}
			if caller == "stranger" {
				a.As = results.AsPlaintext
			} else if shopchart.Allowed(caller, callee) {
				a.Allowed = &yes
			}
			if !meshed(callee) || *a.Allowed && meshed(caller) {
				a.Got = results.GotIn
			}
			if !*a.Allowed {
				alerted := int64(20_000)
				if a.Got == results.GotIn {
					alerted = -1
				}
				a.Counted, a.AlertedAfterMs = new(a.Got == results.GotOut), &alerted
			}
			all.Attempts = append(all.Attempts, a)
		}
	}
	return all
}
