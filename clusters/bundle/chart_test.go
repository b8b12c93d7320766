package bundle

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

func chartSources(t *testing.T) string {
	t.Helper()
	deploy := t.TempDir()
	for name, text := range map[string]string{
		"charts/some/Chart.template.yaml":  "apiVersion: v1\nname: some\nversion: v0.1.0\nappVersion: v0.1.0\nannotations: {a: \"{{IS_PRERELEASE}}\"}\n",
		"charts/some/values.yaml":          "installCRDs: false\n",
		"charts/some/templates/a.yaml":     "version: {{ .Chart.AppVersion }}\n",
		"charts/some/templates/_names.tpl": "{{ define \"name\" }}some{{ end }}",
		"crds/crd-b.yaml":                  "kind: B\nname: {{ template \"name\" . }}\n",
		"crds/crd-a.yaml":                  "kind: A\n",
		"crds/README.md":                   "not a CRD\n",
	} {
		put(t, filepath.Join(deploy, name), text)
	}
	return deploy
}

func TestAChartFromSourcesHasItsVersionAndItsCRDsWhenAsked(t *testing.T) {
	out := t.TempDir()
	require.NoError(t, assembleChart(chartSources(t), "some", "v1.11.5", out))
	c, err := loader.Load(out)
	require.NoError(t, err)
	require.Equal(t, "v1.11.5", c.Metadata.Version)
	require.Empty(t, c.Metadata.Annotations)
	for install, want := range map[bool]string{true: "\nkind: A\n---\nkind: B\nname: some\n", false: ""} {
		values, err := chartutil.ToRenderValues(c, map[string]any{"installCRDs": install}, chartutil.ReleaseOptions{}, nil)
		require.NoError(t, err)
		rendered, err := engine.Render(c, values)
		require.NoError(t, err)
		require.Equal(t, "version: v1.11.5\n", rendered["some/templates/a.yaml"])
		require.Equal(t, want, trimEnd(rendered["some/templates/crds.yaml"]))
	}
}

func trimEnd(s string) string {
	for len(s) > 1 && s[len(s)-1] == '\n' && s[len(s)-2] == '\n' || s == "\n" {
		s = s[:len(s)-1]
	}
	return s
}

func TestAChartWithAPartMissingIsAnError(t *testing.T) {
	require.Error(t, assembleChart(t.TempDir(), "some", "v1", t.TempDir()))
	_, err := joinCRDs(t.TempDir())
	require.ErrorContains(t, err, "no CRDs")
	_, err = fillChart([]byte("a: 1"), "v1")
	require.ErrorContains(t, err, "names no chart")
}
