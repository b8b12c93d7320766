package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/topology"
	"meshsim.dev/meshsim/scenarios"
)

// dayFlag gives a scenario's days another length.
type dayFlag struct{ lasts time.Duration }

func (f *dayFlag) register(c *cobra.Command) {
	c.Flags().DurationVar(&f.lasts, "day", 0, "how long one day of the traffic lasts (default: as the scenario has it)")
}

func (f *dayFlag) load(c *cobra.Command, name string) (*scenarios.Scenario, error) {
	if c.Flags().Changed("day") {
		return scenarios.LoadDay(name, f.lasts)
	}
	return scenarios.Load(name)
}

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
	var day dayFlag
	c := &cobra.Command{
		Use:   "validate NAME|FILE...",
		Short: "Check scenarios without raising anything",
		Long: `Checks every key, value, step and budget, and that the scenario can produce the
data that its budgets judge, as run does before it raises anything. What is wrong
is told with its line, and the exit code is 2.`,
		Example: "  meshsim scenarios validate my-launch.yaml\n  meshsim scenarios validate mtls-rollout ./staging.yaml",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			var errs []error
			for _, name := range names {
				s, err := day.load(c, name)
				errs = append(errs, a.validate(name, s, err))
			}
			return errors.Join(errs...)
		},
	}
	day.register(c)
	return c
}

// validate tells of a scenario, or passes on why it could not be loaded.
func (a *app) validate(name string, s *scenarios.Scenario, err error) error {
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
	var day dayFlag
	c := &cobra.Command{
		Use:     "explain NAME|FILE",
		Short:   "Say what a scenario does, sends and judges",
		Example: "  meshsim scenarios explain mtls-rollout --day 90s\n  meshsim scenarios explain ./my-launch.yaml",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			s, err := day.load(c, names[0])
			if err != nil {
				return err
			}
			return s.Explain(a.streams.Out)
		},
	}
	day.register(c)
	return c
}
