package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/scenarios/budget"
)

// checkBudget refuses a budget on data that the scenario cannot produce.
func (r *reader) checkBudget(s *Scenario, b budget.Budget, at *yaml.Node, seen course) {
	if i := slices.IndexFunc(s.Spec.Budgets, func(o budget.Budget) bool { return o.Text == b.Text }); r.budgets[i] != at {
		r.fail(at, "budget %q is given twice", b.Text)
	}
	r.checkBudgetPhases(s, b, at)
	r.checkBudgetMarks(s, b, at)
	r.checkBudgetFilter(s, b, at)
	switch b.Subject {
	case budget.AddedLatency:
		need := addedLatency
		if b.Per == "request" {
			need = addedInShop
		}
		r.wantStep(b, at, seen, need)
	case budget.InjectedPods, budget.CertificatesExpired:
		r.wantStep(b, at, seen, "mesh")
		r.wantMeshInTheEnd(b, at, seen)
	case budget.CertificatesLast, budget.CertificatesChained, budget.CertificatesNamed, budget.CertificatesRenewed, budget.CertificatesKeyed:
		r.wantStep(b, at, seen, "mesh")
		r.wantMeshInTheEnd(b, at, seen)
		if len(seen.done["mesh"]) > 0 {
			r.wantEvidence(b, at, s.Spec.Evidence.Identities, "identities")
		}
	case budget.MTLSCalls, budget.ProxyMemory, budget.ProxyCPU:
		r.wantStep(b, at, seen, "mesh")
		r.checkMeshedPhases(s, b, at, seen)
	case budget.Admitted, budget.Refused, budget.DenialsCounted, budget.DenialsAlerted:
		r.wantStep(b, at, seen, authorisationTried)
	case budget.EncryptedFlows, budget.PlaintextFlows, budget.Canaries:
		r.wantEvidence(b, at, s.Spec.Evidence.Wire, "wire")
	case budget.PlaintextAccepted:
		r.wantStep(b, at, seen, plaintextAfterEnforce)
	case budget.IssuerCertificate:
		r.wantStep(b, at, seen, "issuer")
		r.wantMeshInTheEnd(b, at, seen)
	case budget.AutoscalersMeasured, budget.AutoscaledReplicas, budget.AutoscalerWarnings:
		r.wantStep(b, at, seen, autoscaled)
		r.checkScaled(s, b, at, seen)
	case budget.ReplicaLag, budget.WritesReplicated:
		if !s.Spec.Shop.DatabaseReplica {
			r.fail(at, "budget %q: there may be no replica to measure: add databaseReplica: true to the scenario's shop", b.Text)
		}
	case budget.ReplicaBack:
		r.wantStep(b, at, seen, replicaRestarted)
	case budget.VaultUnsealed:
		r.wantStep(b, at, seen, vaultRestarted)
	case budget.VaultSealed, budget.VaultDenied:
		r.wantStep(b, at, seen, "vault")
	case budget.VaultRotated:
		r.wantStep(b, at, seen, secretsRotated)
	case budget.VaultSecretsAge:
		r.wantStep(b, at, seen, secretsMoved)
	case budget.VaultCertsAge:
		r.wantStep(b, at, seen, "mesh")
		r.wantMeshInTheEnd(b, at, seen)
	case budget.OrdersLost, budget.ItemsOversold, budget.PaymentsUnmatched:
		if !s.Spec.Traffic.Sends("order") {
			r.fail(at, "budget %q: the %s has no order traffic", b.Text, s.Spec.Traffic.source())
		}
	}
	if b.OnRequests() && len(s.Judged()) == 0 && len(b.Phases) == 0 && b.Window == nil {
		r.fail(at, "budget %q: no phase is judged", b.Text)
	}
}

func (r *reader) wantStep(b budget.Budget, at *yaml.Node, seen course, need string) {
	if len(seen.done[need]) == 0 {
		r.fail(at, "budget %q: nothing measures it, the scenario has no step %s", b.Text, before(need))
	}
}

