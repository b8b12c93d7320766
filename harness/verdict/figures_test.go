package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// figureOf judges a story of one budget and returns its figure.
func figureOf(t *testing.T, s *story) *results.Figure {
	t.Helper()
	v := s.judge(t)
	require.Len(t, v.Budgets, 1)
	return v.Budgets[0].Figure
}

func TestWhatIsMeasuredHasItsNumber(t *testing.T) {
	const day = 24 * time.Hour
	yes, no, late := true, false, int64(90_000)
	never := int64(-1)
	attempt := func(alerted *int64) results.Authorisation {
		return results.Authorisation{Attempts: []results.Attempt{
			{Caller: "a", Callee: "b", Allowed: &no, Got: results.GotOut, Counted: &yes, AlertedAfterMs: alerted},
			{Caller: "a", Callee: "c", Allowed: &no, Got: results.GotIn},
		}}
	}
	wire := results.Wire{To: int64(time.Hour), Nodes: []string{"n1"}, Planted: 100, Found: 3, Flows: []results.Flow{
		{Source: "a", Destination: "b", Port: 4143, Kind: results.FlowTLS, Count: 40},
		{Source: "a", Destination: "c", Port: 9090, Kind: "http2", Count: 10},
	}}
	proxies := results.ProxyResources{Phase: "soak", Proxies: []results.ProxyUsage{{Pod: "a", MemoryBytes: 30 << 20, Cores: ptr(0.2)}}}
	seal := results.VaultSeal{To: int64(time.Minute), States: []results.SealChange{{At: 0, State: "sealed"}, {At: int64(5 * time.Second), State: results.SealUnsealed}}}
	secrets := func(all ...results.SecretAge) results.VaultRotation { return results.VaultRotation{Secrets: all} }
	answer := func(value string) results.Answer {
		return results.Answer{Query: "x", Asked: "x", Phase: "soak", Samples: []results.Sample{{Value: "4"}, {Value: value}}}
	}
	unsealed := results.VaultUnseal{Restarted: true, UnsealedAfterMs: ptr(int64(2500)), OperatorKeysUsed: &no, Seal: "awskms"}
	for name, c := range map[string]struct {
		budget, probe string
		data          any
		want          *results.Figure
	}{
		"certificates that ended": {"proxy certificates expired = 0", results.ProbeLeaves, results.Leaves{Proxies: 4, Expired: []string{"a"}},
			&results.Figure{Unit: "certificates", Value: 1}},
		"certificates that chain": {"proxy certificates chained >= 50%", results.ProbeIdentity,
			results.Identity{Proxies: 4, Presented: []results.Presented{{Pod: "a", Chains: &yes}, {Pod: "b", Chains: &no}}},
			&results.Figure{Unit: "ratio", Value: 0.25, Limit: 0.5, AtLeast: true}},
		"who got in":         {"unauthorised calls admitted = 0", results.ProbeAuthorisation, attempt(&late), &results.Figure{Unit: "attempts", Value: 1}},
		"denials counted":    {"denials counted = 100%", results.ProbeAuthorisation, attempt(&late), &results.Figure{Unit: "ratio", Value: 1, Limit: 1, AtLeast: true}},
		"an attempt without": {"denials alerted within 5m", results.ProbeAuthorisation, attempt(&late), nil},
		"the slowest alert": {"denials alerted within 5m", results.ProbeAuthorisation, results.Authorisation{Attempts: attempt(&late).Attempts[:1]},
			&results.Figure{Unit: "s", Value: 90, Limit: 300}},
		"an alert that never came": {"denials alerted within 5m", results.ProbeAuthorisation, results.Authorisation{Attempts: attempt(&never).Attempts[:1]}, nil},
		"flows in plaintext":       {"plaintext flows = 0", results.ProbeWire, wire, &results.Figure{Unit: "flows", Value: 10}},
		"flows encrypted":          {"encrypted flows >= 90%", results.ProbeWire, wire, &results.Figure{Unit: "ratio", Value: 0.8, Limit: 0.9, AtLeast: true}},
		"canaries":                 {"canaries in plaintext = 0", results.ProbeWire, wire, &results.Figure{Unit: "strings", Value: 3}},
		"no flow":                  {"encrypted flows >= 90%", results.ProbeWire, results.Wire{To: 1}, nil},
		"memory":                   {"proxy memory < 50MiB", results.ProbeResources, proxies, &results.Figure{Unit: "MiB", Value: 30, Limit: 50}},
		"CPU":                      {"proxy cpu <= 100m", results.ProbeResources, proxies, &results.Figure{Unit: "millicores", Value: 200, Limit: 100}},
		"Vault sealed":             {"vault sealed < 6s", results.ProbeVaultSeal, seal, &results.Figure{Unit: "s", Value: 5, Limit: 6}},
		"Vault unsealed":           {"vault unsealed by itself within 60s", results.ProbeVaultUnseal, unsealed, &results.Figure{Unit: "s", Value: 2.5, Limit: 60}},
		"secrets": {"vault secrets rotated every 30d", results.ProbeVaultRotation, secrets(results.SecretAge{Path: "a", Age: day, Every: 15 * day}),
			&results.Figure{Unit: "days", Value: 15, Limit: 30}},
		"a secret without an end": {"vault secrets rotated every 30d", results.ProbeVaultRotation, secrets(results.SecretAge{Path: "a", Age: day}), nil},
		"a query's worst sample":  {"promql 'x' < 5", results.ProbePromQL, answer("7"), &results.Figure{Value: 7, Limit: 5}},
		"the least, if more is asked for": {"promql 'x' >= 2", results.ProbePromQL, answer("1.5"),
			&results.Figure{Value: 1.5, Limit: 2, AtLeast: true}},
		"a query that has no side":     {"promql 'x' = 4", results.ProbePromQL, answer("7"), nil},
		"a query whose end is nowhere": {"promql 'x' < 5", results.ProbePromQL, answer("+Inf"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, figureOf(t, newQuietStory(c.budget).probe(c.probe, c.data)))
		})
	}
}

