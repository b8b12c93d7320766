package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/topology"
	"meshsim.dev/meshsim/scenarios"
)

func (a *app) newScenarios() *cobra.Command {
	c := &cobra.Command{
		Use:     "scenarios",
		Short:   "List, validate or explain scenarios",
		Example: "  meshsim scenarios list\n  meshsim scenarios explain mtls-rollout\n  meshsim scenarios validate my-launch.yaml",
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.newScenariosList(), a.newScenariosValidate(), a.newScenariosExplain())
	return c
}

func (a *app) newScenariosList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the shipped scenarios",
		Args:  args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			all, err := scenarios.Shipped()
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(all)
			}
			w := tabwriter.NewWriter(a.streams.Out, 0, 4, 2, ' ', 0)
			for _, s := range all {
				fmt.Fprintf(w, "%s\t%s\n", s.Name, s.Description)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) newScenariosValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate NAME|FILE...",
		Short: "Check scenarios without raising anything",
		Args:  args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			for _, name := range names {
				s, err := scenarios.Load(name)
				if err != nil {
					return err
				}
				if _, err := topology.Load(s.Spec.Topology); err != nil {
					return fmt.Errorf("%s: spec.topology: %w", name, err)
				}
				fmt.Fprintf(a.streams.Out, "%s: valid\n", name)
				for _, w := range s.Warnings {
					fmt.Fprintf(a.streams.Out, "  warning: %s\n", w)
				}
			}
			return nil
		},
	}
}

func (a *app) newScenariosExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain NAME|FILE",
		Short: "Say what a scenario does, sends and judges",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			s, err := scenarios.Load(names[0])
			if err != nil {
				return err
			}
			return s.Explain(a.streams.Out)
		},
	}
}
