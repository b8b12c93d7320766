package scenarios

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestThePlanSaysHowManyRequestsAndHowLong(t *testing.T) {
	s, err := Load("mtls-rollout")
	require.NoError(t, err)
	plan := s.Plan()
	require.Equal(t, 34500, plan.Requests)
	require.Equal(t, 19*time.Minute+32*time.Second, plan.AtLeast)
	soak := plan.Phases[5]
	require.InDelta(t, 50, soak.Rate, 0.1)
	require.InDelta(t, 10000, 2*s.Spec.Traffic.Rates().Count(soak.From, plan.AtLeast), 40, "the last phase ends with the plan")
	require.Equal(t, plan.AtLeast, (soak.From + soak.AtLeast).Round(time.Second))
	soak.Rate, soak.From, soak.AtLeast = 0, 0, 0
	require.Equal(t, PhasePlan{Name: "soak", Judged: true, Steps: []string{"rotate-secrets"}, Requests: 10000, Needed: 6000, RealPerDay: 10000}, soak)
	require.Equal(t, []string{"measure-added-latency with 3000 triples of 512 bytes", "measure-added-latency of the shop with 400 triples", "probe-authorisation", "probe-plaintext", "restart-vault"}, plan.Phases[4].Steps)
	require.Greater(t, s.HoldLimit(s.Spec.Phases[0]), 3*time.Minute)
}

func TestExplainSaysRatesStepsAndBudgetsInNarrowLines(t *testing.T) {
	s, err := Load("mtls-rollout")
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, s.Explain(&b))
	for _, want := range []string{
		"A launch day of 5000 requests (an ordinary one has 1000) is replayed in 3m20s",
		"432 times the real rate", "soak      yes     10000     6000    10000       50.0",
		"enforce: await-authenticated for 3m20s", "availability >= 99.95%", "evidence: requests.jsonl\n",
		"needs: 6000 requests without a failure in each of baseline, stack, inject, enforce; at", "at least 10000 are planned",
		"needs: 1000 triples, and a difference of plain against plain below 10ms; 3000 are",
	} {
		require.Contains(t, b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		require.LessOrEqual(t, len(line), 101, line)
	}
}

func TestExplainSaysWhetherThePlannedTrafficIsEnough(t *testing.T) {
	for text, want := range map[string]string{
		"failed requests = 0 of route order in soak":                  "6000 requests without a failure in soak; only 800 are planned for certain",
		"failed requests = 0 shown to 99% of route order in soak":     "300 requests without a failure in soak; at least 800 are planned",
		"availability >= 99.9% in soak":                               "3000 requests without a failure in soak; at least 10000 are planned",
		"rejected requests <= 5% of service order-processing in soak": "60 requests in soak; at least 800 are planned",
		"end-to-end p99 < 100ms of version v2 in soak":                "368 requests in soak; how many of these are planned is not known",
		"failed calls = 0 of caller order-processing in soak":         "6000 calls without a failure in soak; how many of these are planned is not known",
		"requests >= 11000 in soak":                                   "11000 requests in soak; only 10000 are planned for certain",
		"availability >= 99.9% for 30s after step restart-vault":      "3000 requests without a failure; only 750 are planned for certain",
		"availability >= 99.9% during step enforce":                   "how many come is not known beforehand",
		"availability >= 99.9% from phase inject to phase soak":       "3000 requests without a failure; at least 22500 are planned",
		"recovery within 30s after begin of step restart-vault":       "30 requests in 10 s without a failure; at least 250 are planned",
		"added latency p99.9 < 10ms per hop":                          "10000 triples, and a difference of plain against plain below 10ms; 3000 are planned in verify, so it stays inconclusive",
	} {
		raw, err := shipped.ReadFile("mtls-rollout.yaml")
		require.NoError(t, err)
		s, err := Parse("x.yaml", append(raw, []byte("  - "+text+"\n")...))
		require.NoError(t, err, text)
		needs := s.needs(s.Spec.Budgets[len(s.Spec.Budgets)-1], s.Plan())
		require.Len(t, needs, 1, text)
		require.Contains(t, needs[0], want)
	}
}
