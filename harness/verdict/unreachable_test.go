package verdict

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/results"
)

// placed adds an event of a pod of the payment gateway, on a node.
func (s *story) placed(at time.Duration, pod, state string) *story {
	return s.event(at, results.Pod, pod, results.FieldService, "payment-gateway", results.FieldState, state, results.FieldNode, "worker")
}

// bothReady has two pods of the payment gateway that are ready from 10 s on.
func bothReady() *story {
	return newStory().placed(10*time.Second, "payment-gateway-1", results.StateReady).placed(10*time.Second, "payment-gateway-2", results.StateReady)
}

// unpaid is an order, at one minute, whose payment nobody took.
func unpaid(change func(*results.Request)) *results.Request {
	return failure(time.Minute, func(r *results.Request) {
		r.Route, r.Hop, r.Class, r.Error = "order", "order-processing>payment-gateway", "http-503", "calling payment-gateway: service in fail-fast"
		change(r)
	})
}

func asIs(*results.Request) {}

// waited is a call that was given up after two seconds.
func waited(r *results.Request) {
	r.Class, r.Error, r.Done = "http-504", "calling payment-gateway: context deadline exceeded", r.Sent+int64(2*time.Second)
}

// payments are served, one each second, from an instant to another.
func payments(a *attribution, from, to time.Duration) {
	for at := from; at < to; at += time.Second {
		a.add(&results.Request{Scheduled: int64(at), Sent: int64(at), Done: int64(at) + 1e6, Phase: "soak", Route: "order", Outcome: results.OK, Status: 200,
			Hops: "~a@n1/v1:4000(payment-gateway:2:1000=~1@worker/v1:800)"},
			newEdges().readWay(&results.Request{Route: "order", Hops: "~a@n1/v1:4000(payment-gateway:2:1000=~1@worker/v1:800)"}))
	}
}

func TestAServiceWithoutAReadyPodIsToldFromOneWithTooMuchLoad(t *testing.T) {
	const gone = "no pod of payment-gateway was ready"
	for name, c := range map[string]struct {
		around  func(*story)
		failure *results.Request
		kind    string
		cause   string
	}{
		"all pods were taken away long ago": {func(s *story) {
			s.placed(20*time.Second, "payment-gateway-1", results.StateTerminating).placed(21*time.Second, "payment-gateway-2", results.StateTerminating)
			s.placed(25*time.Second, "payment-gateway-1", results.StateGone).placed(26*time.Second, "payment-gateway-2", results.StateGone)
		}, unpaid(asIs), causeNotReady, gone},
		"and the request waited for one": {func(s *story) {
			s.placed(20*time.Second, "payment-gateway-1", results.StateTerminating).placed(55*time.Second, "payment-gateway-2", results.StateNotReady)
		}, unpaid(waited), causeNotReady, gone},
		"one came again before it failed": {func(s *story) {
			s.placed(20*time.Second, "payment-gateway-1", results.StateTerminating).placed(55*time.Second, "payment-gateway-2", results.StateNotReady)
			s.placed(61500*time.Millisecond, "payment-gateway-2", results.StateReady)
		}, unpaid(waited), causeUnknown, "unknown: http-504"},
		"one is left": {func(s *story) { s.placed(20*time.Second, "payment-gateway-1", results.StateTerminating) },
			unpaid(waited), causeUnknown, "unknown: http-504"},
		"a pod that answered was there": {func(s *story) {
			s.placed(20*time.Second, "payment-gateway-1", results.StateTerminating).placed(20*time.Second, "payment-gateway-2", results.StateTerminating)
		}, unpaid(func(r *results.Request) { waited(r); r.Pod = "payment-gateway-2" }), causeUnknown, "unknown: http-504"},
		"the last one died": {func(s *story) {
			s.placed(20*time.Second, "payment-gateway-1", results.StateTerminating).placed(58*time.Second, "payment-gateway-2", results.StateOOMKilled)
		}, unpaid(asIs), causeRestart, "payment-gateway ran out of memory"},
		"all are there, and serve nobody": {func(*story) {}, unpaid(asIs), causeUnknown,
			"unknown: a proxy failed fast between order-processing and payment-gateway, and it is not seen to be for load"},
	} {
		t.Run(name, func(t *testing.T) {
			s := bothReady()
			c.around(s)
			causes := causesOf(s, c.failure)
			require.Len(t, causes, 1)
			require.Equal(t, c.kind, causes[0].Kind)
			require.Contains(t, causes[0].Cause, c.cause)
		})
	}
}

func TestAProxyThatFailsFastSaturatesOnlyWhatServesOthers(t *testing.T) {
	for name, c := range map[string]struct {
		until, from time.Duration // the time without payments
		kind        string
	}{
		"others are served all the time":       {until: time.Minute, from: time.Minute, kind: causeSaturation},
		"nobody is served for half a minute":   {until: 45 * time.Second, from: 75 * time.Second, kind: causeUnknown},
		"nobody is served any more":            {until: 65 * time.Second, from: 200 * time.Second, kind: causeUnknown},
		"nobody had been served till a moment": {until: 0, from: 60 * time.Second, kind: causeUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			s := bothReady()
			a := newAttribution(s.run, nil, s.events, nil)
			payments(a, 10*time.Second, c.until)
			a.add(unpaid(asIs), nil)
			payments(a, c.from, 100*time.Second)
			causes := a.ranked()
			require.Len(t, causes, 1)
			require.Equal(t, c.kind, causes[0].Kind)
		})
	}
}

