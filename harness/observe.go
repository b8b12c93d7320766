package harness

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/stack"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/harness/steps"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/budget"
)

// scrapeInterval is how far Prometheus may lag behind the proxies' counters.
const scrapeInterval = 5 * time.Second

// observePhase looks at what a phase leaves: autoscalers and the database's
// replica where there are some, calls with and without mTLS and what the proxies
// use, from the moment that there are proxies to tell, and the answers to the
// budgets' own queries.
func (r *rehearsal) observePhase(ctx context.Context, phase string, lasted time.Duration) error {
	if err := r.observeScale(ctx, phase); err != nil {
		return err
	}
	queries, meshed := queriesOf(r.Scenario, phase), len(r.env.Rollout.Injected()) > 0
	if !meshed && len(queries) == 0 {
		return nil
	}
	if err := pause.For(ctx, scrapeInterval); err != nil {
		return err
	}
	if meshed {
		if err := r.probe(ctx, results.ProbeMTLS, func(ctx context.Context) (any, error) {
			return probes.MTLS(ctx, r.kube, phase, lasted)
		}); err != nil {
			return err
		}
		now := r.record.now()
		if err := r.probe(ctx, results.ProbeResources, func(ctx context.Context) (any, error) {
			return r.meter.Read(ctx, phase, now-int64(lasted), now)
		}); err != nil {
			return err
		}
	}
	for _, query := range queries {
		if err := r.probe(ctx, results.ProbePromQL, func(ctx context.Context) (any, error) {
			return probes.Ask(ctx, r.kube, query, phase, lasted)
		}); err != nil {
			return err
		}
	}
	return nil
}

// followHost begins to follow how busy the host's CPUs are, second by second, until
// ctx ends.
func (r *rehearsal) followHost(ctx context.Context, following *sync.WaitGroup) {
	meter, err := probes.NewHostMeter("/proc", time.Now)
	if err != nil {
		r.run.Notes = append(r.run.Notes, "how busy the host is was not followed: "+err.Error())
		return
	}
	r.host = meter
	following.Go(func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		if err := meter.Follow(ctx, ticker.C, r.record.now); err != nil {
			r.record.event(results.Event{Kind: results.Warning, Name: "the host is not followed any more", Detail: err.Error()})
		}
	})
}

// observeHost looks at how busy the host was through a phase: on one that is, a
// slow answer is not the shop's alone.
func (r *rehearsal) observeHost(ctx context.Context) error {
	if r.host == nil {
		return nil
	}
	return r.probe(ctx, results.ProbeHostLoad, func(context.Context) (any, error) { return r.host.Read() })
}

// observeScale looks at autoscalers, and at the replica of the database.
func (r *rehearsal) observeScale(ctx context.Context, phase string) error {
	if r.env.Rollout.Autoscaled() {
		if err := r.probe(ctx, results.ProbeAutoscaling, func(ctx context.Context) (any, error) {
			return probes.Autoscaling(ctx, r.kube.Clientset, phase)
		}); err != nil {
			return err
		}
	}
	if !r.Scenario.Spec.Shop.DatabaseReplica {
		return nil
	}
	return r.probe(ctx, results.ProbeReplication, func(ctx context.Context) (any, error) {
		return probes.Replication(ctx, r.database(), probes.PSQL{Exec: r.kube.Exec, Replica: true}, phase)
	})
}

// queriesOf returns the queries that budgets ask at the end of a phase.
func queriesOf(s *scenarios.Scenario, phase string) []string {
	var queries []string
	for _, b := range s.Spec.Budgets {
		if b.Subject == budget.PromQL && b.Covers(phase) && !slices.Contains(queries, b.Query) {
			queries = append(queries, b.Query)
		}
	}
	return queries
}

// sealInterval is how often Vault is asked for its seal.
const sealInterval = 2 * time.Second

// installs tells whether the scenario puts a component on the cluster.
func installs(s *scenarios.Scenario, component string) bool {
	return slices.ContainsFunc(s.Spec.Phases, func(p scenarios.Phase) bool {
		return slices.ContainsFunc(p.Steps, func(step scenarios.Step) bool {
			o, ok := step.Options.(*scenarios.Install)
			return ok && o.Component == component
		})
	})
}

