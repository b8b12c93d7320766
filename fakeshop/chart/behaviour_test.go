package chart

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestABehaviourIsCheckedAgainstTheSchema(t *testing.T) {
	for name, c := range map[string]struct {
		behaviour map[string]any
		wrong     string // empty when it is right
	}{
		"nothing is a good behaviour": {map[string]any{}, ""},
		"errors and a delay": {map[string]any{
			"errors": map[string]any{"rate": 0.05, "code": "UNAVAILABLE"}, "startDelay": "20s",
			"latency": map[string]any{"kind": "lognormal", "p50": "20ms", "p99": "200ms"},
		}, ""},
		"a key that is none":          {map[string]any{"slow": true}, "additional properties 'slow' not allowed"},
		"a share above one":           {map[string]any{"errors": map[string]any{"rate": 1.5}}, "errors.rate: "},
		"errors without their share":  {map[string]any{"errors": map[string]any{"code": "ABORTED"}}, "errors: missing property 'rate'"},
		"a long tail without its end": {map[string]any{"latency": map[string]any{"kind": "lognormal", "p50": "5ms"}}, "latency: missing property 'p99'"},
		"a tail where there is none":  {map[string]any{"latency": map[string]any{"kind": "constant", "p50": "5ms", "p99": "9ms"}}, "latency.p99: "},
		"cold without an end":         {map[string]any{"cold": map[string]any{"kind": "constant", "p50": "5ms"}}, "warmup"},
		"a number that is a text":     {map[string]any{"leakBytes": "much"}, "leakBytes: got string, want integer"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckBehaviour(c.behaviour)
			if c.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.wrong)
		})
	}
}

func TestValuesAreCheckedAgainstTheSchema(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string]any
		wrong  string // empty when they are right
	}{
		"nothing is the chart's own": {map[string]any{}, ""},
		"a provider and its patience": {map[string]any{"provider": map[string]any{"declineRate": 0.02, "latency": map[string]any{"kind": "constant", "p50": "80ms"}},
			"reservations": map[string]any{"keep": "90s"}, "retries": 0}, ""},
		"a value that there is not": {map[string]any{"suppliers": 3}, "additional properties 'suppliers' not allowed"},
		"more than all":             {map[string]any{"provider": map[string]any{"lostRate": 2}}, "provider.lostRate: "},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckValues(c.values)
			if c.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.wrong)
		})
	}
}

func TestAnOrderIsGivenUpAfterWhatIsAskedForOrTheChartSays(t *testing.T) {
	for name, c := range map[string]struct {
		values map[string]any
		want   time.Duration
		err    string
	}{
		"nothing is asked for":     {nil, 10 * time.Minute, ""},
		"something else is":        {map[string]any{"orders": map[string]any{}}, 10 * time.Minute, ""},
		"two minutes":              {map[string]any{"orders": map[string]any{"giveUpAfter": "2m"}}, 2 * time.Minute, ""},
		"what no program can read": {map[string]any{"orders": map[string]any{"giveUpAfter": "soon"}}, 0, `orders.giveUpAfter: time: invalid duration "soon"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := GiveUpAfter(c.values)
			if c.err != "" {
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}
