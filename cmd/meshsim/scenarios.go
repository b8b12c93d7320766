package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/topology"
	"meshsim.dev/meshsim/scenarios"
)

func (a *app) newScenarios() *cobra.Command {
	c := &cobra.Command{
		Use:     "scenarios",
		Short:   "List, validate or explain scenarios",
		Example: "  meshsim scenarios list\n  meshsim scenarios explain mtls-rollout\n  meshsim scenarios validate my-launch.yaml",
		Args:    args(noArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.newScenariosList(), a.newScenariosValidate(), a.newScenariosExplain())
	return c
}

func (a *app) newScenariosList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the shipped scenarios",
		Example: "  meshsim scenarios list\n  meshsim scenarios list --json",
		Args:    args(noArgs),
		RunE: func(*cobra.Command, []string) error {
			all, err := scenarios.Shipped()
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(all)
			}
			width := 0
			for _, s := range all {
				width = max(width, len(s.Name))
			}
			for _, s := range all {
				fmt.Fprintf(a.streams.Out, "%-*s  %s\n", width, s.Name, hang(s.Description, width+2))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (a *app) newScenariosValidate() *cobra.Command {
	return &cobra.Command{
		Use:   "validate NAME|FILE...",
		Short: "Check scenarios without raising anything",
		Long: `Checks every key, value, step and budget, and that the scenario can produce the
data that its budgets judge, as run does before it raises anything. What is wrong
is told with its line, and the exit code is 2.`,
		Example: "  meshsim scenarios validate my-launch.yaml\n  meshsim scenarios validate mtls-rollout ./staging.yaml",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			var errs []error
			for _, name := range names {
				errs = append(errs, a.validate(name))
			}
			return errors.Join(errs...)
		},
	}
}

func (a *app) validate(name string) error {
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
	return nil
}

func (a *app) newScenariosExplain() *cobra.Command {
	return &cobra.Command{
		Use:     "explain NAME|FILE",
		Short:   "Say what a scenario does, sends and judges",
		Example: "  meshsim scenarios explain mtls-rollout\n  meshsim scenarios explain ./my-launch.yaml",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, names []string) error {
			s, err := scenarios.Load(names[0])
			if err != nil {
				return err
			}
			return s.Explain(a.streams.Out)
		},
	}
}
