package budget

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryKindOfBudgetIsUnderstood(t *testing.T) {
	day := 24 * time.Hour
	for text, want := range map[string]Budget{
		"failed requests = 0 in stack, inject": {
			Subject: FailedRequests, Op: Equal, Phases: []Name{{"stack", 24}, {"inject", 31}}},
		"failed requests <= 3":      {Subject: FailedRequests, Op: AtMost, Count: 3},
		"availability >= 99.95%":    {Subject: Availability, Op: AtLeast, Ratio: 0.9995},
		"availability>=99% in soak": {Subject: Availability, Op: AtLeast, Ratio: 0.99, Phases: []Name{{"soak", 22}}},
		"end-to-end p99 < 100ms in baseline": {
			Subject: EndToEnd, Op: Less, Quantile: 0.99, Duration: 100 * time.Millisecond, Phases: []Name{{"baseline", 27}}},
		"end-to-end p99.9<=1.5s":             {Subject: EndToEnd, Op: AtMost, Quantile: 0.999, Duration: 1500 * time.Millisecond},
		"added latency p99 < 10ms per hop":   {Subject: AddedLatency, Op: Less, Quantile: 0.99, Duration: 10 * time.Millisecond, Per: "hop"},
		"added latency p50 < 1h per request": {Subject: AddedLatency, Op: Less, Quantile: 0.5, Duration: time.Hour, Per: "request"},
		"injected pods = 100%":               {Subject: InjectedPods, Op: Equal, Ratio: 1},
		"mtls calls >= 99.9% in soak":        {Subject: MTLSCalls, Op: AtLeast, Ratio: 0.999, Phases: []Name{{"soak", 24}}},
		"plaintext calls accepted = 0":       {Subject: PlaintextAccepted, Op: Equal},
		"issuer certificate lasts 90d, renewed 7d early": {
			Subject: IssuerCertificate, Op: Equal, Duration: 90 * day, Lead: 7 * day},
		"vault unsealed by itself":            {Subject: VaultUnsealed},
		"vault unsealed by itself within 60s": {Subject: VaultUnsealed, Op: AtMost, Duration: time.Minute},
		"vault secrets at most 30d old":       {Subject: VaultSecretsAge, Op: AtMost, Duration: 30 * day},
		"vault certificates at most 83d old":  {Subject: VaultCertsAge, Op: AtMost, Duration: 83 * day},
		"vault requests denied = 0":           {Subject: VaultDenied, Op: Equal},
		"webhook calls failed <= 2":           {Subject: HooksFailed, Op: AtMost, Count: 2},
		"webhook calls failed open = 0 in soak": {
			Subject: HooksFailedOpen, Op: Equal, Phases: []Name{{"soak", 34}}},
		"webhook calls rejected = 0": {Subject: HooksRejected, Op: Equal},
		"orders lost or doubled = 0": {Subject: OrdersLost, Op: Equal},
		"items oversold = 0":         {Subject: ItemsOversold, Op: Equal},
		"payments unmatched <= 2":    {Subject: PaymentsUnmatched, Op: AtMost, Count: 2},
		"failed requests = 0 shown to 99% of route order, browse and protocol http": {
			Subject: FailedRequests, Op: Equal, Shown: 0.99,
			Filter: []Condition{{Route, []Name{{"order", 43}, {"browse", 50}}}, {Protocol, []Name{{"http", 70}}}}},
		"rejected requests <= 5%":   {Subject: RejectedRequests, Op: AtMost, Share: true, Ratio: 0.05},
		"requests >= 10000 in soak": {Subject: Requests, Op: AtLeast, Count: 10000, Phases: []Name{{"soak", 22}}},
		"failed calls = 0 of service payment-gateway and version v2": {
			Subject: FailedCalls, Op: Equal, Filter: []Condition{{Service, []Name{{"payment-gateway", 29}}}, {Version, []Name{{"v2", 57}}}}},
		"call latency p99 < 20ms of caller order-processing": {
			Subject: CallLatency, Op: Less, Quantile: 0.99, Duration: 20 * time.Millisecond, Filter: []Condition{{Caller, []Name{{"order-processing", 35}}}}},
		"late requests = 0 for 30s after step install:mesh": {
			Subject: LateRequests, Op: Equal, Window: &Window{
				Edge{Mark: Mark{StepMark, "install", "mesh", 0, 38}, End: true}, Edge{Mark: Mark{StepMark, "install", "mesh", 0, 38}, End: true, Shift: 30 * time.Second}}},
		"late requests = 0 for 30s before phase soak": {
			Subject: LateRequests, Op: Equal, Window: &Window{
				Edge{Mark: Mark{PhaseMark, "soak", "", 0, 40}, Shift: -30 * time.Second}, Edge{Mark: Mark{PhaseMark, "soak", "", 0, 40}}}},
		"restarts = 0 of service search from 5s after end of step inject#2 to phase soak": {
			Subject: Restarts, Op: Equal, Filter: []Condition{{Service, []Name{{"search", 25}}}}, Window: &Window{
				Edge{Mark: Mark{StepMark, "inject", "", 2, 58}, End: true, Shift: 5 * time.Second}, Edge{Mark: Mark{PhaseMark, "soak", "", 0, 76}, End: true}}},
		"recovery within 30s after begin of step restart-vault": {
			Subject: Recovery, Op: AtMost, Duration: 30 * time.Second, Mark: &Edge{Mark: Mark{StepMark, "restart-vault", "", 0, 41}}},
		"recovery within 1m after event node:not-ready of route order": {
			Subject: Recovery, Op: AtMost, Duration: time.Minute, Mark: &Edge{Mark: Mark{EventMark, "node", "not-ready", 0, 32}, End: true},
			Filter: []Condition{{Route, []Name{{"order", 56}}}}},
		"proxy memory < 50MiB":      {Subject: ProxyMemory, Op: Less, Count: 50 << 20},
		"proxy cpu <= 100m in soak": {Subject: ProxyCPU, Op: AtMost, Cores: 0.1, Phases: []Name{{"soak", 22}}},
		"issuer certificate lasts 90d, renewed 7d early, keyed rsa-4096": {
			Subject: IssuerCertificate, Op: Equal, Duration: 90 * day, Lead: 7 * day, Key: "rsa-4096"},
		"proxy certificates keyed ecdsa-p256 = 100%": {Subject: CertificatesKeyed, Op: Equal, Ratio: 1, Key: "ecdsa-p256"},
		"autoscalers measured = 100% in peak":        {Subject: AutoscalersMeasured, Op: Equal, Ratio: 1, Phases: []Name{{"peak", 32}}},
		"autoscaler warnings = 0 of service product-catalog during phase peak": {
			Subject: AutoscalerWarnings, Op: Equal, Filter: []Condition{{Service, []Name{{"product-catalog", 36}}}}, Window: &Window{
				Edge{Mark: Mark{PhaseMark, "peak", "", 0, 65}}, Edge{Mark: Mark{PhaseMark, "peak", "", 0, 65}, End: true}}},
		"autoscaled replicas >= 4 of service product-catalog in peak": {
			Subject: AutoscaledReplicas, Op: AtLeast, Count: 4, Filter: []Condition{{Service, []Name{{"product-catalog", 37}}}}, Phases: []Name{{"peak", 56}}},
		"autoscaled replicas = 3":     {Subject: AutoscaledReplicas, Op: Equal, Count: 3},
		"replica lag < 1MiB in soak":  {Subject: ReplicaLag, Op: Less, Count: 1 << 20, Phases: []Name{{"soak", 23}}},
		"replica lag <= 500ms":        {Subject: ReplicaLag, Op: AtMost, Duration: 500 * time.Millisecond},
		"writes replicated within 5s": {Subject: WritesReplicated, Op: AtMost, Duration: 5 * time.Second},
		"replica back within 1m":      {Subject: ReplicaBack, Op: AtMost, Duration: time.Minute},
		"promql 'sum(up{job=\"x\"})' >= -1.5 in soak": {
			Subject: PromQL, Op: AtLeast, Query: `sum(up{job="x"})`, Value: -1.5, Phases: []Name{{"soak", 38}}},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := Parse(text)
			require.NoError(t, err)
			require.InDelta(t, want.Ratio, got.Ratio, 1e-12)
			require.InDelta(t, want.Quantile, got.Quantile, 1e-12)
			require.InDelta(t, want.Cores, got.Cores, 1e-12)
			want.Text, want.Ratio, want.Quantile, want.Cores = text, got.Ratio, got.Quantile, got.Cores
			require.Equal(t, want, got)
			require.NotEmpty(t, got.Explain([]string{"baseline", "soak"}))
		})
	}
}

