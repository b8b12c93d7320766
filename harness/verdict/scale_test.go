package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

func TestBudgetsOnAutoscalersAndTheReplica(t *testing.T) {
	scalers := func(change func(*results.Autoscaler)) results.Autoscaling {
		first := results.Autoscaler{Name: "order-processing", Service: "order-processing", Least: 3, Most: 5, Current: 3, Percent: ptr(20), Target: 70, Active: true}
		second := results.Autoscaler{Name: "product-catalog", Service: "product-catalog", Least: 3, Most: 5, Current: 4, Percent: ptr(90), Target: 70, Active: true}
		change(&second)
		return results.Autoscaling{Phase: "soak", Autoscalers: []results.Autoscaler{first, second}}
	}
	fine := func(*results.Autoscaler) {}
	blind := func(a *results.Autoscaler) { a.Active, a.Percent, a.Why = false, nil, "FailedGetResourceMetric: none" }
	behind := func(change func(*results.Replication)) results.Replication {
		r := results.Replication{Phase: "soak", ReadableAfterMs: ptr(int64(240)), Readers: []string{"product-catalog"}, Standbys: []results.Standby{
			{Name: "walreceiver", State: "streaming", LagBytes: ptr(int64(2048)), LagSeconds: ptr(0.0015)}, {Name: "pg_basebackup", State: "backup"}}}
		change(&r)
		return r
	}
	asIs := func(*results.Replication) {}
	idle := func(r *results.Replication) { r.Standbys[0].LagBytes, r.Standbys[0].LagSeconds = ptr(int64(0)), nil }
	restart := func(streamed, again int64, before ...string) results.ReplicaRestart {
		return results.ReplicaRestart{ReadBefore: before, StreamedAfterMs: &streamed, ReadAgainAfterMs: &again, ReadAgain: []string{"customer-profile", "product-catalog"}}
	}
	for name, c := range map[string]struct {
		budget   string
		probe    string
		data     any
		verdict  results.Judgement
		measured string
	}{
		"all read metrics":              {"autoscalers measured = 100%", "autoscaling", scalers(fine), results.Pass, "2 of 2 autoscalers"},
		"one does not":                  {"autoscalers measured = 100% in soak", "autoscaling", scalers(blind), results.Fail, "1 of 2 autoscalers"},
		"half may not":                  {"autoscalers measured >= 50%", "autoscaling", scalers(blind), results.Pass, "1 of 2 autoscalers"},
		"active, but without a figure":  {"autoscalers measured = 100%", "autoscaling", scalers(func(a *results.Autoscaler) { a.Percent = nil }), results.Fail, "1 of 2 autoscalers"},
		"no autoscaler":                 {"autoscalers measured = 100%", "autoscaling", results.Autoscaling{Phase: "soak"}, results.Inconclusive, "there was no autoscaler"},
		"another phase's":               {"autoscalers measured = 100% in peak", "autoscaling", scalers(fine), results.Inconclusive, "probe autoscaling has left no observation in peak"},
		"scaled out":                    {"autoscaled replicas >= 4 of service product-catalog", "autoscaling", scalers(fine), results.Pass, "product-catalog has 4 of 3 to 5 pods"},
		"not all scaled out":            {"autoscaled replicas >= 4", "autoscaling", scalers(fine), results.Fail, "order-processing has 3 of 3 to 5 pods, product-catalog has 4 of 3 to 5 pods"},
		"not scaled back":               {"autoscaled replicas = 3 of service product-catalog", "autoscaling", scalers(fine), results.Fail, "product-catalog has 4 of 3 to 5 pods"},
		"scaled back":                   {"autoscaled replicas = 3 of service order-processing", "autoscaling", scalers(fine), results.Pass, "order-processing has 3 of 3 to 5 pods"},
		"not beyond":                    {"autoscaled replicas <= 4", "autoscaling", scalers(fine), results.Pass, "order-processing has 3 of 3 to 5 pods, product-catalog has 4 of 3 to 5 pods"},
		"a service without one":         {"autoscaled replicas <= 4 of service customer-profile", "autoscaling", scalers(fine), results.Inconclusive, "no such autoscaler was seen"},
		"a replica close behind":        {"replica lag < 1MiB", "replication", behind(asIs), results.Pass, "2,048 bytes of log behind, replayed after 1.5ms"},
		"a replica far behind":          {"replica lag <= 2kB in soak", "replication", behind(asIs), results.Fail, "2,048 bytes of log behind, replayed after 1.5ms"},
		"soon behind":                   {"replica lag < 2ms", "replication", behind(asIs), results.Pass, "2,048 bytes of log behind, replayed after 1.5ms"},
		"late behind":                   {"replica lag < 1ms", "replication", behind(asIs), results.Fail, "2,048 bytes of log behind, replayed after 1.5ms"},
		"nothing to replay":             {"replica lag < 1ms", "replication", behind(idle), results.Pass, "0 bytes of log behind, replayed after 0s"},
		"no replica":                    {"replica lag < 1MiB", "replication", behind(func(r *results.Replication) { r.Standbys = r.Standbys[1:] }), results.Fail, "no replica streams from the primary"},
		"a replica of which none knows": {"replica lag < 1MiB", "replication", behind(func(r *results.Replication) { r.Standbys[0].LagBytes = nil }), results.Inconclusive, "the primary does not say how far its replica is"},
		"a time that is not told":       {"replica lag < 1s", "replication", behind(func(r *results.Replication) { r.Standbys[0].LagSeconds = nil }), results.Inconclusive, "the primary does not say how far its replica is"},
		"a row that comes over":         {"writes replicated within 1s", "replication", behind(asIs), results.Pass, "a row could be read after 0.2 s; the shop reads there, too: product-catalog"},
		"a row that takes its time":     {"writes replicated within 200ms", "replication", behind(func(r *results.Replication) { r.Readers = nil }), results.Fail, "a row could be read after 0.2 s"},
		"a row that does not":           {"writes replicated within 1s", "replication", behind(func(r *results.Replication) { r.ReadableAfterMs, r.Why = ptr(int64(-1)), "it is away" }), results.Fail, "a row that was written could not be read on the replica: it is away"},
		"nobody looked for the row":     {"writes replicated within 1s", "replication", behind(func(r *results.Replication) { r.ReadableAfterMs = nil }), results.Inconclusive, "probe replication left its record incomplete"},
		"a replica that comes back":     {"replica back within 30s", "replica-restart", restart(9000, 21_000, "product-catalog"), results.Pass, "streams again after 9.0 s; the shop reads from it again after 21.0 s: customer-profile, product-catalog"},
		"too late":                      {"replica back within 5s", "replica-restart", restart(9000, 21_000, "product-catalog"), results.Fail, "streams again after 9.0 s"},
		"never":                         {"replica back within 5s", "replica-restart", restart(-1, -1, "product-catalog"), results.Fail, "the replica did not stream again after its restart"},
		"not used any more":             {"replica back within 30s", "replica-restart", restart(9000, -1, "product-catalog"), results.Fail, "streams again after 9.0 s; the shop does not read from it any more"},
		"not used before":               {"replica back within 30s", "replica-restart", restart(9000, 21_000), results.Inconclusive, "streams again after 9.0 s; the shop did not read from it before"},
		"not watched to the end":        {"replica back within 30s", "replica-restart", results.ReplicaRestart{}, results.Inconclusive, "probe replica-restart left its record incomplete"},
	} {
		t.Run(name, func(t *testing.T) {
			oneBudget(t, newQuietStory(c.budget).probe(c.probe, c.data), c.verdict, c.measured)
		})
	}
	for _, budget := range []string{"autoscalers measured = 100%", "autoscaled replicas = 3", "autoscaler warnings = 0", "replica lag < 1s", "writes replicated within 1s", "replica back within 1s"} {
		v := newQuietStory(budget).judge(t)
		require.Equal(t, results.Inconclusive, v.Verdict, "%s without evidence", budget)
	}
}

