// Package synthetic makes run folders of rehearsals that never took place, with
// known failures and known causes, so that what is concluded from a folder can
// be checked against the truth. A synthetic run says so in its notes.
package synthetic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// Options say what the run is to look like.
type Options struct {
	Careless bool    // pods stop without drain, enforcement comes too early
	PerPhase int     // requests in each phase; default 6000
	Rate     float64 // requests a second; default 55
	Seed     uint64
	Ways     bool     // requests tell their way through the shop
	Budgets  []string // beside the scenario's own
}

// Note stands in every synthetic run.
const Note = "Synthetic run: made up to show and test the report. Nothing was rehearsed."

// Write makes the folder of a run below root.
func Write(root string, o Options) (*results.Folder, error) {
	if o.PerPhase == 0 {
		o.PerPhase = 6000
	}
	if o.Rate == 0 {
		o.Rate = 55
	}
	name := "mtls-rollout"
	if o.Careless {
		name = "mtls-rollout-careless"
	}
	s, err := scenarios.Load(name)
	if err != nil {
		return nil, err
	}
	started := time.Date(2026, 5, 4, 9, 30, 0, 0, time.UTC)
	f, err := results.Create(root, results.NewID(started, name))
	if err != nil {
		return nil, err
	}
	run := describe(f.ID, s, started)
	run.Budgets = append(run.Budgets, o.Budgets...)
	g := &generator{
		Options: o, scenario: s, folder: f, random: rand.New(rand.NewPCG(o.Seed, 1)),
		run: run, orders: map[results.Told]int{}, dead: map[string]int64{},
	}
	if err := g.generate(); err != nil {
		return nil, err
	}
	g.run.EndedAt = started.Add(time.Duration(g.now) + 20*time.Second)
	if err := f.WriteRun(g.run); err != nil {
		return nil, err
	}
	return f, f.Close()
}

func describe(id string, s *scenarios.Scenario, started time.Time) results.Run {
	digest := func(n int) string { return fmt.Sprintf("sha256:%064x", uint64(n)*0x9e3779b97f4a7c15) }
	run := results.Run{
		ID: id, Scenario: s.Metadata.Name, Mesh: "fakemesh", StartedAt: started, Seed: s.Spec.Seed,
		Topology: s.Spec.Topology, KubernetesVersion: "v1.24.17", Tool: "v0.1.0",
		Fit:      results.Fit{CPU: 0.08, Memory: 0.5, Notes: []string{"pod requests are multiplied to fit 2 CPUs"}},
		StandIns: []string{"fakeshop (the shop's eight services)", "fakeaws (AWS KMS and the application load balancer)", "fakemesh (in the place of Linkerd)"},
		Notes:    []string{Note, "Cross-zone delay is not emulated: this kernel has no sch_netem."},
		Host:     results.Host{OS: "linux", Kernel: "6.1.0", CPUs: 2, MemoryBytes: 24 << 30},
		Traffic:  s.RecordedTraffic(), Budgets: s.BudgetLines(),
		Shop:        results.Shop(s.Spec.Shop),
		Calibration: &results.Calibration{Requests: 1000, P50: 210 * time.Microsecond, P99: 900 * time.Microsecond, Max: 4 * time.Millisecond},
	}
	for i, image := range [][2]string{{"node", "v1.24.17"}, {"cert-manager-controller", "v1.11.5"}, {"vault", "1.19.0"}, {"postgres", "15"}, {"fakeshop", "v0.1.0"}, {"fakemesh", "v0.1.0"}} {
		run.Images = append(run.Images, results.Image{
			Name: image[0], Version: image[1], Ref: "meshsim.local/" + image[0] + ":" + image[1], Digest: digest(i + 1), Origin: "built",
		})
	}
	for _, p := range s.Spec.Phases {
		run.Phases = append(run.Phases, results.PhasePlan{Name: p.Name, Scale: p.Scale, Judged: p.Judged, MinRequests: p.Until.Requests})
	}
	return run
}

// generator makes one run from a random source and a clock of its own.
type generator struct {
	Options
	scenario *scenarios.Scenario
	folder   *results.Folder
	random   *rand.Rand
	run      results.Run

	now        int64 // ns since the run's start
	phaseBegan int64
	seq        uint64
	orders     map[results.Told]int
	meshed     float64          // share of the services that have a proxy
	enforced   bool             // while only some have one
	dead       map[string]int64 // until when a service's stopped pod fails requests
	failing    string           // the pod that does
	err        error
}

func (g *generator) keep(err error) {
	if g.err == nil {
		g.err = err
	}
}

func (g *generator) event(kind, name, phase, detail string, fields map[string]string) {
	g.keep(g.folder.AddEvent(results.Event{At: g.now, Kind: kind, Name: name, Phase: phase, Detail: detail, Fields: fields}))
}

