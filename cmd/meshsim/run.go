package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/clusters/topology"
	"meshsim.dev/meshsim/harness"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

const defaultRuns = "results/runs"

func (a *app) newRun() *cobra.Command {
	f := &clusterFlags{}
	var mesh, runs string
	var undo, keep bool
	var day dayFlag
	c := &cobra.Command{
		Use:   "run NAME|FILE",
		Short: "Rehearse a scenario and give its verdict",
		Long: `Rehearses a scenario on the standing cluster, or raises the one that the
scenario names. The shop is brought back to its unmeshed start first. A cluster
that this command raised is removed at the end unless --keep is given. A shorter
--day is the same requests in less time, for a machine with CPUs to spare.`,
		Example: "  meshsim run mtls-rollout\n  meshsim run ./my-launch.yaml --keep\n  meshsim run mtls-rollout-careless   # must end with exit code 1\n" +
			"  meshsim run mtls-rollout --overrides mine.yaml --chart linkerd-control-plane=./linkerd-control-plane.tgz",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			s, err := day.load(c, names[0])
			if err != nil {
				return err
			}
			t, err := topology.Load(s.Spec.Topology)
			if err != nil {
				return err
			}
			overrides, err := f.read(s.Spec.Overrides)
			if err != nil {
				return err
			}
			return a.rehearse(c.Context(), s, t, rehearseOptions{
				clusterFlags: f, overrides: overrides, mesh: mesh, runs: runs, undo: undo, keep: keep,
			})
		},
	}
	f.register(c)
	day.register(c)
	c.Flags().StringVar(&mesh, "mesh", "", "linkerd or fakemesh (default: linkerd where the bundle has it)")
	c.Flags().StringVar(&runs, "runs", defaultRuns, "where run folders are made")
	c.Flags().BoolVar(&undo, "undo", false, "undo the scenario's steps at the end")
	c.Flags().BoolVar(&keep, "keep", false, "leave a cluster standing that this command raised")
	return c
}

type rehearseOptions struct {
	*clusterFlags
	overrides  bundle.Overrides
	mesh, runs string
	undo, keep bool
}

func (a *app) rehearse(ctx context.Context, s *scenarios.Scenario, t *topology.Topology, o rehearseOptions) (err error) {
	dir, err := a.cache()
	if err != nil {
		return err
	}
	if err := errors.Join(checkMesh(o.mesh), o.check(t), results.CheckRoot(o.runs)); err != nil {
		return err
	}
	_, err = kind.Open(dir, o.name)
	raised := err != nil
	e, b, err := a.prepare(ctx, o.source, o.overrides)
	if err != nil {
		return err
	}
	mesh, err := chooseMesh(o.mesh, b)
	if err != nil {
		return err
	}
	cluster, err := a.raise(ctx, o.clusterFlags, t, e, b)
	if err != nil {
		return err
	}
	if raised && !o.keep {
		defer func() {
			err = errors.Join(err, a.lower(context.WithoutCancel(ctx), []string{cluster.Name}, false))
		}()
	}
	release, err := kind.Occupy(dir, cluster.Name)
	if err != nil {
		return err
	}
	defer release()
	path, runErr := harness.Run(ctx, harness.Options{
		Scenario: s, Cluster: cluster, Bundle: b, Mesh: mesh, RunsDir: o.runs, Undo: o.undo,
		Tool: toolVersion(), Runner: a.runner, Log: a.log, Progress: a.progress,
	})
	if path == "" {
		return runErr
	}
	return a.conclude(ctx, path, runErr, a.judge(path))
}

// conclude says how a rehearsal ended of which there is a record: by what ended it
// early, if anything did, and by its verdict.
func (a *app) conclude(ctx context.Context, path string, runErr, verdictErr error) error {
	v, judged := errors.AsType[*verdictError](verdictErr)
	switch {
	case runErr == nil:
		return verdictErr
	case judged && v.verdict == results.Fail && ctx.Err() == nil:
		// What broke a budget may have broken the next step too: the fail stands.
		fmt.Fprintf(a.streams.Err, "meshsim: the run ended early: %v\n", runErr)
		return verdictErr
	case !judged && verdictErr != nil:
		fmt.Fprintf(a.streams.Err, "meshsim: the run's report could not be made: %v\n", verdictErr)
	}
	return fmt.Errorf("%w\n  the run's record is in %s", runErr, filepath.Clean(path))
}

func checkMesh(asked string) error {
	if asked != "" && !slices.Contains([]string{stack.MeshLinkerd, stack.MeshStandIn}, asked) {
		return usagef("--mesh=%s: there are %s and %s", asked, stack.MeshLinkerd, stack.MeshStandIn)
	}
	return nil
}

// chooseMesh takes Linkerd where the bundle has it: the stand-in is for where
// it cannot be had. A bundle with a part of Linkerd was meant to have all.
func chooseMesh(asked string, b stack.Images) (string, error) {
	if asked == stack.MeshStandIn {
		return asked, nil
	}
	has, lacks := stack.LinkerdParts(b)
	switch {
	case len(lacks) == 0:
		return stack.MeshLinkerd, nil
	case asked == "" && len(has) == 0:
		return stack.MeshStandIn, nil
	case len(has) == 0:
		return "", usagef("--mesh=linkerd: the bundle holds no Linkerd\n  mend: `meshsim bundle pull` where registries can be reached, --image and --chart to bring your own, or --mesh=fakemesh")
	}
	return "", usagef("the bundle holds a part of Linkerd (%s) but lacks %s\n  mend: give the rest with --image and --chart, or --mesh=fakemesh for the stand-in",
		strings.Join(has, ", "), strings.Join(lacks, ", "))
}