// wantEvidence refuses a budget on what the scenario has nobody look at.
func (r *reader) wantEvidence(b budget.Budget, at *yaml.Node, kept bool, key string) {
	if !kept {
		r.fail(at, "budget %q: nothing measures it: add %s: true to the scenario's evidence", b.Text, key)
	}
}

// wantMeshInTheEnd refuses a budget on what is looked at when all is done.
func (r *reader) wantMeshInTheEnd(b budget.Budget, at *yaml.Node, seen course) {
	if len(seen.done["mesh"]) > 0 && !seen.there["mesh"] {
		r.fail(at, "budget %q: it is measured in the end, and uninstall-mesh has taken the mesh away by then", b.Text)
	}
}

func (r *reader) checkBudgetPhases(s *Scenario, b budget.Budget, at *yaml.Node) {
	for _, name := range b.Phases {
		i := slices.IndexFunc(s.Spec.Phases, func(p Phase) bool { return p.Name == name.Name })
		switch {
		case i < 0:
			r.failIn(at, name.Column, "budget %q: there is no phase %q%s", b.Text, name.Name, orOneOf(name.Name, phaseNames(s)))
		case b.OnRequests() && !s.Spec.Phases[i].Judged:
			r.failIn(at, name.Column, "budget %q: phase %q is not judged", b.Text, name.Name)
		}
	}
}

// orOneOf ends a complaint about a name that is not known.
func orOneOf(name string, known []string) string {
	text := "; there are: " + strings.Join(known, ", ")
	if near := budget.Nearest(name, known); near != "" {
		text += fmt.Sprintf("; did you mean %q?", near)
	}
	return text
}

// checkBudgetMarks refuses a window or a recovery whose phase or step the
// scenario does not have, or has more than once.
func (r *reader) checkBudgetMarks(s *Scenario, b budget.Budget, at *yaml.Node) {
	whole := true
	for _, m := range b.Marks() {
		switch m.Kind {
		case budget.PhaseMark:
			if !slices.Contains(phaseNames(s), m.Name) {
				r.failIn(at, m.Column, "budget %q: there is no phase %q%s", b.Text, m.Name, orOneOf(m.Name, phaseNames(s)))
				whole = false
			}
		case budget.StepMark:
			if why := s.findStep(m).why; why != "" {
				r.failIn(at, m.Column, "budget %q: %s", b.Text, why)
				whole = false
			}
		}
	}
	if b.Window == nil || !whole {
		return
	}
	if from, to := s.order(b.Window.From), s.order(b.Window.To); from > to || (from == to && b.Window.From.Shift > b.Window.To.Shift) {
		r.failIn(at, b.Window.To.Mark.Column, "budget %q: its window ends before it begins", b.Text)
	}
}

// place is where a step stands, or why it stands nowhere.
type place struct {
	phase, step int
	why         string
}

// findStep finds the one step that a mark names.
func (s *Scenario) findStep(m budget.Mark) place {
	var found []place
	var known []string
	for i, p := range s.Spec.Phases {
		for j, step := range p.Steps {
			if !slices.Contains(known, step.Name) {
				known = append(known, step.Name)
			}
			if m.Names(step.Name, step.String()) {
				found = append(found, place{phase: i, step: j})
			}
		}
	}
	switch {
	case len(known) == 0:
		return place{why: "the scenario has no steps"}
	case len(found) == 0 && slices.Contains(known, m.Name):
		return place{why: fmt.Sprintf("no step %s has %q among its options", m.Name, m.Word)}
	case len(found) == 0:
		return place{why: fmt.Sprintf("there is no step %q%s", m.Name, orOneOf(m.Name, known))}
	case m.Nth > len(found):
		return place{why: fmt.Sprintf("there is no %s: there are %d", m, len(found))}
	case m.Nth > 0:
		return found[m.Nth-1]
	case len(found) > 1:
		return place{why: fmt.Sprintf("there are %d steps %s: say which, as %s:option or %s#2", len(found), m.Name, m.Name, m.Name)}
	}
	return found[0]
}