func TestWhatIsNoBudgetIsToldWithItsColumn(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "column 1: the budget is empty",
		"   ":                           "column 1: the budget is empty",
		"fialed requests = 0":           `column 1: no budget begins with "fialed requests"; did you mean "failed requests"?`,
		"failed = 0":                    `column 1: no budget begins with "failed"`,
		"cost <= 500":                   `column 1: no budget begins with "cost"; one begins with: failed requests, rejected requests, late requests, requests, availability`,
		"mtls call = 100%":              `did you mean "mtls calls"?`,
		"availabilty >= 99%":            `did you mean "availability"?`,
		"promql sum(x) = 0":             `column 8: "sum(x)" should be a query in quotes`,
		"promql 'sum(x) = 0":            "column 8: this quote is not closed",
		"promql 'sum(x' = 0":            "column 8: the query leaves a ( open",
		"promql 'sum x)' = 0":           "column 8: the query closes a ( that is not open",
		"promql ' ' = 0":                "column 8: the query is empty",
		"promql 'x' ! 0":                `column 12: "!" should be =, <, <=, > or >=`,
		"promql 'x' = much":             `column 14: "much" should be a number`,
		"promql":                        "column 7: here is missing a query in quotes",
		"failed requests = 0 of":        "column 23: here is missing route, status, protocol, class, service, version, caller or node",
		"failed requests = 0 of rout a": `column 24: "rout" should be route, status, protocol, class, service, version, caller or node; did you mean "route"?`,
		"failed requests = 0 of route a and route b":    "column 36: route is given twice",
		"failed requests = 0 of route a, a":             `column 33: route "a" is named twice`,
		"failed calls = 0 of status 500":                `column 21: "status" should be route, service, version, caller or node`,
		"failed requests <= 0%":                         "column 20: no number of requests shows a share of 0 %; write = 0",
		"failed requests = 1%":                          "column 19: no number of requests shows a share of exactly 1%; write <= 1%, or a count",
		"failed requests = 0 shown to 100%":             "column 30: what is shown lies between 0 % and 100 %",
		"failed requests = 0 during inject":             `column 28: "inject" should be step or phase`,
		"failed requests = 0 from step a":               `column 32: here is missing "to"`,
		"failed requests = 0 for 30s past step a":       `column 29: "past" should be after or before`,
		"failed requests = 0 during step a#0":           `column 33: "a#0" should be a step's name, and after # which of them, from 1`,
		"failed requests = 0 during phase a:b":          `column 34: "a:b" should be a phase's name`,
		"recovery within 30s after event node:notready": `column 33: "node:notready" should be an event: endpoints:added`,
		"recovery within 30s after phase a":             `column 27: "phase" should be step or event`,
		"recovery within 30s":                           `column 20: here is missing "after"`,
		"proxy memory < 50":                             `column 16: "50" should be a size such as 50MiB`,
		"replica lag < 5":                               `column 15: "5" should be a duration such as 100ms or 7d`,
		"replica lag < 5 MB":                            `column 15: "5" should be a duration such as 100ms or 7d`,
		"replica lag < xB":                              `column 15: "xB" should be a size such as 50MiB`,
		"autoscaled replicas > 3":                       `column 21: ">" should be =, <= or >=`,
		"replica back within 1m in soak":                `column 24: "in" is more than a budget on "replica back within" has`,
		"proxy cpu < fast":                              `column 13: "fast" should be CPU cores such as 100m or 0.5`,
		"proxy certificates keyed ecdsa = 100%":         `column 26: "ecdsa" should be ecdsa-p256`,
		"restarts = 0 of route browse":                  `column 17: "route" should be service`,
		"injected pods = 100% of service a":             `column 22: "of" is more than a budget on "injected pods" has`,
		"mtls calls = 100% during phase a":              `column 19: "during" is more than a budget on "mtls calls" has`,
		"= 0":                                           `column 1: no budget begins with ""`,
		"failed requests":                               "column 16: here is missing = or <=",
		"failed requests  ":                             "column 16: here is missing = or <=",
		"failed requests > 0":                           `column 17: ">" should be = or <=`,
		"failed requests == 0":                          `column 17: "==" should be = or <=`,
		"failed requests = none":                        `column 19: "none" should be a whole number`,
		"failed requests = -1":                          `column 19: "-1" should be a whole number`,
		"failed requests = +1":                          `column 19: "+1" should be a whole number`,
		"failed requests = 1.5":                         `column 19: "1.5" should be a whole number`,
		"failed requests = 0 in":                        "column 23: here is missing a phase's name",
		"failed requests = 0 in a,":                     "column 26: here is missing a phase's name",
		"failed requests = 0 in a,,b":                   `column 26: "," should be a phase's name`,
		"failed requests = 0 in a, a":                   `column 27: phase "a" is named twice`,
		"failed requests = 0 in a b":                    `column 26: "b" is more than a budget on "failed requests" has`,
		"failed requests = 0 please":                    `column 21: "please" is more than`,
		"availability >= 99.95":                         `column 17: "99.95" should be a percentage such as 99.95%`,
		"availability >= 101%":                          `column 17: "101%" should be a percentage`,
		"availability >= NaN%":                          `column 17: "NaN%" should be a percentage`,
		"availability >= 1e2%":                          `column 17: "1e2%" should be a percentage`,
		"availability >= 100%":                          "column 17: no number of requests shows 100 %; write failed requests = 0",
		"availability >= 0%":                            "column 17: an availability of 0 % says nothing",
		"availability <= 99%":                           `column 14: "<=" should be >=`,
		"end-to-end < 100ms":                            `column 12: "<" should be a percentile such as p99`,
		"end-to-end p100 < 100ms":                       `column 12: "p100" should be a percentile`,
		"end-to-end p0 < 100ms":                         `column 12: "p0" should be a percentile`,
		"end-to-end p99 < 100":                          `column 18: "100" should be a duration such as 100ms or 7d`,
		"end-to-end p99 < 0ms":                          `column 18: "0ms" should be a duration`,
		"end-to-end p99 < 1e9999s":                      `column 18: "1e9999s" should be a duration`,
		"end-to-end p99 < 99999999999999999d":           `should be a duration`,
		"end-to-end p99 < 1.2.3s":                       `column 18: "1.2.3s" should be a duration`,
		"added latency p99 < 10ms":                      `column 25: here is missing "per"`,
		"added latency p99 < 10ms per pod":              `column 30: "pod" should be hop or request`,
		"injected pods = 100% in soak":                  `column 22: "in" is more than a budget on "injected pods" has`,
		"issuer certificate lasts 90d renewed":          `column 30: "renewed" should be ","`,
		"vault unsealed by itself in 60s":               `column 26: "in" is more than a budget`,
		"vault unsealed by itself within":               "column 32: here is missing a duration",
		"verfügbar = 0":                                 `no budget begins with "verfügbar"`,
	} {
		t.Run(text, func(t *testing.T) {
			_, err := Parse(text)
			require.ErrorContains(t, err, want)
			require.IsType(t, &Error{}, err)
		})
	}
}

