package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/footprint"
	"meshsim.dev/meshsim/harness/traffic/accesslog"
	"meshsim.dev/meshsim/harness/traffic/importer"
	"meshsim.dev/meshsim/scenarios"
	"meshsim.dev/meshsim/scenarios/recording"
)

type importFlags struct {
	rules, out, format string
	window             time.Duration
	from, to           string
	asJSON             bool
}

func (a *app) newTrafficImport() *cobra.Command {
	var f importFlags
	c := &cobra.Command{
		Use:   "import LOG...",
		Short: "Make a recording of access logs, for a scenario to replay",
		Long: `Reads access logs (AWS application load balancers, Apache common and combined,
JSON lines; gzipped or not; - for the standard input), merges them by time, maps
their paths onto the shop's routes by rules, and writes when which route was
called. Nothing else is kept: no address, no path, no query, no agent. Lines that
cannot be used are counted, and shown by their looks alone.`,
		Example: `  meshsim traffic import access.log -o launch.jsonl.gz
  meshsim traffic import 'AWSLogs/*/*.log.gz' --rules my-rules.yaml -o launch.jsonl.gz
  meshsim traffic import access.log --from 2024-06-11T06:00:00Z --to 2024-06-12T00:00:00Z -o day.jsonl
  zcat logs/*.gz | meshsim traffic import - --json`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, logs []string) error {
			report, err := a.importLogs(c.Context(), logs, f)
			if err != nil {
				return err
			}
			if f.asJSON {
				return a.printJSON(report)
			}
			if err := report.Write(a.streams.Out); err != nil {
				return err
			}
			if f.out != "" {
				fmt.Fprintf(a.streams.Out, "\nrecorded: %s\n", f.out)
			}
			return nil
		},
	}
	c.Flags().StringVar(&f.rules, "rules", "", "a file of traffic rules (default: those of the shop's own API)")
	c.Flags().StringVarP(&f.out, "out", "o", "", "where to write the recording, gzipped where it ends in .gz; left away, the logs are only looked at")
	c.Flags().StringVar(&f.format, "format", accesslog.Auto, "auto, alb, combined or ndjson")
	c.Flags().DurationVar(&f.window, "window", importer.DefaultWindow, "how far a log's lines may be out of order")
	c.Flags().StringVar(&f.from, "from", "", "leave out what came before, such as 2024-06-11T06:00:00Z")
	c.Flags().StringVar(&f.to, "to", "", "leave out what came then or later")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print what was understood as JSON")
	return c
}

// nowhere takes requests that are only counted.
type nowhere struct{}

func (nowhere) Add(int64, string, uint8) error { return nil }

func (a *app) importLogs(ctx context.Context, logs []string, f importFlags) (*importer.Report, error) {
	o, err := f.options(logs)
	if err != nil {
		return nil, err
	}
	o.Stdin, o.Sink = a.streams.In, nowhere{}
	if err := footprint.Shrink(); err != nil { // an import needs next to nothing of the program
		a.log.Debug("more stays in memory than is needed", "error", err)
	}
	task := a.progress.Start("import")
	o.Progress = func(lines int64) { task.Detail("%d lines", lines) }
	report, err := record(ctx, o, f.out)
	if err != nil {
		task.Fail(errors.New("nothing is recorded")) // the error itself is told once, at the end
		return nil, err
	}
	task.Done(fmt.Sprintf("%d lines, %d requests", report.Lines, report.Requests))
	if report.Requests == 0 {
		_ = report.Write(a.streams.Err) // why there is nothing; the error says that there is
		return nil, fault.NewInvalid(errors.New("none of the lines is a request that can be replayed"), "write --rules for the paths above, or name the --format")
	}
	return report, nil
}

// record imports into a file, where one is named. Without a request there is none.
func record(ctx context.Context, o importer.Options, path string) (*importer.Report, error) {
	if path == "" {
		return importer.Import(ctx, o)
	}
	file, err := recording.Create(path)
	if err != nil {
		return nil, err
	}
	o.Sink = file
	report, err := importer.Import(ctx, o)
	if err != nil || report.Requests == 0 {
		return report, errors.Join(err, file.Abandon())
	}
	return report, file.Commit()
}

func (f importFlags) options(logs []string) (importer.Options, error) {
	o := importer.Options{Logs: logs, Format: f.format, Window: f.window}
	if !slices.Contains(accesslog.Formats(), f.format) {
		return o, usagef("--format=%s: there are %v", f.format, accesslog.Formats())
	}
	if f.window < time.Second {
		return o, usagef("--window should be a second at least")
	}
	for _, bound := range []struct {
		flag, text string
		into       *time.Time
	}{{"from", f.from, &o.From}, {"to", f.to, &o.To}} {
		if bound.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, bound.text)
		if err != nil {
			return o, usagef("--%s should be a time such as 2024-06-11T06:00:00Z, not %q", bound.flag, bound.text)
		}
		*bound.into = at
	}
	if !o.From.IsZero() && !o.To.IsZero() && !o.From.Before(o.To) {
		return o, usagef("--from=%s is not before --to=%s", f.from, f.to)
	}
	if f.out != "" && !isRecording(f.out) {
		return o, usagef("--out=%s: a recording's name ends in .jsonl or .jsonl.gz", f.out)
	}
	rules, err := scenarios.LoadRules(f.rules)
	o.Rules = rules
	return o, err
}