func TestWhatIsCountedHasItsNumber(t *testing.T) {
	watched := func(budget string) *story {
		return newQuietStory(budget).event(0, results.Watching, "prod-app").pod(5*time.Second, "a-1", "product-catalog", results.StateRestarted)
	}
	require.Equal(t, &results.Figure{Unit: "restarts", Value: 1, Limit: 2}, figureOf(t, watched("restarts <= 2")))
	require.Equal(t, &results.Figure{Unit: "kills for want of memory"}, figureOf(t, watched("oom kills = 0")))
	require.Equal(t, &results.Figure{Unit: "requests", Value: 6000, Limit: 6001, AtLeast: true}, figureOf(t, newStory("requests >= 6001").served("soak", 6000)))

	few := func(budget string, change func(*results.Request)) *results.Figure {
		return figureOf(t, newStory(budget).served("soak", 6000).first(3, change).phaseOver(2*time.Minute))
	}
	rejected := func(r *results.Request) { r.Outcome, r.Status = results.Rejected, 429 }
	late := func(r *results.Request) { r.Sent += int64(time.Second); r.Done += int64(time.Second) }
	ordered := func(r *results.Request) { failWith("eof")(r); r.Route = "order" }
	require.Equal(t, &results.Figure{Unit: "requests", Value: 3, Bad: 3, Of: 6000}, few("rejected requests = 0", rejected))
	require.Equal(t, &results.Figure{Unit: "requests", Value: 3, Limit: 5, Bad: 3, Of: 6000}, few("late requests <= 5", late))
	require.Equal(t, &results.Figure{Unit: "requests", Value: 3, Bad: 3, Of: 3}, few("failed requests = 0 of route order", ordered))
	require.Equal(t, &results.Figure{Unit: "requests", Value: 3, Bad: 3, Of: 6000}, few("failed requests = 0 during phase soak", ordered))
	require.Equal(t, []int64{3, 6000}, []int64{few("availability >= 99.95%", ordered).Bad, few("availability >= 99.95%", ordered).Of})

	share := figureOf(t, newStory("failed requests <= 2%").served("soak", 6000).each(50, failWith("eof")))
	require.Equal(t, "ratio", share.Unit)
	require.Equal(t, 0.02, share.Value)
	require.InDelta(t, 0.017118, *share.Low, 1e-6)
	require.InDelta(t, 0.023236, *share.High, 1e-6)
	require.False(t, share.AtLeast)
	require.Equal(t, []int64{120, 6000}, []int64{share.Bad, share.Of})

	broken := newStory("recovery within 4s after begin of step enforce").served("soak", 6000).phaseOver(time.Minute).step("enforce", "", 10*time.Second, 15*time.Second)
	for i := 1000; i < 1500; i++ {
		failWith("eof")(&broken.requests[i])
	}
	require.Equal(t, &results.Figure{Unit: "s", Value: 5, Limit: 4}, figureOf(t, broken))
	short := newStory("recovery within 4s after begin of step enforce").served("soak", 1100).step("enforce", "", 10*time.Second, 15*time.Second)
	require.Nil(t, figureOf(t, short), "the record ends before it is known")
}