// What the shop's own figures ask for must be sayable.
func TestTheCaseStudysFiguresCanBeSaid(t *testing.T) {
	for figure, text := range map[string]string{
		"less than 10 ms added by mTLS":                 "added latency p99 < 10ms per hop",
		"less than 100 ms end to end":                   "end-to-end p99 < 100ms in baseline, soak",
		"99.95 % uptime":                                "availability >= 99.95%",
		"no downtime while mTLS is rolled out":          "failed requests = 0 in stack, inject, enforce, soak",
		"mTLS for all service-to-service traffic":       "mtls calls = 100% in soak",
		"the same, on the wire":                         "plaintext flows = 0 from end of step enforce to phase soak",
		"all services injected":                         "injected pods = 100%",
		"certificates of 90 days, renewed 7 days early": "issuer certificate lasts 90d, renewed 7d early",
		"secrets rotated every 30 days":                 "vault secrets rotated every 30d",
		"unsealed by KMS":                               "vault unsealed by itself within 60s",
		"alerts within 5 minutes":                       "denials alerted within 5m",
		"no unauthorised access":                        "unauthorised calls admitted = 0",
		"the work of customising goes on":               "failed requests = 0 shown to 99.5% of route configure",
		"twice the peak":                                "requests >= 10000 in soak",
		"a tenth of a pod's memory at most":             "proxy memory < 50MiB",
	} {
		_, err := Parse(text)
		require.NoError(t, err, figure)
	}
}

