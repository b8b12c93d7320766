// Package harness is the rehearsal itself: it brings the shop to its starting
// point, sends traffic, does the scenario's steps while watching, and leaves a
// run folder that says what was seen. It judges nothing; harness/verdict does,
// from the folder alone.
package harness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/kube"
	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/stack"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/harness/probes"
	"meshsim.dev/meshsim/harness/steps"
	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/harness/traffic/agents"
	"meshsim.dev/meshsim/harness/watch"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

// Options say what to rehearse and where.
type Options struct {
	Scenario *scenarios.Scenario
	Cluster  *kind.Cluster
	Bundle   *bundle.Bundle
	Mesh     string // linkerd | fakemesh
	RunsDir  string // run folders are made below it
	Undo     bool   // undo the steps at the end; else the cluster stays as rehearsed
	Tool     string // meshsim's own version, for the record
	Runner   command.Runner
	Log      *slog.Logger
	Progress *progress.Reporter
}

// Run rehearses the scenario on a standing cluster and returns the path of the
// run folder, also when it fails after the folder was made. A step that fails
// ends the rehearsal: the error is returned and stands in run.json.
func Run(ctx context.Context, o Options) (path string, err error) {
	r, err := newRehearsal(ctx, o)
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, r.finish(ctx, err))
	}()
	if err := r.reset(ctx); err != nil {
		return r.folder.Path, err
	}
	return r.folder.Path, r.rehearse(ctx)
}

// rehearsal is one run under way.
type rehearsal struct {
	Options
	kube      *kube.Client
	stack     *stack.Env
	folder    *results.Folder
	record    *recorder
	env       *steps.Env
	run       results.Run
	undo      []steps.Undoer
	fleet     *agents.Fleet // nil when the scenario has no agents
	concluded bool          // the phases have ended, early or not
	early     limits        // where they end early

	host  *probes.HostMeter // nil where the kernel does not tell
	meter *probes.ResourceMeter
	seal  *probes.SealWatch

	capture     *capture // nil when the wire is not followed
	stopCapture context.CancelFunc
	identities  probes.Serials // that the proxies have shown so far

	webhooks *probes.WebhookWatch
	audit    *probes.AuditBook // nil when Vault is not installed
}

func newRehearsal(ctx context.Context, o Options) (*rehearsal, error) {
	client, err := kube.New(o.Cluster.Kubeconfig)
	if err != nil {
		return nil, err
	}
	run, err := describe(ctx, o, client)
	if err != nil {
		return nil, err
	}
	folder, err := results.Create(o.RunsDir, run.ID)
	if err != nil {
		return nil, err
	}
	if err := folder.WriteRun(run); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	r := &rehearsal{Options: o, kube: client, folder: folder, record: newRecorder(folder), run: run, identities: probes.Serials{}, early: earlyLimits()}
	r.meter = probes.NewResourceMeter(client.Clientset, client.KubeletSummary)
	r.seal = probes.NewSealWatch(client, sealInterval, r.record.now)
	r.stack = &stack.Env{
		Kube: client, Images: o.Bundle, Fit: o.Cluster.Fit, KMSEndpoint: o.Cluster.KMSEndpoint,
		Mesh: o.Mesh, Kubeconfig: o.Cluster.Kubeconfig, Log: o.Log, Progress: o.Progress,
		Values: stackValues(o.Scenario),
	}
	shop, err := stack.ByName("shop")
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	r.env = &steps.Env{
		Kube: client, Stack: r.stack, Rollout: steps.NewRollout(shop, shopchart.Services()),
		Record: r.record, Runner: o.Runner, Log: o.Log, Progress: o.Progress,
	}
	return r, nil
}

// rehearse sends traffic through all phases, then looks at what is left.
func (r *rehearsal) rehearse(ctx context.Context) error {
	plan, err := r.steps()
	if err != nil {
		return err
	}
	patience, err := orderPatience(r.Scenario)
	if err != nil {
		return err
	}
	lower, err := traffic.RaisePriority()
	defer lower()
	defer traffic.Ballast()()
	if err != nil {
		r.run.Notes = append(r.run.Notes, "the sender runs at ordinary priority: "+err.Error())
	}
	if err := r.calibrate(ctx); err != nil {
		return err
	}
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	namespaces := []string{shopNamespace, stack.NamespaceMesh, stack.NamespaceVault, stack.NamespaceCertManager}
	if len(r.Scenario.Spec.Traffic.Agents) > 0 {
		namespaces = append(namespaces, agents.Namespace)
	}
	if err := watch.Start(watching, r.kube.Clientset, namespaces, r.record.event); err != nil {
		return err
	}
	r.record.event(results.Event{Kind: results.Watching, Name: strings.Join(namespaces, ", ")})
	var asking sync.WaitGroup
	r.watchUse(watching, &asking)
	r.followHost(watching, &asking)
	defer asking.Wait()
	defer stopWatching()
	if err := r.startCapture(ctx); err != nil {
		return err
	}
	stream, err := r.startTraffic(ctx)
	if err != nil {
		return err
	}
	return r.conclude(ctx, r.phases(ctx, plan, stream), stream.Stop, patience)
}