func TestWhatAutoscalersComplainOfIsCountedWhereSomebodyWatched(t *testing.T) {
	told := func(budget string) *story {
		s := newQuietStory(budget).event(0, results.Watching, "prod-app").phaseOver(time.Minute).step("autoscale", "", time.Second, 20*time.Second)
		s.event(5*time.Second, results.Warning, "product-catalog", results.FieldObject, results.AutoscalerKind)
		s.event(30*time.Second, results.Warning, "order-processing-v2", results.FieldObject, results.AutoscalerKind)
		return s.event(40*time.Second, results.Warning, "product-catalog", results.FieldObject, "Deployment")
	}
	for budget, want := range map[string]struct {
		verdict  results.Judgement
		measured string
	}{
		"autoscaler warnings = 0":                                       {results.Fail, "2 warnings"},
		"autoscaler warnings <= 2":                                      {results.Pass, "2 warnings"},
		"autoscaler warnings = 0 of service order-processing":           {results.Fail, "1 warning"},
		"autoscaler warnings = 0 of service customer-profile in soak":   {results.Pass, "0 warnings"},
		"autoscaler warnings = 0 for 5s after step autoscale":           {results.Pass, "0 warnings"},
		"autoscaler warnings = 0 during step autoscale":                 {results.Fail, "1 warning"},
		"autoscaler warnings = 0 for 2m after step autoscale":           {results.Fail, "1 warning"},
		"autoscaler warnings <= 1 for 2m after step autoscale":          {results.Inconclusive, "1 warning; the run ended before this window did"},
		"autoscaler warnings = 0 of service a for 1s before phase soak": {results.Inconclusive, "0 warnings; the cluster's events were not watched from its begin"},
	} {
		t.Run(budget, func(t *testing.T) { oneBudget(t, told(budget), want.verdict, want.measured) })
	}
}