// observe looks at what the rehearsal has left: the order ledger first, proxies,
// the issuer's certificate. It changes nothing.
func (r *rehearsal) observe(ctx context.Context, l limits) error {
	orders, err := probes.ReadOrders(r.folder)
	if err != nil {
		return err
	}
	looks := []struct {
		name string
		when bool
		take func(context.Context) (any, error)
	}{
		{results.ProbeLedger, true, func(ctx context.Context) (any, error) {
			return probes.Ledger(ctx, r.database(), orders, l.settle)
		}},
		{results.ProbeInjection, meshStands(r.Scenario), func(ctx context.Context) (any, error) {
			return probes.Injection(ctx, r.kube.Clientset)
		}},
		{results.ProbeIssuer, meshStands(r.Scenario), func(ctx context.Context) (any, error) {
			return probes.Issuer(ctx, r.kube.Clientset, r.kube.Dynamic)
		}},
		{results.ProbeLeaves, meshStands(r.Scenario), func(ctx context.Context) (any, error) {
			return probes.Leaves(ctx, r.kube.Clientset, r.kube, time.Now())
		}},
		{results.ProbeVaultSeal, installs(r.Scenario, "vault"), func(context.Context) (any, error) {
			return r.seal.Seen(), nil
		}},
		{results.ProbeVaultAudit, r.audit != nil, r.observeAudit},
		{results.ProbeVaultRotation, r.env.Rollout.SecretsMoved() || installs(r.Scenario, "issuer"), r.rotation},
	}
	for _, look := range looks {
		if !look.when {
			continue
		}
		if err := r.probe(ctx, look.name, within(l.probe, look.take)); err != nil {
			return err
		}
	}
	if !meshStands(r.Scenario) {
		return nil
	}
	for _, dataPlane := range []bool{false, true} {
		if err := steps.CheckMesh(ctx, r.env, "in the end", dataPlane); err != nil {
			return err
		}
	}
	return nil
}

// within has an observation end after a while, unless limit is 0.
func within(limit time.Duration, take func(context.Context) (any, error)) func(context.Context) (any, error) {
	if limit == 0 {
		return take
	}
	return func(ctx context.Context) (any, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s", limit))
		defer cancel()
		return take(ctx)
	}
}

// givingUp is how long the shop may take to look for orders that it gives up, and
// to cancel them.
const givingUp = time.Minute

// orderPatience is how long the shop may leave orders open after the last request.
func orderPatience(s *scenarios.Scenario) (time.Duration, error) {
	after, err := shopchart.GiveUpAfter(s.Spec.Shop.Values)
	return after + givingUp, err
}

// rotation looks how old what Vault keeps is. What the scenario has not put there
// is not looked for.
func (r *rehearsal) rotation(ctx context.Context) (any, error) {
	var stored []stack.StoredSecret
	var issuer *results.Issuer
	var err error
	if r.env.Rollout.SecretsMoved() {
		if stored, err = stack.StoredSecrets(ctx, r.stack); err != nil {
			return nil, err
		}
	}
	anchor, err := stack.TrustAnchor(ctx, r.stack)
	if err != nil {
		return nil, err
	}
	if meshStands(r.Scenario) {
		seen, err := probes.Issuer(ctx, r.kube.Clientset, r.kube.Dynamic)
		if err != nil {
			return nil, err
		}
		issuer = &seen
	}
	return probes.Rotation(stored, anchor, issuer, time.Now())
}

// probe takes one observation. One that could not be taken is a warning in the
// record and leaves its budget without data, so inconclusive; only the end of
// ctx stops the run.
func (r *rehearsal) probe(ctx context.Context, name string, take func(context.Context) (any, error)) error {
	task := r.Progress.Start("probe " + name)
	data, err := take(ctx)
	if err == nil {
		task.Done("")
		return r.record.Probe(name, data)
	}
	task.Fail(err)
	r.record.Warn(results.ProbeWarning(name), fmt.Sprintf("could not be taken: %v", err))
	return context.Cause(ctx)
}

// meshStands tells whether the scenario leaves a mesh on the cluster.
func meshStands(s *scenarios.Scenario) (stands bool) {
	for _, phase := range s.Spec.Phases {
		for _, step := range phase.Steps {
			switch o := step.Options.(type) {
			case *scenarios.Install:
				stands = stands || o.Component == "mesh"
			case *scenarios.UninstallMesh:
				stands = false
			}
		}
	}
	return stands
}

func (r *rehearsal) database() probes.Database { return probes.PSQL{Exec: r.kube.Exec} }
