package verdict

import (
	"fmt"
	"math"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// autoscalersMeasured judges how many autoscalers read what their pods use.
func (e *evaluation) autoscalersMeasured(b budget.Budget, phase string) finding {
	seen, _, why := lastProbe[results.Autoscaling](e, results.ProbeAutoscaling, inPhase(phase))
	switch {
	case why != "":
		return missing("", "%s%s", why, in(phase))
	case len(seen.Autoscalers) == 0:
		return missing("", "there was no autoscaler%s", in(phase))
	}
	f := finding{verdict: results.Pass}
	var measured int64
	for _, a := range seen.Autoscalers {
		if a.Measured() {
			measured++
			f.evidence = append(f.evidence, fmt.Sprintf("%s uses %d %% of its requests, and may use %d %%", a.Name, *a.Percent, a.Target))
			continue
		}
		why := a.Why
		if why == "" {
			why = "it shows no metrics"
		}
		f.evidence = append(f.evidence, a.Name+": "+short(why, 160))
	}
	all := int64(len(seen.Autoscalers))
	f.evidence = firstOf(f.evidence, 10)
	f.measured = fmt.Sprintf("%d of %s", measured, plural(all, "autoscaler", "autoscalers"))
	f.figure = reached(measured, all, b.Ratio)
	if !reaches(measured, all, b.Ratio) {
		f.verdict = results.Fail
	}
	return f
}

// autoscaledReplicas judges how many pods each autoscaler of the budget's
// services had when a phase ended.
func (e *evaluation) autoscaledReplicas(b budget.Budget, phase string) finding {
	seen, _, why := lastProbe[results.Autoscaling](e, results.ProbeAutoscaling, inPhase(phase))
	if why != "" {
		return missing("", "%s%s", why, in(phase))
	}
	f := finding{verdict: results.Pass}
	var parts []string
	worst := math.NaN()
	for _, a := range seen.Autoscalers {
		if !chosenService(b, a.Service) {
			continue
		}
		pods := float64(a.Current)
		parts = append(parts, fmt.Sprintf("%s has %d of %d to %d pods", a.Name, a.Current, a.Least, a.Most))
		if !b.Op.Holds(pods, float64(b.Count)) {
			f.verdict = results.Fail
		}
		if math.IsNaN(worst) || b.Op == budget.AtLeast && pods < worst || b.Op != budget.AtLeast && pods > worst {
			worst = pods
		}
	}
	if len(parts) == 0 {
		return missing("", "no such autoscaler was seen%s", in(phase))
	}
	f.measured = listed(parts, maxNamed)
	if b.Op != budget.Equal {
		f.figure = &results.Figure{Unit: "pods", Value: worst, Limit: float64(b.Count), AtLeast: b.Op == budget.AtLeast}
	}
	return f
}

// autoscalerWarnings counts what Kubernetes' own events complain of.
func (e *evaluation) autoscalerWarnings(b budget.Budget, s stretch) finding {
	what := counting{"warning", "warnings", "the cluster's events"}
	return e.countEvents(b, s, what, func(ev results.Event) string {
		if ev.Kind != results.Warning || ev.Fields[results.FieldObject] != results.AutoscalerKind || !chosenService(b, serviceOf(ev.Name)) {
			return ""
		}
		return fmt.Sprintf("%s at %s: %s", ev.Name, at(ev.At), short(ev.Detail, 160))
	})
}

// serviceOf is the service that an autoscaler is for: a canary's is named after
// its version, too.
func serviceOf(autoscaler string) string {
	if i := strings.LastIndex(autoscaler, "-v"); i > 0 && strings.Trim(autoscaler[i+2:], "0123456789") == "" && autoscaler[i+2:] != "" {
		return autoscaler[:i]
	}
	return autoscaler
}

// replicaLag judges the replica that is furthest behind.
func (e *evaluation) replicaLag(b budget.Budget, phase string) finding {
	seen, _, why := lastProbe[results.Replication](e, results.ProbeReplication, inPhase(phase))
	if why != "" {
		return missing("", "%s%s", why, in(phase))
	}
	streaming := 0
	var bytes int64
	var lag time.Duration
	untold := false
	for _, s := range seen.Standbys {
		if s.State != results.Streaming {
			continue
		}
		streaming++
		if s.LagBytes == nil {
			untold = true
			continue
		}
		bytes = max(bytes, *s.LagBytes)
		// Where all is replayed and nothing written PostgreSQL tells no time.
		if s.LagSeconds != nil {
			lag = max(lag, time.Duration(*s.LagSeconds*float64(time.Second)))
		} else if *s.LagBytes > 0 && b.Duration > 0 {
			untold = true
		}
	}
	f := finding{verdict: results.Pass, measured: fmt.Sprintf("%s of log behind, replayed after %s", plural(bytes, "byte", "bytes"), lag.Round(10*time.Microsecond))}
	f.figure = &results.Figure{Unit: "bytes", Value: float64(bytes), Limit: float64(b.Count)}
	holds := b.Op.Holds(float64(bytes), float64(b.Count))
	if b.Duration > 0 {
		f.figure, holds = lasted(lag, b.Duration), b.Op.Holds(float64(lag), float64(b.Duration))
	}
	switch {
	case streaming == 0:
		return finding{verdict: results.Fail, measured: "no replica streams from the primary" + in(phase)}
	case !holds:
		f.verdict = results.Fail
	case untold:
		return missing("", "the primary does not say how far its replica is")
	}
	return f
}

// writesReplicated judges when a row that was written could be read.
func (e *evaluation) writesReplicated(b budget.Budget, phase string) finding {
	seen, _, why := lastProbe[results.Replication](e, results.ProbeReplication, inPhase(phase))
	switch {
	case why != "":
		return missing("", "%s%s", why, in(phase))
	case seen.ReadableAfterMs == nil:
		return missing("", "probe %s left its record incomplete", results.ProbeReplication)
	case *seen.ReadableAfterMs < 0:
		return finding{verdict: results.Fail, measured: "a row that was written could not be read on the replica: " + short(seen.Why, 160)}
	}
	took := time.Duration(*seen.ReadableAfterMs) * time.Millisecond
	f := finding{verdict: results.Pass, measured: "a row could be read after " + seconds(took), figure: lasted(took, b.Duration)}
	if len(seen.Readers) > 0 {
		f.measured += "; the shop reads there, too: " + listed(seen.Readers, maxNamed)
	}
	if took > b.Duration {
		f.verdict = results.Fail
	}
	return f
}

// replicaBack judges the replica's restart. One that nobody read from before
// shows nothing of how its absence is borne.
func (e *evaluation) replicaBack(b budget.Budget) finding {
	seen, _, why := lastProbe[results.ReplicaRestart](e, results.ProbeReplicaRestart, nil)
	switch {
	case why != "":
		return missing("", "%s", why)
	case seen.StreamedAfterMs == nil || seen.ReadAgainAfterMs == nil:
		return missing("", "probe %s left its record incomplete", results.ProbeReplicaRestart)
	case *seen.StreamedAfterMs < 0:
		return finding{verdict: results.Fail, measured: "the replica did not stream again after its restart"}
	}
	took := time.Duration(*seen.StreamedAfterMs) * time.Millisecond
	f := finding{verdict: results.Pass, measured: "streams again after " + seconds(took), figure: lasted(took, b.Duration)}
	again := "; the shop reads from it again after " + seconds(time.Duration(*seen.ReadAgainAfterMs)*time.Millisecond) + ": " + listed(seen.ReadAgain, maxNamed)
	switch {
	case took > b.Duration:
		f.verdict = results.Fail
	case len(seen.ReadBefore) == 0:
		f.verdict = results.Inconclusive
		f.measured += "; the shop did not read from it before"
	case *seen.ReadAgainAfterMs < 0:
		f.verdict = results.Fail
		f.measured += "; the shop does not read from it any more"
	default:
		f.measured += again
	}
	return f
}
