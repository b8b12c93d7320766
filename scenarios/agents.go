package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// EdgeTarget is the target of agents that send what customers do, to the load balancer.
const EdgeTarget = "edge"

// MostAgents is how many agents a scenario may have in all.
const MostAgents = 200

// Agents are senders that run as pods inside the cluster: a Job with one
// completion index each.
type Agents struct {
	Name   string
	Count  int    // default 1
	Meshed bool   // with a proxy of the mesh
	Zone   string // "" for any
	// Target is EdgeTarget or a method of a service, as DirectRoutes names them,
	// that is called without the load balancer; default edge.
	Target string
	// Share (0–1) is their part of the scenario's own traffic, which is then
	// no longer sent from outside. Either it or Rate is set.
	Share float64
	Rate  float64 // requests a second at scale 1, on top of the scenario's own
	// From is the phase with which they begin; "" for the first.
	From string
}

// Direct tells whether the agents call a service without the load balancer.
func (a Agents) Direct() bool { return a.Target != EdgeTarget }

// String says in words who sends what.
func (a Agents) String() string {
	kind := "unmeshed"
	if a.Meshed {
		kind = "meshed"
	}
	words := fmt.Sprintf("%s: %d %s", a.Name, a.Count, kind)
	if a.Zone != "" {
		words += " in " + a.Zone
	}
	if a.Share > 0 {
		words += fmt.Sprintf(", %.4g%% of the traffic", a.Share*100)
	} else {
		words += fmt.Sprintf(", %.4g requests a second", a.Rate)
	}
	words += " to " + a.Target
	if a.From != "" {
		words += ", from " + a.From + " on"
	}
	return words
}

// DirectRoutes returns what agents may call without the load balancer: calls
// that change nothing, on the port on which services call each other.
func DirectRoutes() []Route {
	return []Route{
		{"product-catalog/GetProduct", "product-catalog", "grpc"},
		{"inventory-management/GetStock", "inventory-management", "grpc"},
		{"customer-profile/GetCustomer", "customer-profile", "grpc"},
		{"recommendation-service/Recommend", "recommendation-service", "grpc"},
		{"recommendation-service/Related", "recommendation-service", "grpc"},
	}
}

// routes are those of the mix and of DirectRoutes, by name: senders look one up
// for each request.
var routes = func() map[string]Route {
	all := map[string]Route{}
	for _, r := range append(Routes(), DirectRoutes()...) {
		all[r.Name] = r
	}
	return all
}()

// FindRoute returns a route of the mix or of DirectRoutes.
func FindRoute(name string) (Route, bool) {
	r, ok := routes[name]
	return r, ok
}

func (r *reader) readAgents(n *yaml.Node, t *Traffic) {
	a := Agents{Count: 1, Target: EdgeTarget}
	share := percent{}
	rates := &shapeReader{decoder: &r.decoder}
	targets := []string{EdgeTarget}
	for _, one := range DirectRoutes() {
		targets = append(targets, one.Name)
	}
	before := len(r.problems)
	r.mapping(n, "a group of agents", map[string]field{
		"name":   r.name("name", &a.Name),
		"count":  r.integer("count", 1, MostAgents, &a.Count),
		"meshed": r.boolean("meshed", &a.Meshed),
		"zone":   r.text("zone", &a.Zone),
		"target": r.oneOf("target", targets, &a.Target),
		"share":  share.read(r),
		"rate":   rates.rate("rate", &a.Rate),
		"from":   r.name("from", &a.From),
	}, "name", "meshed")
	a.Share = share.value
	if len(a.Name) > 40 { // a Job's pods are named after it, and names are short
		r.fail(n, "name %q should have at most 40 characters", a.Name)
	}
	if len(r.problems) == before {
		r.checkLoad(n, a)
	}
	t.Agents, r.agents = append(t.Agents, a), append(r.agents, n)
}

// percent is a share that must not be nothing.
type percent struct{ value float64 }

func (p *percent) read(r *reader) field {
	return func(n *yaml.Node) {
		before := len(r.problems)
		r.share("share", &p.value)(n)
		if len(r.problems) == before && p.value == 0 {
			r.fail(n, "share should be more than 0%%")
		}
	}
}

