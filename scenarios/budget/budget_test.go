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
		"orders lost or doubled = 0":          {Subject: OrdersLost, Op: Equal},
		"items oversold = 0":                  {Subject: ItemsOversold, Op: Equal},
		"payments unmatched <= 2":             {Subject: PaymentsUnmatched, Op: AtMost, Count: 2},
	} {
		t.Run(text, func(t *testing.T) {
			got, err := Parse(text)
			require.NoError(t, err)
			require.InDelta(t, want.Ratio, got.Ratio, 1e-12)
			require.InDelta(t, want.Quantile, got.Quantile, 1e-12)
			want.Text, want.Ratio, want.Quantile = text, got.Ratio, got.Quantile
			require.Equal(t, want, got)
			require.NotEmpty(t, got.Explain([]string{"baseline", "soak"}))
		})
	}
}

func TestWhatIsNoBudgetIsToldWithItsColumn(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "column 1: the budget is empty",
		"   ":                                  "column 1: the budget is empty",
		"fialed requests = 0":                  `column 1: no budget begins with "fialed requests"; one begins with: failed requests, availability`,
		"failed = 0":                           `column 1: no budget begins with "failed"`,
		"= 0":                                  `column 1: no budget begins with ""`,
		"failed requests":                      "column 16: here is missing = or <=",
		"failed requests  ":                    "column 16: here is missing = or <=",
		"failed requests > 0":                  `column 17: ">" should be = or <=`,
		"failed requests == 0":                 `column 17: "==" should be = or <=`,
		"failed requests = none":               `column 19: "none" should be a whole number`,
		"failed requests = -1":                 `column 19: "-1" should be a whole number`,
		"failed requests = +1":                 `column 19: "+1" should be a whole number`,
		"failed requests = 1.5":                `column 19: "1.5" should be a whole number`,
		"failed requests = 0 in":               "column 23: here is missing a phase's name",
		"failed requests = 0 in a,":            "column 26: here is missing a phase's name",
		"failed requests = 0 in a,,b":          `column 26: "," should be a phase's name`,
		"failed requests = 0 in a, a":          `column 27: phase "a" is named twice`,
		"failed requests = 0 in a b":           `column 26: "b" is more than a budget on "failed requests" has`,
		"failed requests = 0 please":           `column 21: "please" is more than`,
		"availability >= 99.95":                `column 17: "99.95" should be a percentage such as 99.95%`,
		"availability >= 101%":                 `column 17: "101%" should be a percentage`,
		"availability >= NaN%":                 `column 17: "NaN%" should be a percentage`,
		"availability >= 1e2%":                 `column 17: "1e2%" should be a percentage`,
		"availability >= 100%":                 "column 17: no number of requests shows 100 %; write failed requests = 0",
		"availability >= 0%":                   "column 17: an availability of 0 % says nothing",
		"availability <= 99%":                  `column 14: "<=" should be >=`,
		"end-to-end < 100ms":                   `column 12: "<" should be a percentile such as p99`,
		"end-to-end p100 < 100ms":              `column 12: "p100" should be a percentile`,
		"end-to-end p0 < 100ms":                `column 12: "p0" should be a percentile`,
		"end-to-end p99 < 100":                 `column 18: "100" should be a duration such as 100ms or 7d`,
		"end-to-end p99 < 0ms":                 `column 18: "0ms" should be a duration`,
		"end-to-end p99 < 1e9999s":             `column 18: "1e9999s" should be a duration`,
		"end-to-end p99 < 99999999999999999d":  `should be a duration`,
		"end-to-end p99 < 1.2.3s":              `column 18: "1.2.3s" should be a duration`,
		"added latency p99 < 10ms":             `column 25: here is missing "per"`,
		"added latency p99 < 10ms per pod":     `column 30: "pod" should be hop or request`,
		"injected pods = 100% in soak":         `column 22: "in" is more than a budget on "injected pods" has`,
		"issuer certificate lasts 90d renewed": `column 30: "renewed" should be ","`,
		"vault unsealed by itself in 60s":      `column 26: "in" is more than a budget`,
		"vault unsealed by itself within":      "column 32: here is missing a duration",
		"verfügbar = 0":                        `no budget begins with "verfügbar"`,
	} {
		t.Run(text, func(t *testing.T) {
			_, err := Parse(text)
			require.ErrorContains(t, err, want)
			require.IsType(t, &Error{}, err)
		})
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
