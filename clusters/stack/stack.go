// Package stack installs what a rehearsal needs on a cluster: the shop,
// cert-manager, Vault, the issuer of the mesh's identities, the mesh itself,
// monitoring and access rules. Each part is a Component; charts go through
// Helm's SDK, the rest is applied on the server's side.
//
// No secret is written to a log, an error or a Helm value. What must be secret
// is made in this process and handed on through the API server alone.
package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/topology"
)

// The namespaces of a rehearsal.
const (
	NamespaceMesh        = "linkerd"
	NamespaceCertManager = "cert-manager"
	NamespaceVault       = "vault"
	NamespaceShop        = "prod-app"
	NamespaceMonitoring  = "monitoring"
	namespaceSystem      = "kube-system"
)

// TrustDomain is what the mesh's identities end with, and the cluster's own domain.
const TrustDomain = "cluster.local"

// Images finds what the bundle holds. *bundle.Bundle is one.
type Images interface {
	Image(name string) (bundle.Image, error)
	Chart(name string) (dir string, err error)
}

// Env is what components are installed with.
type Env struct {
	Kube        *kube.Client
	Images      Images
	Fit         topology.Fit
	KMSEndpoint string // URL of AWS KMS or its stand-in, as pods reach it
	Mesh        string // MeshLinkerd or MeshStandIn
	HA          bool   // the mesh's control plane in its highly available form
	Kubeconfig  string // path
	Log         *slog.Logger
	Progress    *progress.Reporter
	// Values are merged over each component's own chart values, by component name.
	Values map[string]map[string]any

	// Edges that tests replace; nil and 0 are the real ones.
	releases  releaser
	dialVault func(context.Context) (net.Conn, error)
	exec      Exec
	patience  time.Duration
}

// Component is one part of the stack. Install is idempotent and returns when
// everything has been asked for; Ready waits until it works; Remove is
// idempotent and leaves nothing of it behind.
type Component interface {
	Name() string
	Install(ctx context.Context, env *Env) error
	Ready(ctx context.Context, env *Env) error
	Remove(ctx context.Context, env *Env) error
}

// Components returns every component in the order in which they can be
// installed. Remove them in the opposite order.
func Components() []Component {
	return []Component{
		reported{Component: metricsServer{}},
		reported{Component: monitoring{}},
		// The shop is installed again and again while its services are rolled
		// one by one; only its Ready is worth a line.
		reported{Component: shop{}, quietInstall: true},
		reported{Component: certManager{}},
		reported{Component: vault{}},
		reported{Component: issuer{}},
		reported{Component: mesh{}},
		reported{Component: access{}},
	}
}

// ByName returns one component; the error lists those there are.
func ByName(name string) (Component, error) {
	var names []string
	for _, c := range Components() {
		if c.Name() == name {
			return c, nil
		}
		names = append(names, c.Name())
	}
	return nil, fault.NewInvalid(fmt.Errorf("there is no component %q", name), "components are "+strings.Join(names, ", "))
}

// How long a part may take before it counts as failed. A small host that pulls
// and starts everything at once is slow, not broken.
const (
	readyWithin  = 6 * time.Minute
	removeWithin = 4 * time.Minute
)

// reported shows a component's work and gives its errors their kind.
type reported struct {
	Component
	quietInstall bool
}

func (r reported) Install(ctx context.Context, env *Env) error {
	if r.quietInstall {
		return r.limit(ctx, env.within(readyWithin), "install", func(ctx context.Context) error { return r.Component.Install(ctx, env) })
	}
	return r.report(ctx, env, env.within(readyWithin), "install", r.Component.Install)
}

func (r reported) Ready(ctx context.Context, env *Env) error {
	return r.report(ctx, env, env.within(readyWithin), "wait for", r.Component.Ready)
}

func (r reported) Remove(ctx context.Context, env *Env) error {
	return r.report(ctx, env, env.within(removeWithin), "remove", r.Component.Remove)
}

func (r reported) report(ctx context.Context, env *Env, within time.Duration, verb string, do func(context.Context, *Env) error) error {
	task := env.reporter().Start(verb + " " + r.Name())
	err := r.limit(ctx, within, verb, func(ctx context.Context) error { return do(ctx, env) })
	if err != nil {
		task.Fail(err)
		return err
	}
	task.Done("")
	return nil
}

func (r reported) limit(ctx context.Context, within time.Duration, verb string, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := do(limited)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s %s: %w", verb, r.Name(), err)
	if ctx.Err() != nil || fault.KindOf(err) != 0 {
		return err // interrupted, or its kind is known already
	}
	return fault.NewEnvironment(err, "look at the cluster with kubectl, then run the same command again; `meshsim down` begins anew")
}

func (e *Env) reporter() *progress.Reporter {
	if e.Progress == nil {
		return progress.Discard()
	}
	return e.Progress
}

func (e *Env) logger() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

func (e *Env) within(d time.Duration) time.Duration {
	if e.patience > 0 {
		return e.patience
	}
	return d
}

// until calls try until it succeeds or ctx ends; the error then holds the last
// one that try gave.
func until(ctx context.Context, what string, every time.Duration, try func(context.Context) error) error {
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if last == nil || !cutOff(err) {
			last = err
		}
		if wait := pause.For(ctx, every); wait != nil {
			return fmt.Errorf("%s: %w; last: %w", what, wait, last)
		}
	}
}

// cutOff tells an error that says nothing of what was waited for: there was no
// time left to ask. client-go's rate limiter has no error value of its own for it.
func cutOff(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		strings.Contains(err.Error(), "would exceed context deadline")
}
