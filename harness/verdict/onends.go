package verdict

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// atEnds judges what was looked at when phases ended: those that the budget
// names, else the last.
func (e *evaluation) atEnds(b budget.Budget, judge func(budget.Budget, string) finding) []finding {
	names := b.PhaseNames()
	if len(names) == 0 {
		names = []string{""}
	}
	var all []finding
	for _, name := range names {
		f := judge(b, name)
		f.phase = name
		all = append(all, f)
	}
	return all
}

// inPhase keeps what was seen in a phase; "" keeps all.
func inPhase(phase string) func(results.Probe) bool {
	return func(p results.Probe) bool { return phase == "" || p.Phase == phase }
}

func (e *evaluation) proxyResources(b budget.Budget, phase string) finding {
	seen, _, why := lastProbe[results.ProxyResources](e, results.ProbeResources, inPhase(phase))
	if why != "" {
		return missing("", "%s%s", why, in(phase))
	}
	var most float64
	var whose string
	proxies, unread := 0, len(seen.Silent)
	for _, p := range seen.Proxies {
		if !chosenService(b, p.Service) {
			continue
		}
		proxies++
		used := float64(p.MemoryBytes)
		if b.Subject == budget.ProxyCPU {
			if p.Cores == nil {
				unread++
				continue
			}
			used = *p.Cores
		}
		if whose == "" || used > most {
			most, whose = used, p.Pod
		}
	}
	limit, words := float64(b.Count), fmt.Sprintf("%.1f MiB", most/(1<<20))
	figure := &results.Figure{Unit: "MiB", Value: most / (1 << 20), Limit: limit / (1 << 20)}
	if b.Subject == budget.ProxyCPU {
		limit, words = b.Cores, fmt.Sprintf("%.0f m", most*1000)
		figure = &results.Figure{Unit: "millicores", Value: most * 1000, Limit: limit * 1000}
	}
	switch {
	case proxies == 0:
		return missing("", "no such proxy was seen%s", in(phase))
	case whose == "":
		return missing("", "no proxy has a figure%s", in(phase))
	}
	f := finding{
		verdict: results.Pass, figure: figure,
		measured: fmt.Sprintf("at most %s, by %s, of %s", words, whose, plural(int64(proxies), "proxy", "proxies")),
	}
	switch {
	case !b.Op.Holds(most, limit):
		f.verdict = results.Fail
	case unread > 0:
		f.verdict = results.Inconclusive
		f.measured += fmt.Sprintf("; %s no figure", plural(int64(unread), "has", "have"))
		f.evidence = firstOf(seen.Silent, 10)
	}
	return f
}

func in(phase string) string {
	if phase == "" {
		return ""
	}
	return " in " + phase
}

// chosenService tells whether the budget's filter lets a service pass.
func chosenService(b budget.Budget, service string) bool {
	return !slices.ContainsFunc(b.Filter, func(c budget.Condition) bool { return c.Field == budget.Service && !c.Matches(service) })
}

// answers judges every sample of a query's answer. Without one there is nothing
// to judge, whatever the query meant.
func (e *evaluation) answers(b budget.Budget, phase string) finding {
	seen, _, why := lastProbe[results.Answer](e, results.ProbePromQL, func(p results.Probe) bool {
		if phase != "" && p.Phase != phase {
			return false
		}
		a, why := decode[results.Answer](p)
		return why == "" && a.Query == b.Query
	})
	if why != "" {
		return missing("", "the query has no answer in the record%s", in(phase))
	}
	if len(seen.Samples) == 0 {
		return missing("", "Prometheus had no sample%s", in(phase))
	}
	f := finding{verdict: results.Pass}
	worst := math.NaN()
	for _, s := range seen.Samples {
		v, err := strconv.ParseFloat(s.Value, 64)
		if err != nil || math.IsNaN(v) {
			f.evidence = append(f.evidence, labels(s)+s.Value)
			f.verdict = f.verdict.Worse(results.Inconclusive)
			continue
		}
		if !b.Op.Holds(v, b.Value) {
			f.verdict = results.Fail
			f.evidence = append(f.evidence, labels(s)+s.Value)
		}
		if math.IsNaN(worst) || further(b, v, worst) {
			worst = v
		}
	}
	f.figure = answered(b, worst)
	f.evidence = firstOf(f.evidence, 10)
	f.measured = fmt.Sprintf("%s of %s", strconv.FormatFloat(worst, 'g', 6, 64), plural(int64(len(seen.Samples)), "sample", "samples"))
	if f.verdict == results.Inconclusive {
		f.measured += "; some are no numbers"
	}
	return f
}

// answered is the figure of a query's worst sample. A value that must be equal
// has no side to be on, and what is no finite number cannot be drawn.
func answered(b budget.Budget, worst float64) *results.Figure {
	if b.Op == budget.Equal || math.IsNaN(worst) || math.IsInf(worst, 0) {
		return nil
	}
	return &results.Figure{Value: worst, Limit: b.Value, AtLeast: b.Op == budget.More || b.Op == budget.AtLeast}
}

// further tells whether v is worse for the budget than w.
func further(b budget.Budget, v, w float64) bool {
	switch b.Op {
	case budget.More, budget.AtLeast:
		return v < w
	case budget.Equal:
		return math.Abs(v-b.Value) > math.Abs(w-b.Value)
	}
	return v > w
}

func labels(s results.Sample) string {
	parts := make([]string, 0, len(s.Labels))
	for name, value := range s.Labels {
		parts = append(parts, name+"="+value)
	}
	slices.SortFunc(parts, cmp.Compare)
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + ": "
}
