package scenarios

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestScalingStepsAreRead(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(withSteps(
		"{autoscale: {service: product-catalog}}, {autoscale: {service: order-processing, most: 7, scaleDownAfter: 30s}}",
		"{await-replicas: {service: product-catalog, atLeast: 4}}, {await-replicas: {service: product-catalog, atMost: 3, within: 90s}}",
	)))
	require.NoError(t, err)
	require.True(t, s.Autoscales())
	first, second := s.Spec.Phases[1].Steps, s.Spec.Phases[2].Steps
	require.Equal(t, &Autoscale{Service: "product-catalog", Most: 5, ScaleDownAfter: 5 * time.Minute}, first[0].Options)
	require.Equal(t, &Autoscale{Service: "order-processing", Most: 7, ScaleDownAfter: 30 * time.Second}, first[1].Options)
	require.Equal(t, "autoscale: order-processing up to 7 pods, and down after 30s of less load", first[1].String())
	out, back := second[0].Options.(*AwaitReplicas), second[1].Options.(*AwaitReplicas)
	require.Equal(t, &AwaitReplicas{Service: "product-catalog", AtLeast: 4, Within: 4 * time.Minute}, out)
	require.Equal(t, &AwaitReplicas{Service: "product-catalog", AtMost: 3, Within: 90 * time.Second}, back)
	require.Equal(t, "await-replicas: until product-catalog has at least 4 pods, within 4m0s", second[0].String())
	require.Equal(t, []bool{false, true, true, false}, []bool{out.Reached(3), out.Reached(4), back.Reached(3), back.Reached(4)})

	s, err = Load("journeys-ci")
	require.NoError(t, err)
	require.False(t, s.Autoscales())
}

func TestWrongScalingIsToldWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no service":                    {withSteps("{autoscale: {most: 3}}"), `step autoscale needs the key "service"`},
		"a service that is none":        {withSteps("{autoscale: {service: till}}"), `not "till"`},
		"fewer than one pod":            {withSteps("{autoscale: {service: product-catalog, most: 0}}"), "most should be a whole number from 1 to 50"},
		"nothing to wait for":           {withSteps("{autoscale: {service: product-catalog}}, {await-replicas: {service: product-catalog}}"), "wants atLeast or atMost, one of them"},
		"two things to wait for":        {withSteps("{autoscale: {service: product-catalog}}, {await-replicas: {service: product-catalog, atLeast: 2, atMost: 3}}"), "wants atLeast or atMost, one of them"},
		"waiting without an autoscaler": {withSteps("{await-replicas: {service: product-catalog, atLeast: 2}}"), "needs autoscale before it"},
		"no replica to restart":         {withSteps("restart-replica"), "add databaseReplica: true to the scenario's shop"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := problemsOf(t, c.text)
			var all []string
			for _, p := range problems {
				all = append(all, p.Message)
			}
			require.Contains(t, strings.Join(all, "\n"), c.want)
			require.Greater(t, problems[0].Line, 1)
		})
	}
}
