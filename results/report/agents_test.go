package report

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

func TestAGroupOfAgentsIsToldInALine(t *testing.T) {
	g := results.AgentGroup{
		Name: "load", Share: 0.6, Target: "edge", Latency: &results.AgentLatency{Requests: 12_345, P50: 4 * time.Millisecond, P99: 31 * time.Millisecond, Max: time.Second},
		Agents: []results.Agent{
			{Begin: &results.ClockOffset{Uncertainty: 300 * time.Microsecond}, Drift: -2 * time.Millisecond},
			{Begin: &results.ClockOffset{Uncertainty: 700 * time.Microsecond}, Lost: "its pod has gone"},
		},
	}
	require.Equal(t, "2 unmeshed, 60 % of the traffic to edge; p50 4.00 ms, p99 31.0 ms, max 1,000 ms over 12,345 requests by their own histograms; "+
		"clocks known to 0.70 ms, which drifted by up to 2.00 ms; 1 lost", agentsText(g))
	g = results.AgentGroup{Meshed: true, Rate: 200, Target: "inventory-management/GetStock", Agents: make([]results.Agent, 1)}
	require.Contains(t, agentsText(g), "1 meshed, 200 requests a second at scale 1 to inventory-management/GetStock; ")
}
