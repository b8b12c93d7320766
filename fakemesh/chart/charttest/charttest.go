// Package charttest renders the stand-in's charts for their tests.
package charttest

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

// Render gives a chart's manifests by kind/name, as release in the namespace linkerd.
func Render(t *testing.T, tree fs.FS, release string, values map[string]any) (map[string]string, error) {
	t.Helper()
	var files []*loader.BufferedFile
	err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(tree, path)
		files = append(files, &loader.BufferedFile{Name: path, Data: text})
		return err
	})
	require.NoError(t, err)
	c, err := loader.LoadFiles(files)
	require.NoError(t, err)
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: release, Namespace: "linkerd", IsInstall: true}, nil)
	require.NoError(t, err)
	out, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	docs := map[string]string{}
	for _, text := range out {
		for _, doc := range strings.Split(text, "\n---\n") {
			var meta struct {
				Kind     string
				Metadata struct{ Name string }
			}
			require.NoError(t, yaml.Unmarshal([]byte(doc), &meta), doc)
			if meta.Kind != "" {
				require.NotContains(t, docs, meta.Kind+"/"+meta.Metadata.Name, "a manifest is there twice")
				docs[meta.Kind+"/"+meta.Metadata.Name] = doc
			}
		}
	}
	return docs, nil
}
