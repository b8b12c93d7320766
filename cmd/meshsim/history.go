package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/harness/verdict"
	"meshsim.dev/meshsim/results/history"
)

func (a *app) newHistory() *cobra.Command {
	var runs string
	var q history.Query
	var asJSON bool
	c := &cobra.Command{
		Use:   "history",
		Short: "Show the trend over all runs",
		Long: `Lists the runs, the oldest first, and how each budget's figure went from run to
run. It reads history.db beside the run folders, which is made from them, brought
up to date at each call, and may be deleted at any time. The exit code does not
depend on the verdicts.`,
		Example: "  meshsim history\n  meshsim history --scenario mtls-rollout --last 20\n  meshsim history --json",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if q.Last < 0 {
				return usagef("--last=%d: it cannot be below zero", q.Last)
			}
			h, err := history.Open(c.Context(), runs, history.Judge{Rules: verdict.Rules, Judge: verdict.Evaluate}, a.log)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, h.Close()) }()
			found, err := h.Runs(c.Context(), q)
			switch {
			case err != nil:
				return err
			case asJSON:
				return a.printJSON(found)
			case len(found) == 0:
				return fault.NewInvalid(fmt.Errorf("there is no such run below %s yet", runs), "meshsim run mtls-rollout makes one")
			}
			return history.Write(a.streams.Out, found)
		},
	}
	c.Flags().StringVar(&runs, "runs", defaultRuns, "where run folders are")
	c.Flags().StringVar(&q.Scenario, "scenario", "", "only the runs of this scenario")
	c.Flags().IntVar(&q.Last, "last", 0, "only so many, the newest (0: all)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the runs as JSON")
	return c
}