func TestNeededRequestsFollowTheStrictestAvailability(t *testing.T) {
	parse := func(lines ...string) []Budget {
		var all []Budget
		for _, line := range lines {
			b, err := Parse(line)
			require.NoError(t, err)
			all = append(all, b)
		}
		return all
	}
	require.Equal(t, 6000, Needed(nil, "soak"), "no budget: 99.95 %")
	require.Equal(t, 6000, Needed(parse("failed requests = 0"), "soak"))
	require.Equal(t, 6000, Needed(parse("availability >= 99.95%"), "soak"))
	require.Equal(t, 600, Needed(parse("availability >= 99.5%"), "soak"))
	both := parse("availability >= 99%", "availability >= 99.9% in soak")
	require.Equal(t, 3000, Needed(both, "soak"))
	require.Equal(t, 300, Needed(both, "inject"))
	require.Equal(t, 6000, Needed(parse("availability >= 99% in inject"), "soak"))
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"failed requests = 0 in stack, inject", "availability >= 99.95%", "end-to-end p99 < 100ms in soak",
		"added latency p99 < 10ms per hop", "issuer certificate lasts 90d, renewed 7d early",
		"vault unsealed by itself within 60s", "mtls calls = 100% in soak", "= < > ,", "p\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := Parse(text)
		if err != nil {
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Column < 1 || e.Column > len([]rune(text))+1 {
				t.Fatalf("%q: column is outside the line: %v", text, err)
			}
			return
		}
		if again, err := Parse(b.Text); err != nil || again.Subject != b.Subject {
			t.Fatalf("%q is not read again as itself: %v", b.Text, err)
		}
		if b.Ratio < 0 || b.Ratio > 1 || b.Quantile < 0 || b.Quantile >= 1 || b.Duration < 0 || b.Count < 0 {
			t.Fatalf("%q has a value out of range: %+v", text, b)
		}
		b.Explain(nil)
		Needed([]Budget{b}, "x")
	})
}