func TestCertificatesThatNobodyCouldAcceptAreBlamedForCallsThatNobodyAnswered(t *testing.T) {
	const untrusted = "x509: certificate signed by unknown authority"
	shown := func(pod, why string) results.Presented {
		return results.Presented{Pod: pod, Chains: ptr(why == ""), Why: why}
	}
	one, two, caller := "payment-gateway-1", "payment-gateway-2", "order-processing-a"
	type looked struct {
		at   time.Duration
		seen []results.Presented
	}
	for name, c := range map[string]struct {
		looks   []looked
		around  func(*story)
		failure *results.Request
		kind    string
		mode    string
		cause   string
	}{
		"those of all pods that could have been called": {
			looks:   []looked{{90 * time.Second, []results.Presented{shown(one, untrusted), shown(two, untrusted)}}},
			failure: unpaid(asIs), kind: causeCertificate, mode: "I1",
			cause: "a TLS handshake failed between order-processing and payment-gateway: the certificate of payment-gateway was not to be trusted: 1 × http-503"},
		"and the request waited": {
			looks:   []looked{{90 * time.Second, []results.Presented{shown(one, untrusted), shown(two, untrusted)}}},
			failure: unpaid(waited), kind: causeCertificate, mode: "I1", cause: "a TLS handshake failed"},
		"they had ended": {
			looks:   []looked{{90 * time.Second, []results.Presented{shown(one, "x509: certificate has expired or is not yet valid"), shown(two, "x509: certificate has expired")}}},
			failure: unpaid(asIs), kind: causeCertificate, mode: "I5", cause: "a TLS handshake failed"},
		"the caller's": {
			looks: []looked{{90 * time.Second, []results.Presented{shown(caller, untrusted)}}},
			failure: unpaid(func(r *results.Request) {
				waited(r)
				r.Hops = "~a@n1/v1:2000000(payment-gateway:2:2000000!4)"
			}), kind: causeCertificate, mode: "I1", cause: "the certificate of order-processing was not to be trusted"},
		"another pod's was good": {
			looks:   []looked{{90 * time.Second, []results.Presented{shown(one, untrusted), shown(two, "")}}},
			failure: unpaid(waited), kind: causeUnknown, cause: "unknown: http-504"},
		"unless that one was gone": {
			looks:   []looked{{90 * time.Second, []results.Presented{shown(one, untrusted)}}},
			around:  func(s *story) { s.placed(50*time.Second, two, results.StateGone) },
			failure: unpaid(waited), kind: causeCertificate, mode: "I1", cause: "a TLS handshake failed"},
		"they were good afterwards": {
			looks: []looked{{30 * time.Second, []results.Presented{shown(one, untrusted), shown(two, untrusted)}},
				{50 * time.Second, []results.Presented{shown(one, ""), shown(two, "")}}},
			failure: unpaid(waited), kind: causeUnknown, cause: "unknown: http-504"},
		"they were still good later on": {
			looks: []looked{{70 * time.Second, []results.Presented{shown(one, ""), shown(two, "")}},
				{90 * time.Second, []results.Presented{shown(one, untrusted), shown(two, untrusted)}}},
			failure: unpaid(waited), kind: causeUnknown, cause: "unknown: http-504"},
		"whoever answers has shaken hands": {
			looks:   []looked{{90 * time.Second, []results.Presented{shown(one, untrusted), shown(two, untrusted)}}},
			failure: unpaid(func(r *results.Request) { r.Class, r.Error = "http-500", "internal error" }), kind: causeUnknown, cause: "unknown: http-500"},
		"who calls from outside shakes none": {
			looks:   []looked{{90 * time.Second, []results.Presented{shown(one, untrusted), shown(two, untrusted)}}},
			failure: unpaid(func(r *results.Request) { waited(r); r.Hop = "payment-gateway" }), kind: causeUnknown, cause: "unknown: http-504"},
	} {
		t.Run(name, func(t *testing.T) {
			s := bothReady()
			if c.around != nil {
				c.around(s)
			}
			for _, l := range c.looks {
				p, err := results.NewProbe(int64(l.at), results.ProbeIdentity, "soak", results.Identity{Proxies: len(l.seen), Presented: l.seen})
				require.NoError(t, err)
				s.probes = append(s.probes, p)
			}
			causes := causesOf(s, c.failure)
			require.Len(t, causes, 1)
			require.Equal(t, c.kind, causes[0].Kind, causes[0].Cause)
			require.Equal(t, c.mode, causes[0].FailureMode)
			require.Contains(t, causes[0].Cause, c.cause)
		})
	}
}
