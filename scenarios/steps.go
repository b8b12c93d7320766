package scenarios

import (
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	shopchart "meshsim.dev/meshsim/fakeshop/chart"
)

// Step is one thing done to the cluster. Options is a pointer to the type that
// belongs to the step's name.
type Step struct {
	Name    string
	Options any
}

// Install puts one component of the stack on the cluster.
type Install struct{ Component string }

// MoveSecrets puts the shop's secrets into Vault.
type MoveSecrets struct{}

// Inject gives services the mesh's proxy by rolling restarts, one after
// another. No service named means all of them.
type Inject struct{ Services []string }

// AwaitAuthenticated waits until a whole cycle has passed without a call that
// was not encrypted.
type AwaitAuthenticated struct {
	Cycle time.Duration // default: one compressed day
}

// Enforce sets the default inbound policy of the services that have a proxy.
type Enforce struct {
	Policy string // default all-authenticated
}

// RestartVault deletes Vault's pod and watches it come back.
type RestartVault struct{}

// MeasureAddedLatency calls a meshed and a plain twin in turns.
type MeasureAddedLatency struct {
	Triples      int // of calls plain, meshed, plain; default 2000
	PayloadBytes int // default 512
}

// ProbePlaintext tries unencrypted calls from a pod without a proxy.
type ProbePlaintext struct{}

// stepKind is one line of the step table.
type stepKind struct {
	name string
	// read decodes the options that n holds.
	read func(d *decoder, n *yaml.Node, s *Spec) any
	// needs and gives are what must have been done before, and what is done
	// after: a component's name, or one of the words below.
	needs func(options any) []string
	gives func(options any) []string
}

// What steps give beside the components that they install.
const (
	injected       = "inject"
	enforced       = "enforce"
	addedLatency   = "measure-added-latency"
	plaintextTried = "probe-plaintext"
	vaultRestarted = "restart-vault"
)

var (
	components = []string{"metrics-server", "monitoring", "shop", "cert-manager", "vault", "issuer", "mesh", "rbac"}
	policies   = []string{"all-authenticated", "cluster-authenticated", "all-unauthenticated", "cluster-unauthenticated", "deny"}
)

// componentNeeds says what an installed component stands on.
var componentNeeds = map[string][]string{"issuer": {"cert-manager", "vault"}, "mesh": {"issuer"}}

// stepKinds is the table of known steps. A new step is a new line here and an
// executor in harness/steps.
var stepKinds = []stepKind{
	{
		name: "install", read: readInstall,
		needs: func(o any) []string { return componentNeeds[o.(*Install).Component] },
		gives: func(o any) []string { return []string{o.(*Install).Component} },
	},
	{name: "move-secrets", read: none[MoveSecrets]("move-secrets"), needs: always("vault"), gives: always()},
	{name: "inject", read: readInject, needs: always("mesh"), gives: always(injected)},
	{name: "await-authenticated", read: readAwait, needs: always("mesh", injected), gives: always()},
	{name: "enforce", read: readEnforce, needs: always("mesh", injected), gives: always(enforced)},
	{name: "restart-vault", read: none[RestartVault]("restart-vault"), needs: always("vault"), gives: always(vaultRestarted)},
	{name: "measure-added-latency", read: readMeasure, needs: always("mesh"), gives: always(addedLatency)},
	{name: "probe-plaintext", read: none[ProbePlaintext]("probe-plaintext"), needs: always("mesh"), gives: always(plaintextTried)},
}

func always(words ...string) func(any) []string {
	return func(any) []string { return words }
}

func stepNames() []string {
	names := make([]string, len(stepKinds))
	for i, k := range stepKinds {
		names[i] = k.name
	}
	return names
}

func kindOfStep(name string) (stepKind, bool) {
	i := slices.IndexFunc(stepKinds, func(k stepKind) bool { return k.name == name })
	if i < 0 {
		return stepKind{}, false
	}
	return stepKinds[i], true
}

// options reads a step's options; nothing written is no options.
func (d *decoder) options(n *yaml.Node, step string, fields map[string]field, required ...string) {
	if n.ShortTag() == "!!null" {
		n = &yaml.Node{Kind: yaml.MappingNode, Line: n.Line, Column: n.Column}
	}
	d.mapping(n, "step "+step, fields, required...)
}

// none reads a step that has no options.
func none[T any](step string) func(*decoder, *yaml.Node, *Spec) any {
	return func(d *decoder, n *yaml.Node, _ *Spec) any {
		d.options(n, step, nil)
		return new(T)
	}
}

func readInstall(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Install{}
	d.options(n, "install", map[string]field{"component": d.oneOf("component", components, &o.Component)}, "component")
	return o
}

func readInject(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Inject{}
	d.options(n, "inject", map[string]field{"services": func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode && n.Value == "all" {
			return
		}
		d.list(n, "services", func(n *yaml.Node) {
			var name string
			d.oneOf("service", shopchart.Services(), &name)(n)
			if slices.Contains(o.Services, name) {
				d.fail(n, "service %q is named twice", name)
			}
			if name != "" {
				o.Services = append(o.Services, name)
			}
		})
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			d.fail(n, "services should name at least one service, or be all")
		}
	}})
	return o
}

func readAwait(d *decoder, n *yaml.Node, s *Spec) any {
	o := &AwaitAuthenticated{Cycle: s.Traffic.CompressTo}
	d.options(n, "await-authenticated", map[string]field{"cycle": d.duration("cycle", time.Second, 24*time.Hour, &o.Cycle)})
	return o
}

func readEnforce(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Enforce{Policy: policies[0]}
	d.options(n, "enforce", map[string]field{"policy": d.oneOf("policy", policies, &o.Policy)})
	return o
}

func readMeasure(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &MeasureAddedLatency{Triples: 2000, PayloadBytes: 512}
	d.options(n, "measure-added-latency", map[string]field{
		"triples":      d.integer("triples", 100, 1_000_000, &o.Triples),
		"payloadBytes": d.integer("payloadBytes", 0, 1<<20, &o.PayloadBytes),
	})
	return o
}
