// Package chart is the shop's Helm chart, carried inside the program.
package chart

import "embed"

// FS holds the chart: Chart.yaml, values.yaml, files and templates at its root.
//
//go:embed Chart.yaml values.yaml values.schema.json files all:templates
var FS embed.FS
