// Package chart is the shop's Helm chart, carried inside the program, and what
// the chart says of the shop's services.
package chart

import (
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"
)

// FS holds the chart: Chart.yaml, values.yaml, files and templates at its root.
//
//go:embed Chart.yaml values.yaml values.schema.json files all:templates
var FS embed.FS

// Database is the name under which the shop's database is called.
const Database = "postgres"

// Rotator is what renews the secrets: its CronJob, its service account, its role in
// Vault and its own secret there are called so.
const Rotator = "secret-rotator"

// Logins are the two database logins, by turns, of who has a secret in Vault: a
// service or the Rotator. files/rotation.sql knows names of this form alone.
func Logins(name string) [2]string {
	stem := strings.ReplaceAll(name, "-", "_")
	if name != Rotator {
		stem = "shop_" + stem
	}
	return [2]string{stem + "_a", stem + "_b"}
}

// RotationPeriod is the custom metadata of a secret in Vault in which whoever
// replaces it says how often: a duration such as 720h. A secret without it is
// replaced by nothing that anybody knows of.
const RotationPeriod = "rotation-period"

// RotationSQL is what must be in the shop's database before the rotator can work:
// a script for the superuser, which may be run again.
func RotationSQL() (string, error) {
	text, err := FS.ReadFile("files/rotation.sql")
	if err != nil {
		return "", fmt.Errorf("reading the rotator's functions: %w", err)
	}
	return string(text), nil
}

// Service is one of the shop's services. It has a Deployment, a Service and a
// service account of its name.
type Service struct {
	Name  string   `json:"name"`
	REST  []string `json:"rest"`  // paths at the edge
	GRPC  []string `json:"grpc"`  // full methods at the edge
	Calls []string `json:"calls"` // services, and Database
}

// Edge is a call between services that is allowed. All others are not.
type Edge struct{ Caller, Callee string }

// declared are the services of files/services.yaml.
var declared = sync.OnceValues(func() ([]Service, error) {
	text, err := FS.ReadFile("files/services.yaml")
	if err != nil {
		return nil, fmt.Errorf("reading the shop's services: %w", err)
	}
	var services []Service
	if err := yaml.UnmarshalStrict(text, &services); err != nil {
		return nil, fmt.Errorf("reading the shop's services: %w", err)
	}
	return services, nil
})

// Declared returns the services in the order in which a rollout takes them.
func Declared() ([]Service, error) {
	services, err := declared()
	return slices.Clone(services), err
}

// Services returns the names of the services, in the order in which a rollout
// takes them. What it reads is part of the program, so that a test can see to it
// that it can be read.
func Services() []string {
	services, _ := declared()
	names := make([]string, len(services))
	for i, s := range services {
		names[i] = s.Name
	}
	return names
}

// Edges returns the allowed calls, of which the authorisation matrix consists;
// calls to the Database are among them.
func Edges() []Edge {
	services, _ := declared()
	var edges []Edge
	for _, s := range services {
		for _, callee := range s.Calls {
			edges = append(edges, Edge{Caller: s.Name, Callee: callee})
		}
	}
	return edges
}

// Allowed tells whether a service may call another one, or the Database.
func Allowed(caller, callee string) bool {
	return slices.Contains(Edges(), Edge{Caller: caller, Callee: callee})
}

// GiveUpAfter is how old an order gets whose payment cannot be resolved before the
// shop cancels it: by values, or by the chart's own where they do not say.
func GiveUpAfter(values map[string]any) (time.Duration, error) {
	text, err := FS.ReadFile("values.yaml")
	if err != nil {
		return 0, fmt.Errorf("reading the shop's values: %w", err)
	}
	var standard map[string]any
	if err := yaml.Unmarshal(text, &standard); err != nil {
		return 0, fmt.Errorf("reading the shop's values: %w", err)
	}
	for _, v := range []map[string]any{values, standard} {
		orders, _ := v["orders"].(map[string]any)
		if after, ok := orders["giveUpAfter"].(string); ok {
			d, err := time.ParseDuration(after)
			if err != nil {
				return 0, fmt.Errorf("orders.giveUpAfter: %w", err)
			}
			return d, nil
		}
	}
	return 0, errors.New("the shop's values have no orders.giveUpAfter")
}
