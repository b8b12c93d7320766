package report

import (
	"fmt"
	"strings"
	"time"

	"meshsim.dev/meshsim/results"
)

// agentsText says what a group of agents sent, and how well their clocks are known.
func agentsText(g results.AgentGroup) string {
	kind := "unmeshed"
	if g.Meshed {
		kind = "meshed"
	}
	load := fmt.Sprintf("%.4g requests a second at scale 1 to %s", g.Rate, g.Target)
	if g.Share > 0 {
		load = fmt.Sprintf("%.4g %% of the traffic to %s", g.Share*100, g.Target)
	}
	parts := []string{fmt.Sprintf("%d %s, %s", len(g.Agents), kind, load)}
	if l := g.Latency; l != nil {
		parts = append(parts, fmt.Sprintf("p50 %s ms, p99 %s ms, max %s ms over %s requests by their own histograms",
			millis(ms(l.P50)), millis(ms(l.P99)), millis(ms(l.Max)), count(l.Requests)))
	}
	var uncertain, drift time.Duration
	lost := 0
	for _, a := range g.Agents {
		if a.Begin != nil {
			uncertain = max(uncertain, a.Begin.Uncertainty)
		}
		drift = max(drift, a.Drift.Abs())
		if a.Lost != "" {
			lost++
		}
	}
	parts = append(parts, fmt.Sprintf("clocks known to %s ms, which drifted by up to %s ms", millis(ms(uncertain)), millis(ms(drift))))
	if lost > 0 {
		parts = append(parts, fmt.Sprintf("%d lost", lost))
	}
	return strings.Join(parts, "; ")
}
