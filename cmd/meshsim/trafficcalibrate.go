package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/harness/traffic"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/scenarios"
)

func (a *app) newTrafficCalibrate() *cobra.Command {
	var asJSON bool
	var day dayFlag
	c := &cobra.Command{
		Use:   "calibrate [SCENARIO|FILE]",
		Short: "Measure how fast this machine can send, and how late",
		Long: `Sends to a server of its own that does nothing, faster and faster, until
requests no longer leave on time, as every run does before it begins. With a
scenario it tells whether the scenario's traffic fits: what is beyond the
machine is refused, with exit code 4, and what is near it is warned of.`,
		Example: "  meshsim traffic calibrate\n  meshsim traffic calibrate my-launch.yaml",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			if len(names) == 0 && c.Flags().Changed("day") {
				return usagef("--day is a scenario's: name one")
			}
			t, wanted := scenarios.DefaultTraffic(), 0.0
			if len(names) == 1 {
				s, err := day.load(c, names[0])
				if err != nil {
					return err
				}
				t, wanted = s.Spec.Traffic, s.HighestRate()
			}
			return a.calibrate(c.Context(), t, wanted, asJSON)
		},
	}
	day.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print what was measured as JSON")
	return c
}

func (a *app) calibrate(ctx context.Context, t scenarios.Traffic, wanted float64, asJSON bool) error {
	task := a.progress.Start("calibrate the sender")
	c, err := traffic.Calibrate(ctx, t)
	if err != nil {
		task.Fail(err)
		return err
	}
	task.Done(fmt.Sprintf("%.0f requests a second held", c.Held))
	c.Wanted = wanted
	if asJSON {
		if err := a.printJSON(c); err != nil {
			return err
		}
	} else if err := a.tellCalibration(c); err != nil {
		return err
	}
	warning, err := traffic.CheckFit(c, wanted)
	if warning != "" {
		fmt.Fprintf(a.streams.Err, "warning: %s\n", warning)
	}
	return err
}

func (a *app) tellCalibration(c results.Calibration) error {
	fmt.Fprintf(a.streams.Out, "A request to a server that does nothing, at %.0f/s: p50 %s, p99 %s, max %s.\n\n", c.Trials[0].Rate, c.P50, c.P99, c.Max)
	table := tabwriter.NewWriter(a.streams.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "RATE\tREQUESTS\tNOT SENT\tFAILED\tLATE BY P50\tP99\tMAX\tHELD")
	for _, t := range c.Trials {
		held := "no"
		if t.Held {
			held = "yes"
		}
		fmt.Fprintf(table, "%.0f/s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\n", t.Rate, t.Requests, t.NotSent, t.Failed,
			t.LagP50.Round(time.Microsecond), t.LagP99.Round(time.Microsecond), t.LagMax.Round(time.Microsecond), held)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.streams.Out, "\nHeld: %.0f requests a second.\n", c.Held)
	return err
}
