// Package verdict judges a rehearsal from its run folder, and from nothing
// else: the same folder gives the same verdict a year later.
//
// Its rules, in short. A fail is what was seen: one failed request too many is
// one too many. A pass is what was shown: enough requests, tight enough an
// interval, evidence at hand. All else is inconclusive: too few requests, a
// sender that was late, evidence that is missing or damaged, a run that was
// cut off.
package verdict

import (
	"fmt"
	"slices"
	"strings"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// Rules is the version of what is concluded here from a record. It is raised with
// every change that judges a record otherwise than before, or gives it another
// cause, so that verdicts of before are known for what they are.
const Rules = 2

// Evaluate judges the run in f. It writes nothing.
func Evaluate(f *results.Folder) (results.Verdict, error) {
	run, err := f.Run()
	if err != nil {
		return results.Verdict{}, err
	}
	budgets, err := parseBudgets(run)
	if err != nil {
		return results.Verdict{}, err
	}
	events, eventsRead, err := f.Events()
	if err != nil {
		return results.Verdict{}, damaged(err)
	}
	probes, probesRead, err := f.Probes()
	if err != nil {
		return results.Verdict{}, damaged(err)
	}
	e := &evaluation{run: run, budgets: budgets, probes: probes, events: events, marks: newMarks(events)}
	e.tally = newTally(run, budgets, e.marks)
	e.causes = newAttribution(run, budgets, events, probes)
	requestsRead, err := results.EachPrepared(f, newEdges().readWay, func(r *results.Request, told []hops.Hop) error {
		e.tally.add(r, told)
		e.causes.add(r, told)
		return nil
	})
	if err != nil {
		return results.Verdict{}, damaged(err)
	}
	e.gaps, e.torn = gaps(run, requestsRead, eventsRead, probesRead)
	return e.verdict(), nil
}

func damaged(err error) error {
	return fault.NewInvalid(fmt.Errorf("the record is damaged, so nothing can be judged from it: %w", err), "")
}

func parseBudgets(run results.Run) ([]budget.Budget, error) {
	all := make([]budget.Budget, len(run.Budgets))
	for i, line := range run.Budgets {
		b, err := budget.Parse(line)
		if err != nil {
			return nil, fault.NewInvalid(fmt.Errorf("%s: budget %q: %w", results.RunFile, line, err), "")
		}
		all[i] = b
	}
	return all, nil
}

// gaps says what is missing from the record as a whole. With any gap, no budget
// passes. torn tells that lines are lost which were there once.
func gaps(run results.Run, requests, events, probes results.Read) (missing []string, torn bool) {
	switch {
	case run.Error != "":
		missing = append(missing, "the run ended early: "+run.Error)
	case run.Interrupted:
		missing = append(missing, "the run was interrupted")
	case !run.Ended():
		missing = append(missing, "the run was cut off: its record has no end")
	}
	if run.Cut {
		torn = true
		missing = append(missing, results.RunFile+" stops before its end")
	}
	for _, file := range []struct {
		name     string
		read     results.Read
		recorded int64
	}{
		{results.RequestsFile, requests, run.Recorded.Requests},
		{results.EventsFile, events, run.Recorded.Events},
		{results.ProbesFile, probes, run.Recorded.Probes},
	} {
		lost := file.recorded - file.read.Lines
		torn = torn || lost > 0 || file.read.Cut
		if lost > 0 {
			missing = append(missing, fmt.Sprintf("%s has lost %s of its lines", file.name, count(lost)))
		} else if file.read.Cut {
			missing = append(missing, file.name+" stops in the middle of a line")
		}
	}
	return missing, torn
}

// evaluation is one run being judged.
type evaluation struct {
	run     results.Run
	budgets []budget.Budget
	probes  []results.Probe
	events  []results.Event
	marks   marks
	tally   *tally
	causes  *attribution
	gaps    []string
	torn    bool // lines are lost that were there once
}

func (e *evaluation) verdict() results.Verdict {
	v := results.Verdict{
		Judge: Rules, Scenario: e.run.Scenario, Run: e.run.ID, Mesh: e.run.Mesh,
		StandIns: append([]string{}, e.run.StandIns...), Requests: e.tally.total,
		Phases: e.tally.phaseFigures(), Budgets: []results.BudgetVerdict{}, Causes: e.causes.ranked(), SlowCauses: e.causes.slowRanked(),
		Reasons: append([]string{}, e.gaps...), Routes: e.tally.routeFigures(), Timeline: e.tally.timeline.figures(),
	}
	for i, b := range e.budgets {
		v.Budgets = append(v.Budgets, e.judge(b, i)...)
	}
	if len(v.Budgets) == 0 {
		v.Reasons = append(v.Reasons, "no budget was set")
	}
	var few []string
	for _, p := range v.Phases {
		if p.Judged && p.Requests < int64(p.Needed) {
			few = append(few, fmt.Sprintf("%s %s of %s", p.Name, count(p.Requests), count(int64(p.Needed))))
		}
	}
	if len(few) > 0 {
		v.Reasons = append(v.Reasons, "too few requests were seen: in "+strings.Join(few, ", "))
	}
	for _, m := range e.run.Missing {
		if p := e.tally.phase(m.Phase); p != nil && p.figures.Judged {
			v.Reasons = append(v.Reasons, missed(m))
		}
	}
	v.Verdict = results.Pass
	if len(v.Reasons) > 0 {
		v.Verdict = results.Inconclusive
	}
	for _, b := range v.Budgets {
		v.Verdict = v.Verdict.Worse(b.Verdict)
	}
	return v
}

// finding is one budget's judgement in one phase, before it gets its text.
type finding struct {
	phase    string
	verdict  results.Judgement
	measured string
	evidence []string
	figure   *results.Figure
	// firm tells of a fail that nothing which is not in the record could mend: one
	// failure too many is one too many.
	firm bool
}

func missing(phase, format string, args ...any) finding {
	return finding{phase: phase, verdict: results.Inconclusive, measured: fmt.Sprintf(format, args...)}
}

// judge judges one budget, in each of its phases where it has some. With gaps in
// the record nothing passes; where lines are lost, only a firm fail stands.
func (e *evaluation) judge(b budget.Budget, i int) []results.BudgetVerdict {
	var rows []results.BudgetVerdict
	for _, f := range e.findings(b, i) {
		if f.verdict == results.Pass && len(e.gaps) > 0 || f.verdict == results.Fail && e.torn && !f.firm {
			f.verdict = results.Inconclusive
			f.measured = "so far " + f.measured + "; the record is not whole"
		}
		rows = append(rows, results.BudgetVerdict{
			Text: b.Text, Phase: f.phase, Verdict: f.verdict, Measured: f.measured, Evidence: f.evidence, Figure: f.figure,
		})
	}
	return rows
}

func (e *evaluation) findings(b budget.Budget, i int) []finding {
	if b.OnRequests() {
		return e.onRequests(b, i)
	}
	switch b.Subject {
	case budget.Recovery:
		return []finding{e.withMissing(e.recovery(b, i))}
	case budget.AddedLatency:
		return e.addedLatency(b)
	case budget.MTLSCalls:
		return e.mtlsCalls(b)
	case budget.ProxyMemory, budget.ProxyCPU:
		return e.atEnds(b, e.proxyResources)
	case budget.PromQL:
		return e.atEnds(b, e.answers)
	case budget.AutoscalersMeasured:
		return e.atEnds(b, e.autoscalersMeasured)
	case budget.AutoscaledReplicas:
		return e.atEnds(b, e.autoscaledReplicas)
	case budget.ReplicaLag:
		return e.atEnds(b, e.replicaLag)
	case budget.WritesReplicated:
		return e.atEnds(b, e.writesReplicated)
	case budget.AutoscalerWarnings:
		return e.inWindows(b, e.autoscalerWarnings)
	case budget.Restarts, budget.OOMKills:
		return e.inWindows(b, e.restarts)
	case budget.EncryptedFlows, budget.PlaintextFlows, budget.Canaries:
		return e.inWindows(b, e.wire)
	case budget.VaultSealed:
		return e.inWindows(b, e.vaultSealed)
	case budget.VaultDenied:
		return e.inWindows(b, e.vaultDenied)
	case budget.HooksFailed, budget.HooksFailedOpen, budget.HooksRejected:
		return e.inWindows(b, e.webhookCalls)
	}
	return []finding{e.onRun(b)}
}

// onRun judges a budget that has one finding.
func (e *evaluation) onRun(b budget.Budget) finding {
	switch b.Subject {
	case budget.InjectedPods:
		return e.injectedPods(b)
	case budget.PlaintextAccepted:
		return e.plaintextAccepted(b)
	case budget.IssuerCertificate:
		return e.issuerCertificate(b)
	case budget.CertificatesExpired:
		return e.certificatesExpired(b)
	case budget.CertificatesLast, budget.CertificatesChained, budget.CertificatesNamed, budget.CertificatesRenewed, budget.CertificatesKeyed:
		return e.certificates(b)
	case budget.Admitted, budget.Refused, budget.DenialsCounted, budget.DenialsAlerted:
		return e.authorisation(b)
	case budget.VaultUnsealed:
		return e.vaultUnsealed(b)
	case budget.VaultRotated:
		return e.vaultRotated(b)
	case budget.ReplicaBack:
		return e.replicaBack(b)
	case budget.VaultSecretsAge, budget.VaultCertsAge:
		return e.vaultAges(b)
	case budget.OrdersLost, budget.ItemsOversold, budget.PaymentsUnmatched:
		// An order of which nothing came back may be lost as well as not.
		return e.withMissing(e.ledger(b))
	}
	return missing("", "nothing here can judge it")
}

// phasesOf returns the phases that a budget on requests is judged in.
func phasesOf(run results.Run, b budget.Budget) []string {
	names := b.PhaseNames()
	if len(names) > 0 {
		return names
	}
	for _, p := range run.Phases {
		if p.Judged {
			names = append(names, p.Name)
		}
	}
	return names
}

// lastProbe decodes the last observation of a name that keep accepts.
func lastProbe[T any](e *evaluation, name string, keep func(results.Probe) bool) (data T, at results.Probe, why string) {
	for _, p := range slices.Backward(e.probes) {
		if p.Probe != name || (keep != nil && !keep(p)) {
			continue
		}
		data, why = decode[T](p)
		return data, p, why
	}
	return data, at, "probe " + name + " has left no observation"
}
