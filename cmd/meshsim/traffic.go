package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/harness/traffic/plot"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/recording"
	"meshsim.dev/meshsim/scenarios/shape"
)

func (a *app) newTraffic() *cobra.Command {
	c := &cobra.Command{
		Use:     "traffic",
		Short:   "Draw traffic, record it from access logs, send it again",
		Example: "  meshsim traffic show mtls-rollout\n  meshsim traffic import 'logs/*.log.gz' -o launch.jsonl.gz",
		Args:    args(noArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.newTrafficShow(), a.newTrafficImport(), a.newTrafficResend(), a.newTrafficCalibrate())
	return c
}

// showFlags say what to draw where no scenario does, and how.
type showFlags struct {
	shape            string
	requests, launch int
	day              dayFlag
	lasts            time.Duration
	scale            float64
	svg              string
	asJSON           bool
}

// ofShape are the flags that belong to a shape, not to a scenario.
var ofShape = []string{"shape", "requests", "launch-requests", "for", "scale"}

func (a *app) newTrafficShow() *cobra.Command {
	var f showFlags
	c := &cobra.Command{
		Use:   "show [SCENARIO|FILE]",
		Short: "Draw how much traffic there is meant to be",
		Long: `Draws the traffic of a scenario phase by phase, of a recording, or of a shape
given by flags, with the rates as sent and as the real shop would see them. Time
that steps take is not drawn: phases follow one another as soon as they have
their requests. Without an argument it is a launch day.`,
		Example: `  meshsim traffic show mtls-rollout
  meshsim traffic show my-launch.yaml --svg launch.svg
  meshsim traffic show launch.jsonl.gz --day 200s
  meshsim traffic show --shape '{spike: {base: 5, peak: 80, at: 1m, hold: 10s}}' --for 3m`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			if f.asJSON && f.svg != "" {
				return usagef("--json and --svg: one at a time")
			}
			given := ""
			if len(names) == 1 {
				given = names[0]
			}
			figure, err := f.figure(c, given)
			if err != nil {
				return err
			}
			return a.show(figure, f)
		},
	}
	day := scenarios.DefaultTraffic()
	c.Flags().StringVar(&f.shape, "shape", "", "a shape as a scenario's traffic.shape has it (default launch-day)")
	c.Flags().IntVar(&f.requests, "requests", day.Day.Requests, "of an ordinary day")
	c.Flags().IntVar(&f.launch, "launch-requests", day.Day.LaunchRequests, "of the launch day")
	f.day.register(c)
	c.Flags().DurationVar(&f.lasts, "for", 0, "how long to draw (default: a day, or until the shape has settled)")
	c.Flags().Float64Var(&f.scale, "scale", 1, "multiplies the shape, as a phase's scale does")
	c.Flags().StringVar(&f.svg, "svg", "", "draw it as SVG into a file, - for the standard output")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	return c
}

// isRecording tells a recording's file from a scenario by its name.
func isRecording(name string) bool {
	return strings.HasSuffix(name, ".jsonl") || strings.HasSuffix(name, ".jsonl.gz")
}

// figure works out what to draw: a recording, a scenario, or a shape.
func (f showFlags) figure(c *cobra.Command, given string) (plot.Figure, error) {
	recorded := isRecording(given)
	if given != "" && !recorded {
		for _, name := range ofShape {
			if c.Flags().Changed(name) {
				return plot.Figure{}, usagef("--%s is for shapes: the scenario %s has its own traffic", name, given)
			}
		}
		s, err := f.day.load(c, given)
		if err != nil {
			return plot.Figure{}, err
		}
		return plot.OfScenario(s), nil
	}
	t := scenarios.DefaultTraffic()
	t.Day = scenarios.Day{Requests: f.requests, LaunchRequests: f.launch}
	if c.Flags().Changed("day") {
		t.CompressTo = f.day.lasts
	}
	if err := f.check(recorded, t.CompressTo); err != nil {
		return plot.Figure{}, err
	}
	name, s, lasts := "shape", t.Rates(), f.lasts
	switch {
	case recorded:
		sum, err := recording.Scan(given)
		if err != nil {
			return plot.Figure{}, err
		}
		name, s = given, shape.Compress(sum.Shape(sum.Names()), t.Faster())
		if lasts == 0 {
			lasts = time.Duration(float64(sum.Period()) / t.Faster())
		}
	case f.shape != "":
		var err error
		if s, err = scenarios.ParseShape("--shape", f.shape, t); err != nil {
			return plot.Figure{}, err
		}
	}
	if lasts == 0 {
		lasts = max(t.CompressTo, s.Settled()+s.Settled()/4)
	}
	if f.scale != 1 {
		s = shape.Scale(s, f.scale)
	}
	return plot.OfShape(name, s, t.Faster(), lasts), nil
}

func (f showFlags) check(recorded bool, day time.Duration) error {
	switch {
	case recorded && f.shape != "":
		return usagef("--shape: the recording has its own")
	case f.requests < 1 || f.launch < f.requests:
		return usagef("--requests and --launch-requests: a day has at least one, and a launch day no fewer than any other")
	case day < time.Second || f.lasts < 0:
		return usagef("--day and --for: a day lasts at least a second, and no time is less than none")
	case !(f.scale > 0 && f.scale <= 1000):
		return usagef("--scale should be above 0 and up to 1000")
	}
	return nil
}

// show writes a figure in the form that was asked for.
func (a *app) show(figure plot.Figure, f showFlags) error {
	switch {
	case f.asJSON:
		return a.printJSON(figure)
	case f.svg == "-":
		return figure.SVG(a.streams.Out)
	case f.svg != "":
		if err := writeFile(f.svg, figure.SVG); err != nil {
			return err
		}
		_, err := fmt.Fprintf(a.streams.Out, "drawn: %s\n", f.svg)
		return err
	}
	screen := a.screen()
	return figure.Terminal(a.streams.Out, plot.Screen{Width: screen.Width, Plain: screen.Width == 0})
}

// writeFile makes a file of what write writes.
func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return fault.NewInvalid(fmt.Errorf("create: %w", err), "")
	}
	if err := write(file); err != nil {
		_ = file.Close() // the first error is the cause
		return err
	}
	return file.Close()
}
