// Package chart is the shop's Helm chart, carried inside the program.
package chart

import "embed"

// FS holds the chart: Chart.yaml, values.yaml, files and templates at its root.
//
//go:embed Chart.yaml values.yaml values.schema.json files all:templates
var FS embed.FS

// Services returns the eight services that the chart deploys, in the order in
// which a rollout takes them. Each has a Deployment, a Service and a service
// account of its name.
func Services() []string {
	return []string{
		"product-catalog", "inventory-management", "order-processing", "customer-profile",
		"payment-gateway", "configuration-engine", "recommendation-service", "analytics-service",
	}
}
