package verdict

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// failure makes one failed request at an instant.
func failure(at time.Duration, change func(*results.Request)) *results.Request {
	r := &results.Request{
		Seq: 9, Scheduled: int64(at), Sent: int64(at), Done: int64(at + 10*time.Millisecond), Phase: "soak",
		Route: "browse", Proto: "http", Status: 502, Outcome: results.Failed, Class: "http-502",
	}
	change(r)
	return r
}

func causesOf(s *story, failures ...*results.Request) []results.Cause {
	a := newAttribution(s.run, nil, s.events, s.probes)
	for _, r := range failures {
		a.add(r, newEdges().readWay(r))
	}
	return a.ranked()
}

func TestAFailureIsGivenTheCauseThatTheEvidenceShows(t *testing.T) {
	const minute = time.Minute
	asIs := func(*results.Request) {}
	for name, c := range map[string]struct {
		around  func(*story)
		failure *results.Request
		kind    string
		cause   string
		pods    []string
	}{
		"a stopped pod of the called service, without drain": {
			func(s *story) {
				s.run.Shop.Drain = false
				s.event(50*time.Second, results.StepBegin, "inject").pod(55*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			}, failure(minute, asIs), causeDrain, "product-catalog pods were stopped without drain during inject: 1 × http-502", []string{"product-catalog-1"}},
		"a stopped pod, despite drain": {
			func(s *story) {
				s.pod(55*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			},
			failure(minute, asIs), causeDrain,
			"product-catalog pods were stopped with requests on their way, despite 5 s of drain, in soak: 1 × http-502", []string{"product-catalog-1"}},
		"the pod that the failure names, not another that stopped": {
			func(s *story) {
				s.pod(55*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
				s.pod(50*time.Second, "product-catalog-2", "product-catalog", results.StateTerminating)
			}, failure(minute, func(r *results.Request) { r.Pod = "product-catalog-2" }), causeDrain, "product-catalog pods were stopped", []string{"product-catalog-2"}},
		"the called service of the last hop": {
			func(s *story) {
				s.pod(55*time.Second, "payment-gateway-1", "payment-gateway", results.StateTerminating)
				s.pod(56*time.Second, "order-processing-1", "order-processing", results.StateTerminating)
			}, failure(minute, func(r *results.Request) { r.Route, r.Hop = "order", "order-processing>payment-gateway" }), causeDrain,
			"payment-gateway pods were stopped", []string{"payment-gateway-1"}},
		"the caller, when nothing happened to the called": {
			func(s *story) {
				s.pod(56*time.Second, "order-processing-1", "order-processing", results.StateTerminating)
			},
			failure(minute, func(r *results.Request) { r.Route, r.Hop = "order", "order-processing>payment-gateway" }), causeDrain,
			"order-processing pods were stopped", []string{"order-processing-1"}},
		"a step that ended a moment ago still counts": {
			func(s *story) {
				s.event(40*time.Second, results.StepBegin, "inject").event(55*time.Second, results.StepEnd, "inject")
				s.pod(54*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			}, failure(minute, asIs), causeDrain, "product-catalog pods were stopped with requests on their way, despite 5 s of drain, during inject", []string{"product-catalog-1"}},
		"a pod stopped long before explains nothing": {
			func(s *story) {
				s.pod(30*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			},
			failure(minute, asIs), causeUnknown, "unknown: http-502 at product-catalog: 1 × http-502", nil},
		"nor does one stopped after": {
			func(s *story) {
				s.pod(62*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			},
			failure(minute, asIs), causeUnknown, "unknown: http-502 at product-catalog", nil},
		"but a watch may hear of it a little late": {
			func(s *story) {
				s.pod(60500*time.Millisecond, "product-catalog-1", "product-catalog", results.StateTerminating)
			},
			failure(minute, asIs), causeDrain, "product-catalog pods were stopped", []string{"product-catalog-1"}},
		"a pod of another service explains nothing": {
			func(s *story) {
				s.pod(59*time.Second, "customer-profile-1", "customer-profile", results.StateTerminating)
			},
			failure(minute, asIs), causeUnknown, "unknown: http-502 at product-catalog", nil},
		"a wrong answer is not explained by a stopped pod": {
			func(s *story) {
				s.pod(59*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			},
			failure(minute, func(r *results.Request) { r.Class = "http-500" }), causeUnknown, "unknown: http-500 at product-catalog: 1 × http-500", nil},
		"a pod killed for its memory": {
			func(s *story) {
				s.pod(58*time.Second, "product-catalog-1", "product-catalog", results.StateOOMKilled)
			}, failure(minute, asIs), causeRestart, "product-catalog ran out of memory and was killed in soak", []string{"product-catalog-1"}},
		"a pod that died and another that stopped": {
			func(s *story) {
				s.pod(58*time.Second, "product-catalog-1", "product-catalog", results.StateOOMKilled)
				s.pod(59*time.Second, "product-catalog-2", "product-catalog", results.StateTerminating)
			}, failure(minute, asIs), causeUnknown, "unknown: http-502 at product-catalog, which two things explain", nil},
		"a pod that hung, was not ready, and whose node was gone": {
			func(s *story) {
				s.event(50*time.Second, results.Pod, "product-catalog-1", results.FieldService, "product-catalog", results.FieldState, results.StateNotReady, results.FieldNode, "worker")
				s.event(70*time.Second, results.Node, "worker", results.FieldState, results.StateNotReady)
			}, failure(minute, func(r *results.Request) {
				r.Class, r.Pod, r.Done = results.ClassTimeout, "product-catalog-1", r.Sent+int64(2*time.Second)
			}), causeUnknown, "unknown: timeout at product-catalog, which two things explain", []string{"product-catalog-1"}},
		"a container that died": {
			func(s *story) { s.pod(58*time.Second, "product-catalog-1", "product-catalog", results.StateRestarted) },
			failure(minute, asIs), causeRestart, "product-catalog died and was restarted in soak", []string{"product-catalog-1"}},
		"pods that were not ready": {
			func(s *story) { s.pod(58*time.Second, "product-catalog-1", "product-catalog", results.StateNotReady) },
			failure(minute, asIs), causeNotReady, "product-catalog pods were not ready in soak", []string{"product-catalog-1"}},
		"a node that was gone": {
			func(s *story) {
				s.event(20*time.Second, results.Node, "worker2", results.FieldState, results.StateNotReady)
			},
			failure(minute, func(r *results.Request) { r.Class = results.ClassTimeout }), causeNode, "node worker2 was not ready: 1 × timeout", nil},
		"a node that came back explains nothing": {
			func(s *story) {
				s.event(20*time.Second, results.Node, "worker2", results.FieldState, results.StateReady)
			},
			failure(minute, func(r *results.Request) { r.Class = results.ClassTimeout }), causeUnknown, "unknown: timeout at product-catalog", nil},

		"policy after enforcement, the caller without a proxy": {
			func(s *story) {
				s.event(50*time.Second, results.StepBegin, "enforce").event(55*time.Second, results.StepEnd, "enforce")
				s.probe("injection", results.Injection{Pods: 2, Injected: 1, Missing: []string{"order-processing-7f-x"}})
			}, failure(10*minute, func(r *results.Request) { r.Class, r.Hop = "http-403", "order-processing>inventory-management" }), causeNoProxy,
			"inventory-management refused order-processing once the policy was enforced: order-processing has no proxy: 1 × http-403", []string{"order-processing-7f-x"}},
		"policy, the caller's proxies unknown": {
			func(s *story) { s.event(50*time.Second, results.StepBegin, "enforce") },
			failure(minute, func(r *results.Request) { r.Class, r.Hop, r.Pod = "grpc-PERMISSION_DENIED", "a>b", "b-1" }), causePolicy,
			"b refused a once the policy was enforced: 1 × grpc-PERMISSION_DENIED", []string{"b-1"}},
		"a refusal before any enforcement": {
			func(s *story) { s.event(70*time.Second, results.StepBegin, "enforce") },
			failure(minute, func(r *results.Request) { r.Class = results.ClassPolicyDenied }), causePolicy,
			"product-catalog refused callers from outside: 1 × policy-denied", nil},
		"a refusal inside a 500": {
			func(*story) {},
			failure(minute, func(r *results.Request) { r.Class, r.Hop, r.Error = "http-500", "a>b", "reserve: PermissionDenied" }), causePolicy, "b refused a: 1 × http-500", nil},
		"a TLS handshake": {
			func(*story) {}, failure(minute, func(r *results.Request) { r.Class, r.Hop = results.ClassTLS, "a>b" }), causeCertificate,
			"a TLS handshake failed between a and b: 1 × tls", nil},
		"an expired certificate inside a 503": {
			func(s *story) {
				s.pod(59*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			},
			failure(minute, func(r *results.Request) { r.Class, r.Error = "http-503", "x509: certificate has expired" }), causeCertificate,
			"a TLS handshake failed at product-catalog", nil},
		"the database": {
			func(s *story) { s.pod(58*time.Second, "postgres-0", "postgres", results.StateRestarted) },
			failure(minute, func(r *results.Request) { r.Class, r.Hop = "http-503", "order-processing>postgres" }), causeDatabase,
			"the database did not answer order-processing: 1 × http-503", []string{"postgres-0"}},
		"the sender": {
			func(s *story) {
				s.pod(59*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
			},
			failure(minute, func(r *results.Request) { r.Class = results.ClassSender }), causeSender, "the sender itself could not send: 1 × sender", nil},
		"nothing at all": {
			func(*story) {}, failure(minute, func(r *results.Request) { r.Class, r.Route, r.Pod = "", "", "x-1" }), causeUnknown,
			"unknown: unnamed failure at the edge: 1 × unnamed", []string{"x-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			c.around(s)
			causes := causesOf(s, c.failure)
			require.Len(t, causes, 1)
			require.Equal(t, c.kind, causes[0].Kind)
			require.Contains(t, causes[0].Cause, c.cause)
			require.Equal(t, int64(1), causes[0].Count)
			if len(c.pods) == 0 {
				require.Empty(t, causes[0].Pods)
			} else {
				require.Equal(t, c.pods, causes[0].Pods)
			}
		})
	}
}

func TestCausesAreRankedAndCarryTheirEvidence(t *testing.T) {
	s := newStory()
	s.run.Shop.Drain = false
	s.run.Phases = []results.PhasePlan{{Name: "stack"}, {Name: "inject"}, {Name: "soak"}}
	s.event(50*time.Second, results.StepBegin, "inject")
	s.events[0].Detail = "inject all services"
	s.pod(55*time.Second, "product-catalog-1", "product-catalog", results.StateTerminating)
	s.pod(61*time.Second, "product-catalog-2", "product-catalog", results.StateTerminating)
	in := func(phase, class string) func(*results.Request) {
		return func(r *results.Request) { r.Phase, r.Class = phase, class }
	}
	causes := causesOf(s,
		failure(10*time.Minute, in("soak", "http-500")),
		failure(62*time.Second, in("inject", "grpc-UNAVAILABLE")),
		failure(56*time.Second, in("stack", "http-502")),
		failure(63*time.Second, in("inject", "http-502")))
	require.Len(t, causes, 2)
	require.Equal(t, []float64{62_000, 56_000, 63_000}, []float64{
		causes[0].Requests[0].ScheduledMs, causes[0].Requests[1].ScheduledMs, causes[0].Requests[2].ScheduledMs,
	})
	require.Equal(t, results.CauseRequest{
		Seq: 9, ScheduledMs: 62_000, LatencyMs: 10, Phase: "inject", Route: "browse", Status: 502, Class: "grpc-UNAVAILABLE",
		Near: []string{"pod product-catalog-2 terminating at 61.0 s"},
	}, causes[0].Requests[0])
	causes[0].Requests = nil
	require.Equal(t, results.Cause{
		Cause: "product-catalog pods were stopped without drain during inject: 2 × http-502, 1 × grpc-UNAVAILABLE",
		Count: 3, Kind: causeDrain, Phases: []string{"stack", "inject"}, Steps: []string{"inject all services"},
		Services: []string{"product-catalog"}, Pods: []string{"product-catalog-2", "product-catalog-1"},
		Mend: "after SIGTERM keep serving until no endpoint points at the pod: drain < proxy wait < grace period", FailureMode: "R1",
		Evidence: []string{
			"from 56.0 s to 63.0 s in stack, inject",
			"step: inject all services",
			"pods: product-catalog-2, product-catalog-1",
			"pod product-catalog-2 terminating at 61.0 s",
			"pod product-catalog-1 terminating at 55.0 s",
			"request 9 at 62.0 s: browse, grpc-UNAVAILABLE",
			"request 9 at 56.0 s: browse, http-502",
			"request 9 at 63.0 s: browse, http-502",
		},
	}, causes[0])
	require.Equal(t, causeUnknown, causes[1].Kind)
	require.Equal(t, int64(1), causes[1].Count)
}

func TestWhatARecordMakesUpIsBounded(t *testing.T) {
	s := newStory()
	a := newAttribution(s.run, nil, nil, nil)
	for i := range 5000 {
		r := failure(time.Minute, func(r *results.Request) {
			r.Hop = strings.Repeat("x", i%1000+1) + ">y"
			r.Phase = strings.Repeat("p", i%500+1)
		})
		a.add(r, nil)
	}
	causes := a.ranked()
	require.LessOrEqual(t, len(causes), maxGroups+1)
	total := int64(0)
	for _, c := range causes {
		total += c.Count
	}
	require.Equal(t, int64(5000), total, "every failure is counted")
	require.Contains(t, causes[0].Cause, "of too many kinds to list")
}
