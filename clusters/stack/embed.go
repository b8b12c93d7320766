package stack

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"

	"helm.sh/helm/v3/pkg/chart"
)

// Our own charts, and the manifests that are applied without Helm.
//
//go:embed all:charts manifests
var files embed.FS

func ownChart(name string) (*chart.Chart, error) { return chartFromFS(files, "charts/"+name) }

// manifest fills a file of manifests/ with data. A value that data lacks is an error.
func manifest(name string, data any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(files, "manifests/"+name)
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", name, err)
	}
	return out.Bytes(), nil
}
