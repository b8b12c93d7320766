// Package chart holds the Helm chart of the stand-in's control plane.
package chart

import "embed"

// FS is the chart: Chart.yaml, values.yaml, templates.
//
//go:embed all:Chart.yaml all:values.yaml all:templates
var FS embed.FS
