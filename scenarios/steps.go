package scenarios

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Step is one thing done to the cluster. Options is a pointer to the type that
// belongs to the step's name.
type Step struct {
	Name    string
	Options any
}

// Install puts one component of the stack on the cluster.
type Install struct {
	Component string
	HA        bool // the mesh's control plane in its highly available form
}

// UpgradeMesh upgrades the mesh's control plane by Helm.
type UpgradeMesh struct {
	Values        map[string]any // merged over the chart values of the install
	RollDataPlane bool           // restart the services with a proxy afterwards, one after another
}

// UninstallMesh takes the shop out of the mesh and removes the mesh.
type UninstallMesh struct {
	KeepCRDs bool // leave the mesh's kinds, and all that was made of them
}

// MoveSecrets puts the shop's secrets into Vault.
type MoveSecrets struct{}

// RotateSecrets renews the shop's secrets in Vault now, whatever their age.
type RotateSecrets struct{}

// Inject gives services the mesh's proxy by rolling restarts, one after
// another. No service named means all of them.
type Inject struct {
	Services []string
	Database bool // and then the database with its replica, each of one pod
}

// AwaitAuthenticated waits until a whole cycle has passed without a call that
// was not encrypted.
type AwaitAuthenticated struct {
	Cycle time.Duration // default: the traffic's own, which is a day
}

// Enforce sets the default inbound policy of the services that have a proxy.
type Enforce struct {
	Policy string // default all-authenticated
	// Callers is any (the default), or declared: then only the callers that the
	// shop declares are let in, by the mesh's own policies.
	Callers string
}

// Values of Enforce's Callers.
const (
	CallersAny      = "any"
	CallersDeclared = "declared"
)

// RestartVault deletes Vault's pod and watches it come back.
type RestartVault struct{}

// MeasureAddedLatency calls a meshed and a plain twin in turns.
type MeasureAddedLatency struct {
	Triples      int    // of calls plain, meshed, plain; default 2000
	PayloadBytes int    // default 512; 0 for path shop
	Path         string // echo (the default): one hop. shop: a whole request
}

// Values of MeasureAddedLatency's Path.
const (
	PathEcho = "echo"
	PathShop = "shop"
)

// ProbePlaintext tries unencrypted calls from a pod without a proxy.
type ProbePlaintext struct{}

// ProbeAuthorisation tries every caller at every callee, those that nobody has
// declared among them.
type ProbeAuthorisation struct{}

// stepKind is one line of the step table.
type stepKind struct {
	name string
	// read decodes the options that n holds.
	read func(d *decoder, n *yaml.Node, s *Spec) any
	// needs and gives are what must have been done before, and what is done
	// after: a component's name, or one of the words below.
	needs func(options any) []string
	gives func(options any) []string
	// takes is what is there no more afterwards; nil is nothing.
	takes func(options any) []string
}

// What steps give beside the components that they install.
const (
	injected       = "inject"
	enforced       = "enforce"
	addedLatency   = "measure-added-latency"
	addedInShop    = "measure-added-latency with path: shop"
	plaintextTried = "probe-plaintext"
	vaultRestarted = "restart-vault"
	secretsMoved   = "move-secrets"
	secretsRotated = "rotate-secrets"

	authorisationTried = "probe-authorisation"
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
	{name: "move-secrets", read: none[MoveSecrets]("move-secrets"), needs: always("vault"), gives: always(secretsMoved)},
	{name: "rotate-secrets", read: none[RotateSecrets]("rotate-secrets"), needs: always(secretsMoved), gives: always(secretsRotated)},
	{name: "inject", read: readInject, needs: always("mesh"), gives: always(injected)},
	{name: "await-authenticated", read: readAwait, needs: always("mesh", injected), gives: always()},
	{name: "enforce", read: readEnforce, needs: always("mesh", injected), gives: always(enforced)},
	{name: "restart-vault", read: none[RestartVault]("restart-vault"), needs: always("vault"), gives: always(vaultRestarted)},
	{
		name: "measure-added-latency", read: readMeasure, needs: always("mesh"),
		gives: func(o any) []string {
			if o.(*MeasureAddedLatency).Path == PathShop {
				return []string{addedInShop}
			}
			return []string{addedLatency}
		},
	},
	{name: "probe-plaintext", read: none[ProbePlaintext]("probe-plaintext"), needs: always("mesh"), gives: always(plaintextTried)},
	{
		name: "probe-authorisation", read: none[ProbeAuthorisation]("probe-authorisation"),
		needs: always("mesh", injected), gives: always(authorisationTried),
	},
	{name: "upgrade-mesh", read: readUpgrade, needs: always("mesh"), gives: always()},
	{name: "uninstall-mesh", read: readUninstall, needs: always("mesh"), gives: always(), takes: always("mesh", injected, enforced)},
	{name: "autoscale", read: readAutoscale, needs: always(), gives: always(autoscaled)},
	{name: "await-replicas", read: readAwaitReplicas, needs: always(autoscaled), gives: always()},
	{name: "restart-replica", read: readRestartReplica, needs: always(), gives: always(replicaRestarted)},
	{name: "behave", read: readBehave, needs: always(), gives: always()},
	{name: "canary", read: readCanary, needs: always("mesh", injected), gives: always(canary)},
	{name: "end-canary", read: readEndCanary, needs: always(canary), gives: always()},
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
	var ha *yaml.Node
	d.options(n, "install", map[string]field{
		"component": d.oneOf("component", components, &o.Component),
		"ha": func(n *yaml.Node) {
			ha = n
			d.boolean("ha", &o.HA)(n)
		},
	}, "component")
	if ha != nil && o.Component != "" && o.Component != "mesh" {
		d.fail(ha, "ha is for component mesh, not for %s", o.Component)
	}
	return o
}

