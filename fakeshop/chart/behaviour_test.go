package chart

import (
	"testing"

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
		"a key that is none":         {map[string]any{"slow": true}, "additional properties 'slow' not allowed"},
		"a share above one":          {map[string]any{"errors": map[string]any{"rate": 1.5}}, "errors.rate: "},
		"errors without their share": {map[string]any{"errors": map[string]any{"code": "ABORTED"}}, "errors: missing property 'rate'"},
		"a number that is a text":    {map[string]any{"leakBytes": "much"}, "leakBytes: got string, want integer"},
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