// order ranks an instant among the scenario's phases and steps.
func (s *Scenario) order(e budget.Edge) int {
	const perPhase = 1 << 16
	rank := 0
	if e.Mark.Kind == budget.StepMark {
		at := s.findStep(e.Mark)
		rank = at.phase*perPhase + 2*at.step + 1
		if e.End {
			rank++
		}
		return rank
	}
	rank = slices.Index(phaseNames(s), e.Mark.Name) * perPhase
	if e.End {
		rank += perPhase - 1
	}
	return rank
}

// checkBudgetFilter refuses names that no request or call of the scenario can
// have.
func (r *reader) checkBudgetFilter(s *Scenario, b budget.Budget, at *yaml.Node) {
	var routes []string
	for _, route := range Routes() {
		routes = append(routes, route.Name)
	}
	services := append(shopchart.Services(), "postgres")
	for _, c := range b.Filter {
		known := map[budget.Field][]string{
			budget.Route: routes, budget.Service: services, budget.Caller: services, budget.Protocol: {"http", "grpc"},
		}[c.Field]
		for _, v := range c.Values {
			switch {
			case known != nil && !slices.Contains(known, v.Name):
				r.failIn(at, v.Column, "budget %q: there is no %s %q%s", b.Text, c.Field, v.Name, orOneOf(v.Name, known))
			case c.Field == budget.Route && !s.Spec.Traffic.Sends(v.Name):
				r.failIn(at, v.Column, "budget %q: the %s has no %s traffic", b.Text, s.Spec.Traffic.source(), v.Name)
			case c.Field == budget.Status && strings.Trim(v.Name, "0123456789") != "":
				r.failIn(at, v.Column, "budget %q: a status should be HTTP's or gRPC's number, not %q", b.Text, v.Name)
			}
		}
	}
}

// checkMeshedPhases refuses to look at proxies where there is no mesh.
func (r *reader) checkMeshedPhases(s *Scenario, b budget.Budget, at *yaml.Node, seen course) {
	for _, name := range b.Phases {
		i := slices.IndexFunc(s.Spec.Phases, func(p Phase) bool { return p.Name == name.Name })
		switch installed := seen.done["mesh"]; {
		case i < 0 || len(installed) == 0 || seen.meshed[i]:
		case i < installed[0]:
			r.failIn(at, name.Column, "budget %q: phase %q comes before install mesh", b.Text, name.Name)
		default:
			r.failIn(at, name.Column, "budget %q: phase %q comes after uninstall-mesh", b.Text, name.Name)
		}
	}
}

// checkScaled refuses to look for autoscalers where there are none: in a phase
// before they come, or of a service that gets none.
func (r *reader) checkScaled(s *Scenario, b budget.Budget, at *yaml.Node, seen course) {
	first := seen.done[autoscaled]
	if len(first) == 0 {
		return
	}
	for _, name := range b.Phases {
		if i := slices.Index(phaseNames(s), name.Name); i >= 0 && i < first[0] {
			r.failIn(at, name.Column, "budget %q: phase %q comes before autoscale", b.Text, name.Name)
		}
	}
	var scaled []string
	for _, p := range s.Spec.Phases {
		for _, step := range p.Steps {
			if o, ok := step.Options.(*Autoscale); ok {
				scaled = append(scaled, o.Service)
			}
		}
	}
	for _, c := range b.Filter {
		for _, v := range c.Values {
			if !slices.Contains(scaled, v.Name) && slices.Contains(shopchart.Services(), v.Name) {
				r.failIn(at, v.Column, "budget %q: no step autoscale is for %s", b.Text, v.Name)
			}
		}
	}
}
