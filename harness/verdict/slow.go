package verdict

import (
	"fmt"
	"time"

	"meshsim.dev/meshsim/fakeshop/shopapi/hops"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios/budget"
)

// slowLimits are the end-to-end budgets by phase: what takes longer is asked
// for its reason.
func slowLimits(run results.Run, budgets []budget.Budget) map[string]time.Duration {
	limits := map[string]time.Duration{}
	for _, b := range budgets {
		if b.Subject != budget.EndToEnd || b.Duration <= 0 {
			continue
		}
		for _, p := range run.Phases {
			if b.Covers(p.Name) && (limits[p.Name] == 0 || b.Duration < limits[p.Name]) {
				limits[p.Name] = b.Duration
			}
		}
	}
	return limits
}

const (
	// mostly is the share of a request's time that makes a stay its reason.
	mostly = 0.6
	// warming is how long a pod that has just become ready is slow.
	warming = 10 * time.Second
	// A proxy that cannot tell the protocol waits this long.
	detectionWait, detectionSlack = 10 * time.Second, time.Second
)

// slow decides why a served request took longer than its budget. It blames what
// the request's own way shows; without a way there is nothing to say.
func (a *attribution) slow(r *results.Request, told []hops.Hop) blame {
	if lag := r.Lag(); lag > 0 && float64(lag) >= mostly*float64(r.Latency()) {
		b := blame{kind: causeSender, cause: "the sender sent late"}
		b.remedied(causeSender)
		return b
	}
	where, known := longestStay(r, told)
	if !known || where.share < mostly {
		return a.during(r, blame{kind: causeUnknown, cause: "unknown: slow at no one place of its way", services: wayOf(r, told).services()})
	}
	b := blame{kind: causeUnknown, services: []string{where.service}, near: []string{fmt.Sprintf("%s of %s %s",
		where.took.Round(time.Millisecond), time.Duration(r.Done-r.Sent).Round(time.Millisecond), where.words())}}
	if where.pod != "" {
		b.pods = []string{where.pod}
	}
	switch {
	case where.service == "postgres":
		b.kind, b.cause = causeDatabase, "the database was slow"
		b.remedied(causeDatabase)
	case where.service == connectionHop:
		b.kind, b.cause = causeDatabase, "no connection to the database was free in time"
		b.remedied("connections")
	case where.caller != "" && (where.took-detectionWait).Abs() < detectionSlack:
		b.kind, b.cause = causeDetection, "a proxy waited for a protocol that it could not tell, "+where.words()
		b.remedied(causeDetection)
	case a.around.justStarted(where.pod, r):
		b.kind, b.cause = causeColdStart, "a pod of "+where.service+" had only just begun"
		b.remedied(causeColdStart)
	default:
		b.cause = "unknown: slow " + where.words()
	}
	return a.during(r, b)
}

func (s stay) words() string {
	if s.caller != "" {
		return "between " + s.caller + " and " + s.service
	}
	return "in " + s.service
}