func (g *generator) generate() error {
	g.event(results.Watching, "prod-app, linkerd, vault, cert-manager", "", "", nil)
	for _, p := range g.scenario.Spec.Phases {
		g.event(results.PhaseBegin, p.Name, p.Name, "", nil)
		begun, rate := g.now, g.Rate*p.Scale
		g.phaseBegan = begun
		lasts := float64(g.PerPhase) / rate
		actions := g.plan(p, begun, int64(lasts*1e9))
		for n := 0; n < g.PerPhase; n++ {
			g.now += int64(g.random.ExpFloat64() / (rate * g.shape(begun)) * 1e9)
			for len(actions) > 0 && actions[0].at <= g.now {
				g.now = max(actions[0].at, begun)
				actions[0].do()
				actions = actions[1:]
			}
			g.request(p.Name)
		}
		for _, a := range actions {
			a.do()
		}
		g.webhooks(p.Name)
		g.event(results.PhaseEnd, p.Name, p.Name, "", nil)
	}
	g.probes()
	return g.err
}

// shape is how busy the compressed day is at an instant: a launch peak each day.
func (g *generator) shape(begun int64) float64 {
	day := float64(g.now-begun) / 90e9
	x := math.Mod(day, 1) - 0.45
	return 0.7 + 0.9*math.Exp(-x*x/0.01)
}

// request sends one request, which fails when its service's pod is dying or the
// policy refuses its caller.
func (g *generator) request(phase string) {
	g.seq++
	route := g.route()
	sent := g.now + int64(g.random.ExpFloat64()*2e5)
	if g.random.Float64() < 0.001 {
		sent += 6e7 // the sender's own stall
	}
	r := results.Request{
		Seq: g.seq, Scheduled: g.now, Sent: sent, Phase: phase, Route: route.Name, Proto: route.Proto, Outcome: results.OK,
		Pod: route.Service + "-6d5f7c9b4-x7k2p",
	}
	if route.Proto == "http" {
		r.Status = 200
	}
	median := map[string]float64{"order": 14, "configure": 9, "recommend": 7}[route.Name]
	if median == 0 {
		median = 3.5
	}
	waited := median * math.Exp(g.random.NormFloat64()*0.35) * (1 + 0.35*g.meshed)
	if phase == "inject" || phase == "enforce" {
		waited *= 1 + g.random.ExpFloat64()*0.6
	}
	r.Done = sent + int64(waited*1e6)
	if route.Name == "order" {
		g.order(&r)
	}
	g.fate(&r, route)
	if g.Ways {
		g.tellWay(&r, route)
	}
	g.keep(g.folder.AddRequest(r))
}

// tellWay has the service that answered and two behind it tell their part.
func (g *generator) tellWay(r *results.Request, route scenarios.Route) {
	own := (r.Done - r.Sent) / 1000
	code := ""
	if r.Outcome == results.Failed {
		code = "!14"
	}
	const pod = "~6d5f7c9b4-x7k2p@meshsim-worker2/v1"
	r.Hops = fmt.Sprintf("%s:%d(inventory-management:%d:%d%s=%s:%d(postgres:%d:%d),customer-profile:%d:%d=%s:%d)",
		pod, own, own/10, own/2, code, pod, own/3, own/20, own/5, own*6/10, own/4, pod, own/5)
}

func (g *generator) order(r *results.Request) {
	r.OrderID = fmt.Sprintf("o-%06d", g.seq)
	switch x := g.random.Float64(); {
	case x < 0.02:
		r.Outcome, r.Status = results.Rejected, 409
	case x < 0.03:
		r.Outcome, r.Status = results.Rejected, 402
	default:
		r.Status = 201
	}
}

// fate makes the request fail where the run's story says so.
func (g *generator) fate(r *results.Request, route scenarios.Route) {
	defer func() { g.orders[r.Told()]++ }()
	if until := g.dead[route.Service]; r.Scheduled < until && g.random.Float64() < 0.3 {
		r.Outcome, r.Status, r.Class, r.Pod, r.Hop = results.Failed, 502, "http-502", g.failing, route.Service
		r.Error = "the load balancer's target closed the connection"
		if route.Proto == "grpc" {
			r.Status, r.Class, r.Error = 14, "grpc-UNAVAILABLE", "connection refused"
		}
		return
	}
	if g.enforced && (route.Name == "order" || route.Name == "configure") {
		r.Outcome, r.Status, r.Class = results.Failed, 403, "http-403"
		r.Hop = route.Service + ">inventory-management"
		r.Hops = fmt.Sprintf("%s@meshsim-worker/v1:4200(customer-profile:120:900=customer-profile-6d5f7c9b4-x7k2q@meshsim-worker3/v1:610,"+
			"inventory-management:1100:2400!7)", r.Pod)
		r.Error = "reserve stock: permission_denied"
	}
}

// route draws a route by the mix's weights.
func (g *generator) route() scenarios.Route {
	mix, total := g.scenario.Spec.Traffic.Mix, 0
	for _, r := range scenarios.Routes() {
		total += mix[r.Name]
	}
	x := g.random.IntN(total)
	for _, r := range scenarios.Routes() {
		if x -= mix[r.Name]; x < 0 {
			return r
		}
	}
	return scenarios.Routes()[0]
}
