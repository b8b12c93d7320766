package verdict

import (
	"fmt"

	"meshsim.dev/meshsim/results"
)

// withMissing takes a pass from a finding when requests of its phase have no
// result: nothing is known of them. "" is all phases. A fail stays one, as it
// was seen.
func (e *evaluation) withMissing(f finding) finding {
	var requests int64
	for _, m := range e.run.Missing {
		if f.phase != "" && m.Phase != f.phase {
			continue
		}
		requests += m.Requests
		f.evidence = append(f.evidence, missed(m))
	}
	if requests == 0 {
		return f
	}
	f.measured += fmt.Sprintf("; %s of lost agents", plural(requests, "more request has no result, being", "more requests have no result, being"))
	if f.verdict == results.Pass {
		f.verdict = results.Inconclusive
	}
	return f
}

// missed says what an agent left open.
func missed(m results.Missing) string {
	return fmt.Sprintf("agent %s: %s without a result from %s on: %s", m.Agent, plural(m.Requests, "request", "requests"), at(m.From), short(m.Why, 160))
}