// steps makes every step before the first is done, so that a scenario that
// cannot be carried out ends before it begins.
func (r *rehearsal) steps() ([][]steps.Step, error) {
	phases := make([][]steps.Step, len(r.Scenario.Spec.Phases))
	for i, phase := range r.Scenario.Spec.Phases {
		for _, s := range phase.Steps {
			step, err := steps.New(s, r.env)
			if err != nil {
				return nil, fmt.Errorf("phase %s: %w", phase.Name, err)
			}
			phases[i] = append(phases[i], step)
		}
	}
	return phases, nil
}

func (r *rehearsal) phases(ctx context.Context, plan [][]steps.Step, stream *traffic.Stream) error {
	for i, phase := range r.Scenario.Spec.Phases {
		if err := r.enter(ctx, phase); err != nil {
			return fmt.Errorf("phase %s: %w", phase.Name, err)
		}
		begun := time.Now()
		r.Progress.Say("phase %s", phase.Name)
		for j, step := range plan[i] {
			if err := r.do(ctx, phase.Steps[j], step); err != nil {
				return fmt.Errorf("phase %s: step %s: %w", phase.Name, phase.Steps[j].Name, err)
			}
		}
		if err := r.hold(ctx, phase, begun, stream); err != nil {
			return err
		}
		if err := r.observeHost(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.Name, err)
		}
		if err := errors.Join(r.observePhase(ctx, phase.Name, time.Since(begun)), r.observeIdentities(ctx)); err != nil {
			return fmt.Errorf("phase %s: %w", phase.Name, err)
		}
		if err := r.observeUse(ctx, phase.Name); err != nil {
			return fmt.Errorf("phase %s: %w", phase.Name, err)
		}
		if i+1 < len(r.Scenario.Spec.Phases) {
			if err := r.raiseAgents(ctx, r.Scenario.Spec.Phases[i+1].Name); err != nil {
				return err
			}
		}
		r.record.leave(phase.Name)
	}
	return nil
}

// do carries out one step and marks it in the record.
func (r *rehearsal) do(ctx context.Context, named scenarios.Step, step steps.Step) error {
	detail := named.String()
	if u, ok := step.(steps.Undoer); ok {
		r.undo = append(r.undo, u)
	}
	r.record.event(results.Event{Kind: results.StepBegin, Name: named.Name, Detail: detail})
	err := step.Execute(ctx)
	end := results.Event{Kind: results.StepEnd, Name: named.Name, Detail: detail}
	if err != nil {
		end.Fields = map[string]string{results.FieldError: err.Error()}
	}
	r.record.event(end)
	return err
}

// hold keeps a phase open until it has seen enough traffic for long enough.
func (r *rehearsal) hold(ctx context.Context, phase scenarios.Phase, begun time.Time, stream *traffic.Stream) error {
	atLeast := time.Duration(phase.Until.AtLeast)
	deadline := r.Scenario.HoldLimit(phase)
	held := time.Now()
	task := r.Progress.Start("traffic in " + phase.Name)
	for {
		seen := stream.Counts(phase.Name)
		if seen.Requests >= int64(phase.Until.Requests) && time.Since(begun) >= atLeast {
			task.Done(seen.String())
			return nil
		}
		// A phase that starves ends all the same: the verdict says what is missing.
		if time.Since(held) > deadline {
			err := fmt.Errorf("only %d of %d requests after %s", seen.Requests, phase.Until.Requests, deadline)
			task.Fail(err)
			r.record.event(results.Event{Kind: results.Warning, Name: "phase " + phase.Name + " starved", Detail: err.Error()})
			return nil
		}
		task.Detail("%s of %d", seen, phase.Until.Requests)
		if err := pause.For(ctx, 500*time.Millisecond); err != nil {
			task.Fail(err)
			return err
		}
	}
}

// How long the parts of the clean-up may take, also of a run that was interrupted.
// Each has its own time, so that what hangs keeps nothing else from being done.
const (
	removing = 2 * time.Minute // what the rehearsal itself put on the cluster
	undoing  = 3 * time.Minute // one step
)

// finish closes the record, whatever happened, and undoes what was done when
// asked to. It outlives a cancelled ctx.
func (r *rehearsal) finish(ctx context.Context, cause error) error {
	problems := []error{outlive(ctx, removing, r.endCapture)} // where a failure came before its time
	if r.fleet != nil {                                       // before steps are undone, of which agents would be a part
		r.run.Agents = r.fleet.Groups()
		problems = append(problems, outlive(ctx, removing, r.fleet.Remove))
	}
	if r.Undo {
		for _, step := range slices.Backward(r.undo) {
			problems = append(problems, outlive(ctx, undoing, step.Undo))
		}
	}
	r.run.EndedAt = time.Now().UTC()
	if cause != nil {
		r.run.Interrupted = r.run.Interrupted || !r.concluded && ctx.Err() != nil
		r.run.Error = cause.Error()
	}
	problems = append(problems, r.folder.WriteRun(r.run), r.folder.Close())
	return errors.Join(problems...)
}

func outlive(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := outliving(ctx, limit)
	defer cancel()
	return do(ctx)
}