// checkLoad looks at how much a group sends.
func (r *reader) checkLoad(n *yaml.Node, a Agents) {
	switch {
	case a.Share > 0 && a.Rate > 0:
		r.fail(n, "agents %q have a share of the traffic or a rate of their own, not both", a.Name)
	case a.Share == 0 && a.Rate == 0:
		r.fail(n, "agents %q need a share of the traffic (share: 50%%) or a rate of their own (rate: 200/s)", a.Name)
	case a.Share > 0 && a.Direct():
		r.fail(n, "agents %q call %s, which is no part of the scenario's traffic: give them a rate in the place of a share", a.Name, a.Target)
	}
}

// checkAgents looks at whether the groups fit together and into the scenario.
func (r *reader) checkAgents(s *Scenario, seen course) {
	t := s.Spec.Traffic
	names, share, count := map[string]bool{}, 0.0, 0
	for i, a := range t.Agents {
		at := r.agents[i]
		if a.Name != "" && names[a.Name] {
			r.fail(at, "two groups of agents are named %q", a.Name)
		}
		names[a.Name] = true
		share, count = share+a.Share, count+a.Count
		r.checkAgentsTraffic(s, a, at)
		r.checkAgentsPhase(s, a, at, seen)
	}
	if share > 1+1e-9 {
		r.fail(r.agents[0], "the agents' shares are %.4g%% together, which is more than all of the traffic", share*100)
	}
	if count > MostAgents {
		r.fail(r.agents[0], "there should be at most %d agents, not %d", MostAgents, count)
	}
}

func (r *reader) checkAgentsTraffic(s *Scenario, a Agents, at *yaml.Node) {
	t := s.Spec.Traffic
	switch {
	case a.Share > 0 && t.Journeys != nil:
		r.fail(at, "agents %q cannot take a share of journeys, as one would be cut apart: give them a rate", a.Name)
	case a.Share > 0 && t.Replay != nil:
		r.fail(at, "agents %q cannot take a share of a replay, which is a file on this machine: give them a rate", a.Name)
	case a.Share > 0 && t.Shape != nil && t.ShapeText == "":
		r.fail(at, "agents %q cannot take a share of a shape that reads a recording or uses YAML anchors: give them a rate", a.Name)
	case a.Rate > 0 && !a.Direct() && t.Replay != nil:
		r.fail(at, "agents %q send the mix, and with a replay there is none: give them a service's method as their target", a.Name)
	}
}

func (r *reader) checkAgentsPhase(s *Scenario, a Agents, at *yaml.Node, seen course) {
	from := 0
	if a.From != "" {
		from = slices.IndexFunc(s.Spec.Phases, func(p Phase) bool { return p.Name == a.From })
	}
	if from < 0 {
		r.fail(at, "agents %q: there is no phase %q; there are: %s", a.Name, a.From, strings.Join(phaseNames(s), ", "))
		return
	}
	// they are raised before the phase's steps
	if a.Meshed && !seen.before[from] {
		r.fail(at, "agents %q are meshed, and there is no mesh when they begin: have them begin with a phase after install mesh (from: …)", a.Name)
	}
	if a.Meshed || !a.Direct() {
		return
	}
	for i, p := range s.Spec.Phases {
		for _, step := range p.Steps {
			if e, ok := step.Options.(*Enforce); ok && i >= from && e.Policy != "all-unauthenticated" {
				s.Warnings = append(s.Warnings, fmt.Sprintf("the unmeshed agents %s call %s, which refuses them once phase %s enforces %s", a.Name, a.Target, p.Name, e.Policy))
				return
			}
		}
	}
}

// written is a shape as it was written; "" when it cannot be read again from there.
func (r *shapeReader) written(n *yaml.Node) string {
	raw, err := yaml.Marshal(n)
	if err != nil || r.files || len(r.problems) > 0 {
		return ""
	}
	if _, err := ParseShape("shape", string(raw), r.traffic); err != nil {
		return ""
	}
	return string(raw)
}
