package scenarios

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// withAgents is a scenario that installs a mesh in its second phase.
func withAgents(traffic string) string {
	return `apiVersion: meshsim.dev/v1alpha1
kind: Scenario
metadata: {name: demo}
spec:
  traffic:
    ` + strings.ReplaceAll(strings.TrimSpace(traffic), "\n", "\n    ") + `
  phases:
  - name: before
  - name: mesh
    steps: [{install: {component: cert-manager}}, {install: {component: vault}}, {install: {component: issuer}}, {install: {component: mesh}}, {inject: {services: all}}, {enforce: {policy: all-authenticated}}]
  - name: after
  budgets: [failed requests = 0]
`
}

func TestAgentsAreReadWithTheirDefaults(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(withAgents(`
agents:
- {name: a, meshed: false, share: 25%}
- {name: b, count: 4, meshed: true, zone: eu-central-1a, target: product-catalog/GetProduct, rate: 90/min, from: after}
`)))
	require.NoError(t, err)
	require.Equal(t, []Agents{
		{Name: "a", Count: 1, Target: "edge", Share: 0.25},
		{Name: "b", Count: 4, Meshed: true, Zone: "eu-central-1a", Target: "product-catalog/GetProduct", Rate: 1.5, From: "after"},
	}, s.Spec.Traffic.Agents)
	require.Equal(t, "a: 1 unmeshed, 25% of the traffic to edge", s.Spec.Traffic.Agents[0].String())
	require.Equal(t, "b: 4 meshed in eu-central-1a, 1.5 requests a second to product-catalog/GetProduct, from after on", s.Spec.Traffic.Agents[1].String())
	var said bytes.Buffer
	require.NoError(t, s.Explain(&said))
	require.Contains(t, said.String(), s.Spec.Traffic.Agents[1].String())
}

func TestAgentsThatCannotBeMeantAreAllTold(t *testing.T) {
	for name, c := range map[string]struct {
		traffic string
		want    []string
	}{
		"keys and types": {"agents: [{name: A, meshed: maybe, share: 0%, colour: red}]", []string{
			`name "A" should be lower-case`, "meshed should be true or false", "share should be more than 0%", `unknown key "colour"`}},
		"no meshed":               {"agents: [{name: a, share: 10%}]", []string{`needs the key "meshed"`}},
		"no load":                 {"agents: [{name: a, meshed: false}]", []string{"need a share of the traffic"}},
		"two loads":               {"agents: [{name: a, meshed: false, share: 10%, rate: 5}]", []string{"not both"}},
		"no such target":          {"agents: [{name: a, meshed: false, rate: 5, target: payment-gateway/Charge}]", []string{"target should be one of edge, product-catalog/GetProduct"}},
		"a share of direct calls": {"agents: [{name: a, meshed: false, share: 5%, target: product-catalog/GetProduct}]", []string{"give them a rate"}},
		"two of a name, and too much together": {"agents: [{name: a, meshed: false, share: 60%}, {name: a, meshed: false, share: 60%}]", []string{
			`two groups of agents are named "a"`, "120% together"}},
		"a phase that is not there": {"agents: [{name: a, meshed: false, share: 10%, from: never}]", []string{`there is no phase "never"; there are: before, mesh, after`}},
		"no mesh yet":               {"agents: [{name: a, meshed: true, share: 10%, from: mesh}]", []string{"there is no mesh when they begin"}},
		"too many":                  {"agents: [{name: a, count: 150, meshed: false, share: 10%}, {name: b, count: 51, meshed: false, rate: 1}]", []string{"at most 200 agents, not 201"}},
		"anchors in the shape":      {"shape: {sum: [&x {constant: 1}, *x]}\nagents: [{name: a, meshed: false, share: 10%}]", nil},
		"a long name":               {"agents: [{name: a-name-that-goes-on-and-on-and-on-and-on-and, meshed: false, share: 10%}]", []string{"at most 40 characters"}},
	} {
		_, err := Parse("demo.yaml", []byte(withAgents(c.traffic)))
		if c.want == nil {
			require.NoError(t, err, name)
		}
		for _, want := range c.want {
			require.ErrorContains(t, err, want, name)
		}
	}
}

func TestUnmeshedAgentsThatWillBeRefusedAreWarnedOf(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(withAgents("agents: [{name: a, meshed: false, rate: 5, target: product-catalog/GetProduct}]")))
	require.NoError(t, err)
	require.Contains(t, strings.Join(s.Warnings, "\n"), "the unmeshed agents a call product-catalog/GetProduct, which refuses them once phase mesh enforces all-authenticated")
}

func TestAShapeCanBeHandedOn(t *testing.T) {
	s, err := Parse("demo.yaml", []byte(withAgents("shape: {sum: [launch-day, {ramp: {from: 1, to: 9, over: 1m}}]}")))
	require.NoError(t, err)
	again, err := ParseShape("x", s.Spec.Traffic.ShapeText, s.Spec.Traffic)
	require.NoError(t, err)
	require.Equal(t, s.Spec.Traffic.Shape, again)
}

func TestEveryDirectRouteIsFoundAndNoneIsOfTheMix(t *testing.T) {
	for _, r := range DirectRoutes() {
		found, ok := FindRoute(r.Name)
		require.True(t, ok)
		require.Equal(t, r, found)
		_, err := Parse("demo.yaml", []byte(withAgents("mix: {"+r.Name+": 1}")))
		require.ErrorContains(t, err, "unknown key")
	}
	_, ok := FindRoute("unheard-of")
	require.False(t, ok)
}
