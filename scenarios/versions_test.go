package scenarios

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCanariesAndMisbehaviourAreRead(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(withSteps(
		"{behave: {service: order-processing, behaviour: {errors: {rate: 0.01}, startDelay: 20s}}}, {behave: {service: order-processing}}",
		"{canary: {service: payment-gateway, weight: 10, behaviour: {leakBytes: 4096}}}, {canary: {service: payment-gateway, weight: 50}}, {end-canary: {service: payment-gateway}}",
	)))
	require.NoError(t, err)
	first, second := s.Spec.Phases[1].Steps, s.Spec.Phases[2].Steps
	require.Equal(t, &Behave{Service: "order-processing", Behaviour: map[string]any{"errors": map[string]any{"rate": 0.01}, "startDelay": "20s"}}, first[0].Options)
	require.Equal(t, "behave: order-processing with errors.rate, startDelay", first[0].String())
	require.Equal(t, "behave: order-processing well", first[1].String())
	require.Equal(t, &Canary{Service: "payment-gateway", Version: "v2", Weight: 10, Behaviour: map[string]any{"leakBytes": 4096}}, second[0].Options)
	require.Equal(t, "canary: payment-gateway v2 gets 10 % of its calls, behaving with leakBytes", second[0].String())
	require.Equal(t, "canary: payment-gateway v2 gets 50 % of its calls", second[1].String())
	require.Equal(t, "end-canary of payment-gateway", second[2].String())
}

func TestWrongCanariesAreToldWithTheirPlace(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a service that is none":    {withSteps("{behave: {service: till}}"), `not "till"`},
		"a behaviour that is none":  {withSteps("{behave: {service: order-processing, behaviour: {errors: {rate: 2}}}}"), "behaviour is not one of the shop's (docs/shop.md): errors.rate: "},
		"a share beyond the whole":  {withSteps("{canary: {service: order-processing, weight: 101}}"), "weight should be a whole number from 0 to 100"},
		"no share":                  {withSteps("{canary: {service: order-processing}}"), "weight"},
		"no canary to end":          {withSteps("{end-canary: {service: order-processing}}"), "needs canary before it"},
		"a canary before its proxy": {strings.Replace(smallest, "- name: baseline", "- {name: a, steps: [{canary: {service: order-processing, weight: 1}}]}\n  - name: baseline", 1), "needs inject before it"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := problemsOf(t, c.text)
			require.NotEmpty(t, problems)
			var all []string
			for _, p := range problems {
				all = append(all, p.Message)
			}
			require.Contains(t, strings.Join(all, "\n"), c.want)
			require.Greater(t, problems[0].Line, 1)
		})
	}
}
