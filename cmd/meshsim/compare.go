package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/harness/verdict"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/results/compare"
)

func (a *app) newCompare() *cobra.Command {
	var runs string
	var asJSON, unlike, all bool
	c := &cobra.Command{
		Use:   "compare BEFORE AFTER",
		Short: "Say which budgets moved between two runs, and whether by more than chance",
		Long: `Judges two run folders and compares them budget by budget: counts of failed
requests by the chance that they split so unequally, all else by whether the 95 %
intervals lie apart. What the runs do not have in common (mesh, host, versions,
images) is listed. Runs of different scenarios are refused unless --unlike is given.

Exit codes: 0 no budget got worse, 1 at least one did, 2 wrong use or runs of
different scenarios, 3 nothing could be compared.`,
		Example: "  meshsim compare 20240611T090000Z-mtls-rollout latest\n  meshsim compare before after --all\n  meshsim compare before after --json",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, names []string) error {
			before, err := sideOf(runs, names[0])
			if err != nil {
				return err
			}
			after, err := sideOf(runs, names[1])
			if err != nil {
				return err
			}
			result, err := compare.Runs(before, after, unlike)
			if err != nil {
				return err
			}
			if asJSON {
				err = a.printJSON(result)
			} else {
				err = result.Write(a.streams.Out, all)
			}
			if err != nil {
				return err
			}
			return compared(result)
		},
	}
	c.Flags().StringVar(&runs, "runs", defaultRuns, "where run folders are")
	c.Flags().BoolVar(&asJSON, "json", false, "print the comparison as JSON")
	c.Flags().BoolVar(&unlike, "unlike", false, "compare runs of different scenarios, too")
	c.Flags().BoolVar(&all, "all", false, "show the budgets that stayed as they were, too")
	return c
}

// sideOf judges a run, and writes nothing into it.
func sideOf(runs, name string) (compare.Side, error) {
	path, err := runPath(runs, name)
	if err != nil {
		return compare.Side{}, err
	}
	folder, err := results.Open(path)
	if err != nil {
		return compare.Side{}, err
	}
	run, err := folder.Run()
	if err != nil {
		return compare.Side{}, err
	}
	v, err := verdict.Evaluate(folder)
	if err != nil {
		return compare.Side{}, fmt.Errorf("judge %s: %w", name, err)
	}
	return compare.Side{Run: run, Verdict: v}, nil
}

// compared turns a comparison into the exit codes of a verdict.
func compared(c compare.Comparison) error {
	switch {
	case c.Count(compare.Worse) > 0:
		return verdictResult(results.Fail)
	case !c.Comparable():
		return verdictResult(results.Inconclusive)
	}
	return nil
}
