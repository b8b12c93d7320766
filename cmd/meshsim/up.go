package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/topology"
)

// clusterFlags name a cluster and how it is raised; up and run share them.
type clusterFlags struct {
	overrideFlags
	name     string
	topology string
	httpPort int
	grpcPort int
	source   string
}

func (f *clusterFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.name, "name", "meshsim", "name of the cluster")
	registerPorts(c, &f.httpPort, &f.grpcPort)
	registerSource(c, &f.source)
	f.overrideFlags.register(c)
}

// check finds what is wrong with the flags before anything is raised for them.
func (f *clusterFlags) check(t *topology.Topology) error {
	_, err := sourceDir(f.source)
	return errors.Join(kind.UpOptions{Name: f.name, Topology: t, HTTPPort: f.httpPort, GRPCPort: f.grpcPort}.Check(), err)
}

func registerPorts(c *cobra.Command, http, grpc *int) {
	c.Flags().IntVar(http, "http-port", 0, "port on 127.0.0.1 for the load balancer's HTTP (0 = a free one)")
	c.Flags().IntVar(grpc, "grpc-port", 0, "port on 127.0.0.1 for the load balancer's gRPC (0 = a free one)")
}

func registerSource(c *cobra.Command, source *string) {
	c.Flags().StringVar(source, "source", "", "meshsim's source checkout, for building the bundle (default: the one around the current folder)")
}

func (a *app) newUp() *cobra.Command {
	f := &clusterFlags{}
	c := &cobra.Command{
		Use:   "up",
		Short: "Raise the cluster of a topology, or reuse a standing one",
		Long: `Raises a kind cluster shaped by a topology, with everything it needs: the
container engine, the bundle of images (when it is missing pulled where
registries answer, else built) and the load balancer's stand-in. A matching
cluster that stands already is reused.`,
		Example: "  meshsim up\n  meshsim up --topology ci --name pr-17\n  meshsim up --topology ./my-cluster.yaml\n  meshsim up --image linkerd/proxy=registry.example/proxy:patched",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			t, err := topology.Load(f.topology)
			if err != nil {
				return err
			}
			if err := f.check(t); err != nil {
				return err
			}
			overrides, err := f.read(bundle.Overrides{})
			if err != nil {
				return err
			}
			e, b, err := a.prepare(c.Context(), f.source, overrides)
			if err != nil {
				return err
			}
			cluster, err := a.raise(c.Context(), f, t, e, b)
			if err != nil {
				return err
			}
			return a.printCluster(cluster)
		},
	}
	f.register(c)
	c.Flags().StringVarP(&f.topology, "topology", "t", "eks-1.24", "topology: "+strings.Join(topology.Shipped(), ", ")+", or a file")
	return c
}

// prepare brings engine and bundle up, each only as far as it is not there.
func (a *app) prepare(ctx context.Context, source string, overrides bundle.Overrides) (e *engine.Engine, b *bundle.Bundle, err error) {
	o, err := a.engineOptions()
	if err != nil {
		return nil, nil, err
	}
	if e, err = engine.Ensure(ctx, o); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, a.giveUp(ctx, e, err)) }()
	if b, err = a.ensureBundle(ctx, source); err != nil {
		return nil, nil, err
	}
	b, err = bundle.Overlay(ctx, bundle.OverlayOptions{
		Cache: o.Cache, Base: b, Overrides: overrides, Log: a.log, Progress: a.progress,
	})
	return e, b, err
}

// raise brings the cluster up, or reuses the one that stands.
func (a *app) raise(ctx context.Context, f *clusterFlags, t *topology.Topology, e *engine.Engine, b *bundle.Bundle) (*kind.Cluster, error) {
	dir, err := a.cache()
	if err != nil {
		return nil, err
	}
	c, err := kind.Up(ctx, kind.UpOptions{
		Name: f.name, Topology: t, Engine: e, Bundle: b, Cache: dir, Runner: a.runner,
		Log: a.log, Progress: a.progress, HTTPPort: f.httpPort, GRPCPort: f.grpcPort,
	})
	return c, errors.Join(err, a.giveUp(ctx, e, err))
}

// giveUp stops an engine that was started for what then failed.
func (a *app) giveUp(ctx context.Context, e *engine.Engine, failed error) error {
	if failed == nil || !e.Started {
		return nil
	}
	o, err := a.engineOptions()
	if err != nil {
		return err
	}
	return a.stopUnused(context.WithoutCancel(ctx), o)
}

// ensureBundle opens the bundle of this source, making it when it is missing.
func (a *app) ensureBundle(ctx context.Context, source string) (*bundle.Bundle, error) {
	dir, err := a.cache()
	if err != nil {
		return nil, err
	}
	source, err = sourceDir(source)
	if err != nil {
		return nil, err
	}
	b, err := bundle.Open(dir, source)
	if err == nil || !errors.Is(err, bundle.ErrNotBuilt) || source == "" {
		return b, err
	}
	return bundle.Make(ctx, bundle.BuildOptions{
		Cache: dir, Source: source, Runner: a.runner, Log: a.log, Progress: a.progress,
	})
}

// sourceDir finds meshsim's checkout at or above the current folder. It is ""
// where there is none: then only a bundle that was loaded or pulled can serve.
func sourceDir(given string) (string, error) {
	if given != "" {
		if err := bundle.CheckSource(given); err != nil {
			return "", err
		}
		return filepath.Abs(given)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the current folder: %w", err)
	}
	for {
		raw, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(raw), "module meshsim.dev/meshsim\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}

func (a *app) printCluster(c *kind.Cluster) error {
	out := a.streams.Out
	fmt.Fprintf(out, "cluster %s: topology %s, %d nodes\n", c.Name, c.Topology.Name, len(c.Nodes))
	fmt.Fprintf(out, "  kubeconfig     %s\n", c.Kubeconfig)
	fmt.Fprintf(out, "  load balancer  http://%s (gRPC %s)\n", c.HTTP, c.GRPC)
	fmt.Fprintf(out, "  requests fit   CPU × %.2f, memory × %.2f\n", c.Fit.CPU, c.Fit.Memory)
	for _, note := range c.Notes {
		fmt.Fprintf(out, "  note: %s\n", note)
	}
	return nil
}
