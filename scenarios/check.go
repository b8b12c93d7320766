package scenarios

import (
	"fmt"
	"slices"
	"time"

	"meshsim.dev/meshsim/scenarios/budget"
)

// check looks at what no single key shows: whether the parts fit together.
func (r *reader) check(s *Scenario) {
	r.checkTraffic(s.Spec.Traffic)
	if s.Spec.Topology == "" {
		r.failAt(1, 1, "topology should be a topology's name or file")
	}
	if len(s.Spec.Phases) == 0 && len(r.problems) == 0 {
		r.failAt(1, 1, "a scenario needs at least one phase")
	}
	if len(s.Spec.Budgets) == 0 && len(r.problems) == 0 {
		r.failAt(1, 1, "a scenario needs at least one budget: without any, no verdict can pass")
	}
	if shop := s.Spec.Shop; shop.Drain && shop.ProxyWaitSeconds >= shop.TerminationGracePeriodSeconds {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the proxy waits %d s, no less than the grace period of %d s: pods will be killed",
			shop.ProxyWaitSeconds, shop.TerminationGracePeriodSeconds))
	}
	r.checkPhases(s)
	seen := r.checkSteps(s)
	r.checkAgents(s, seen)
	for i, b := range s.Spec.Budgets {
		r.checkBudget(s, b, r.budgets[i], seen)
	}
}

func (r *reader) checkTraffic(t Traffic) {
	if r.traffic != nil && t.Day.LaunchRequests < t.Day.Requests {
		r.fail(r.traffic, "launchRequests (%d) is the whole launch day and should be no less than requests (%d)", t.Day.LaunchRequests, t.Day.Requests)
	}
	total := 0
	for _, weight := range t.Mix {
		total += weight
	}
	allKnown := r.mix != nil && len(t.Mix) == len(r.mix.Content)/2
	if allKnown && total == 0 {
		r.fail(r.mix, "the mix should give weight to at least one route")
	}
}

func (r *reader) checkPhases(s *Scenario) {
	seen := map[string]bool{}
	rates := s.Spec.Traffic.Rates()
	var from time.Duration
	for i, p := range s.Spec.Phases {
		at := r.phases[i]
		lasts := until(p, rates, from)
		if from < longestFor && lasts >= longestFor {
			r.fail(at, "phase %q waits for %d requests, which this traffic does not bring in any time", p.Name, p.Until.Requests)
		}
		from = min(from+lasts, longestFor)
		if p.Name != "" && seen[p.Name] {
			r.fail(at, "two phases are named %q", p.Name)
		}
		seen[p.Name] = true
		if p.Until == (Until{}) && len(p.Steps) == 0 {
			r.fail(at, "phase %q has no steps and nothing to wait for, so it would end at once", p.Name)
		}
		if needed := budget.Needed(s.Spec.Budgets, p.Name); p.Judged && p.Until.Requests < needed {
			s.Warnings = append(s.Warnings, fmt.Sprintf("phase %s may end after %d requests but needs %d to be conclusive",
				p.Name, p.Until.Requests, needed))
		}
	}
}

// course is what a scenario's steps bring about.
type course struct {
	// done has, for everything that steps give, the phases in which they do, in order.
	done map[string][]int
	// there is what is still there in the end.
	there map[string]bool
	// before has the phases that the mesh stands at the beginning of.
	before map[int]bool
	// meshed has the phases in which the mesh stands at some time.
	meshed map[int]bool
}

// checkSteps looks at the order of steps.
func (r *reader) checkSteps(s *Scenario) course {
	c := course{map[string][]int{}, map[string]bool{}, map[int]bool{}, map[int]bool{}}
	for i, p := range s.Spec.Phases {
		c.before[i], c.meshed[i] = c.there["mesh"], c.there["mesh"]
		for j, step := range p.Steps {
			kind, _ := kindOfStep(step.Name)
			for _, need := range kind.needs(step.Options) {
				if !c.there[need] {
					r.fail(r.steps[i][j], "step %s needs %s before it%s", step, before(need), c.lost(need))
				}
			}
			given := kind.gives(step.Options)
			if slices.Contains(given, plaintextTried) && c.there[enforced] {
				given = append(slices.Clone(given), plaintextAfterEnforce)
			}
			for _, give := range given {
				c.done[give], c.there[give] = append(c.done[give], i), true
			}
			if kind.takes != nil {
				for _, taken := range kind.takes(step.Options) {
					delete(c.there, taken)
				}
			}
			c.meshed[i] = c.meshed[i] || c.there["mesh"]
		}
	}
	return c
}

// lost says that something was there once.
func (c course) lost(what string) string {
	if len(c.done[what]) == 0 {
		return ""
	}
	return ", as uninstall-mesh took it away"
}

const plaintextAfterEnforce = plaintextTried + " after enforce"

func before(need string) string {
	if slices.Contains(components, need) {
		return "install " + need
	}
	return need
}

func phaseNames(s *Scenario) []string {
	names := make([]string, len(s.Spec.Phases))
	for i, p := range s.Spec.Phases {
		names[i] = p.Name
	}
	return names
}
