package scenarios

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// withSteps is a scenario whose phases do the steps given, after a mesh is there.
func withSteps(steps ...string) string {
	text := strings.Replace(smallest, "  - name: baseline\n", `  - name: stack
    steps: [{install: {component: cert-manager}}, {install: {component: vault}}, {install: {component: issuer}}, {install: {component: mesh}}, inject]
PHASES`, 1)
	var phases strings.Builder
	for i, s := range steps {
		phases.WriteString("  - name: p" + string(rune('1'+i)) + "\n    steps: [" + s + "]\n")
	}
	return strings.Replace(text, "PHASES", phases.String(), 1)
}

func TestTheMeshCanBeInstalledHighlyAvailableUpgradedAndRemoved(t *testing.T) {
	text := withSteps("{upgrade-mesh: {values: {proxy: {logLevel: debug, cores: 2}, podLabels: {}}, rollDataPlane: true}}, upgrade-mesh", "uninstall-mesh: {keepCRDs: true}", "{install: {component: mesh, ha: true}}, inject, uninstall-mesh")
	s, err := Parse("demo.yaml", []byte(text))
	require.NoError(t, err)
	upgrade := s.Spec.Phases[1].Steps
	require.Equal(t, &UpgradeMesh{Values: map[string]any{"proxy": map[string]any{"logLevel": "debug", "cores": 2}, "podLabels": map[string]any{}}, RollDataPlane: true}, upgrade[0].Options)
	require.Equal(t, "upgrade-mesh with other podLabels, proxy.cores, proxy.logLevel, then restart the services with a proxy", upgrade[0].String())
	require.Equal(t, "upgrade-mesh as it is", upgrade[1].String())
	require.Equal(t, "uninstall-mesh, leaving its CRDs", s.Spec.Phases[2].Steps[0].String())
	last := s.Spec.Phases[3].Steps
	require.Equal(t, &Install{Component: "mesh", HA: true}, last[0].Options)
	require.Equal(t, &UninstallMesh{}, last[2].Options)
	var b strings.Builder
	require.NoError(t, s.Explain(&b))
	require.Contains(t, b.String(), "p3: install mesh, highly available\n")
}

func TestWrongMeshStepsAreToldWithTheirPlace(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"ha of something else":     {withSteps("{install: {component: vault, ha: true}}"), "ha is for component mesh, not for vault"},
		"ha that is no truth":      {withSteps("{install: {component: mesh, ha: 3}}"), "ha should be true or false, not the number 3"},
		"values that are none":     {withSteps("{upgrade-mesh: {values: [a]}}"), "values should be a mapping, not a list"},
		"values with odd keys":     {withSteps("{upgrade-mesh: {values: {a: {1: b}}}}"), "values should hold keys that are texts, and plain values"},
		"an unknown option":        {withSteps("{uninstall-mesh: {keepCrds: true}}"), `unknown key "keepCrds" in step uninstall-mesh; known are: keepCRDs`},
		"an upgrade of nothing":    {strings.Replace(smallest, "- name: baseline", "- {name: a, steps: [upgrade-mesh]}", 1), "needs install mesh before it"},
		"inject after its removal": {withSteps("uninstall-mesh, inject"), "step inject all services needs install mesh before it, as uninstall-mesh took it away"},
		"enforce without proxies":  {withSteps("uninstall-mesh, {install: {component: mesh}}, enforce"), "step enforce all-authenticated needs inject before it, as uninstall-mesh took it away"},
		"pods counted in the end":  {strings.Replace(withSteps("uninstall-mesh"), "failed requests = 0", "injected pods = 100%", 1), "measured in the end, and uninstall-mesh has taken the mesh away by then"},
		"calls counted without":    {strings.Replace(withSteps("uninstall-mesh", "move-secrets"), "failed requests = 0", "mtls calls = 100% in p2", 1), `phase "p2" comes after uninstall-mesh`},
		"an issuer without a mesh": {strings.Replace(withSteps("uninstall-mesh"), "failed requests = 0", "issuer certificate lasts 90d, renewed 7d early", 1), "measured in the end"},
	} {
		t.Run(name, func(t *testing.T) {
			problems := problemsOf(t, c.text)
			require.Len(t, problems, 1, "%+v", problems)
			require.Contains(t, problems[0].Message, c.want)
			require.Greater(t, problems[0].Line, 1)
		})
	}
	require.Empty(t, problemsOf(t, strings.Replace(withSteps("uninstall-mesh, {install: {component: mesh}}, inject"), "failed requests = 0", "injected pods = 100%\n  - mtls calls = 100% in p1", 1)))
}
