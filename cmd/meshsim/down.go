package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/kind"
)

func (a *app) newDown() *cobra.Command {
	var name string
	var all, keepEngine bool
	c := &cobra.Command{
		Use:   "down",
		Short: "Remove a cluster and what belongs to it",
		Long: `Removes the cluster's containers, networks, volumes and state, also what a
killed run left behind. The private engine is stopped with its last cluster.
Run folders and the cache of images stay.`,
		Example: "  meshsim down\n  meshsim down --name pr-17\n  meshsim down --all",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if all && c.Flags().Changed("name") {
				return usagef("--all and --name exclude each other\n  mend: give one of them")
			}
			names := []string{name}
			if all {
				var err error
				if names, err = a.clusterNames(true); err != nil {
					return err
				}
			}
			return a.lower(c.Context(), names, keepEngine)
		},
	}
	c.Flags().StringVar(&name, "name", "meshsim", "name of the cluster")
	c.Flags().BoolVar(&all, "all", false, "remove every cluster of this cache")
	c.Flags().BoolVar(&keepEngine, "keep-engine", false, "leave the private engine running")
	return c
}

func (a *app) lower(ctx context.Context, names []string, keepEngine bool) error {
	o, err := a.engineOptions()
	if err != nil {
		return err
	}
	e, err := findEngine(ctx, o) // without one Down still removes the cluster's state
	if err != nil {
		return err
	}
	for _, name := range names {
		err := kind.Down(ctx, kind.DownOptions{Name: name, Engine: e, Cache: o.Cache, Runner: a.runner, Log: a.log, Progress: a.progress})
		if err != nil {
			return err
		}
	}
	if keepEngine {
		return nil
	}
	return a.stopUnused(ctx, o)
}

// stopUnused stops the private engine when no cluster is left on it.
func (a *app) stopUnused(ctx context.Context, o engine.Options) error {
	left, err := a.clusterNames(false)
	if err != nil || len(left) > 0 {
		return err
	}
	return engine.Stop(ctx, o)
}

// clusterNames lists the clusters that this cache knows of: those that stand,
// and with remains also those that were begun, which leave a lock file.
func (a *app) clusterNames(remains bool) ([]string, error) {
	dir, err := a.cache()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir.Clusters())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		name, begun := strings.CutSuffix(e.Name(), ".lock")
		if (e.IsDir() || (begun && remains)) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, err
}