func readUpgrade(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &UpgradeMesh{}
	d.options(n, "upgrade-mesh", map[string]field{
		"values":        d.values("values", &o.Values),
		"rollDataPlane": d.boolean("rollDataPlane", &o.RollDataPlane),
	})
	return o
}

func readUninstall(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &UninstallMesh{}
	d.options(n, "uninstall-mesh", map[string]field{"keepCRDs": d.boolean("keepCRDs", &o.KeepCRDs)})
	return o
}

// values reads chart values: a mapping whose keys are the chart's matter.
func (d *decoder) values(what string, into *map[string]any) field {
	return func(n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			d.fail(n, "%s should be a mapping, not %s", what, kindOf(n))
			return
		}
		var v map[string]any
		if err := n.Decode(&v); err != nil {
			d.fail(n, "%s cannot be read: %s", what, strings.TrimPrefix(err.Error(), "yaml: "))
			return
		}
		// What JSON cannot say, such as a key that is no text, no chart can take.
		if _, err := json.Marshal(v); err != nil {
			d.fail(n, "%s should hold keys that are texts, and plain values", what)
			return
		}
		*into = v
	}
}

// valuePaths names the values that a mapping sets, such as proxy.logLevel. It
// leaves out what they are set to.
func valuePaths(values map[string]any) []string {
	var paths []string
	for key, v := range values {
		inner, ok := v.(map[string]any)
		if !ok || len(inner) == 0 {
			paths = append(paths, key)
			continue
		}
		for _, below := range valuePaths(inner) {
			paths = append(paths, fmt.Sprintf("%s.%s", key, below))
		}
	}
	slices.Sort(paths)
	return paths
}

func readInject(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Inject{}
	d.options(n, "inject", map[string]field{
		"services": func(n *yaml.Node) { d.services(n, &o.Services) },
		"database": d.boolean("database", &o.Database),
	})
	return o
}

// services reads a list of the shop's services; all of them are none.
func (d *decoder) services(n *yaml.Node, into *[]string) {
	if n.Kind == yaml.ScalarNode && n.Value == "all" {
		return
	}
	d.list(n, "services", func(n *yaml.Node) {
		var name string
		d.service(&name)(n)
		if slices.Contains(*into, name) {
			d.fail(n, "service %q is named twice", name)
		}
		if name != "" {
			*into = append(*into, name)
		}
	})
	if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
		d.fail(n, "services should name at least one service, or be all")
	}
}

func readAwait(d *decoder, n *yaml.Node, s *Spec) any {
	o := &AwaitAuthenticated{}
	d.options(n, "await-authenticated", map[string]field{"cycle": d.duration("cycle", shortestDay, longestDay, &o.Cycle)})
	if o.Cycle > 0 || len(d.problems) > 0 { // the traffic may be what is wrong
		return o
	}
	o.Cycle = s.Traffic.Cycle().Round(time.Millisecond)
	if o.Cycle < shortestDay || o.Cycle > longestDay {
		d.fail(n, "step await-authenticated needs a cycle here, such as {cycle: 90s}: this traffic (%s) does not repeat itself within %s to %s",
			s.Traffic.Rates(), shortestDay, longestDay)
	}
	return o
}

func readEnforce(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &Enforce{Policy: policies[0], Callers: CallersAny}
	d.options(n, "enforce", map[string]field{
		"policy":  d.oneOf("policy", policies, &o.Policy),
		"callers": d.oneOf("callers", []string{CallersAny, CallersDeclared}, &o.Callers),
	})
	return o
}

func readMeasure(d *decoder, n *yaml.Node, _ *Spec) any {
	o := &MeasureAddedLatency{Triples: 2000, PayloadBytes: 512, Path: PathEcho}
	var payload *yaml.Node
	d.options(n, "measure-added-latency", map[string]field{
		"triples": d.integer("triples", 100, 1_000_000, &o.Triples),
		"payloadBytes": func(n *yaml.Node) {
			payload = n
			d.integer("payloadBytes", 0, 1<<20, &o.PayloadBytes)(n)
		},
		"path": d.oneOf("path", []string{PathEcho, PathShop}, &o.Path),
	})
	if o.Path == PathShop {
		if payload != nil {
			d.fail(payload, "payloadBytes is for path echo: a request of the shop has its own")
		}
		o.PayloadBytes = 0
	}
	return o
}
