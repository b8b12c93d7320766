// Package crds holds the Helm chart of the stand-in's custom resources. They
// are templates, so that an uninstall takes them away.
package crds

import "embed"

// FS is the chart: Chart.yaml, values.yaml, templates.
//
//go:embed all:Chart.yaml all:values.yaml all:templates
var FS embed.FS
