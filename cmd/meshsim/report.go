package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"meshsim.dev/meshsim/harness/verdict"
	"meshsim.dev/meshsim/results"
	"meshsim.dev/meshsim/results/report"
)

func (a *app) newReport() *cobra.Command {
	var runs string
	var asJSON, schema bool
	c := &cobra.Command{
		Use:   "report RUN|latest",
		Short: "Judge and render a run folder again",
		Long: `Judges a run from its folder alone and writes verdict.json, report.html,
report.md and junit.xml into it. The exit code is the verdict's. With --schema it
prints the JSON schema that verdict.json keeps to, and judges nothing.`,
		Example: "  meshsim report latest\n  meshsim report results/runs/20240611T090000Z-mtls-rollout\n  meshsim report latest --json\n  meshsim report --schema > verdict.schema.json",
		Args: args(func(c *cobra.Command, names []string) error {
			if schema {
				return noArgs(c, names)
			}
			return cobra.ExactArgs(1)(c, names)
		}),
		RunE: func(_ *cobra.Command, names []string) error {
			if schema {
				_, err := a.streams.Out.Write(results.VerdictSchema)
				return err
			}
			path, err := runPath(runs, names[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.judgeJSON(path)
			}
			return a.judge(path)
		},
	}
	c.Flags().StringVar(&runs, "runs", defaultRuns, "where run folders are")
	c.Flags().BoolVar(&asJSON, "json", false, "print the verdict as JSON")
	c.Flags().BoolVar(&schema, "schema", false, "print the JSON schema of verdict.json")
	return c
}

// runPath finds a run by its name below runs, by its path, or as the latest.
func runPath(runs, name string) (string, error) {
	switch {
	case name == "latest":
		return results.Latest(runs)
	case filepath.Base(name) == name:
		return filepath.Join(runs, name), nil
	}
	return name, nil
}

// judge evaluates a run folder, writes its reports and prints the summary.
func (a *app) judge(path string) error {
	folder, v, err := judgeFolder(path)
	if err != nil {
		return err
	}
	d, err := report.From(folder, v)
	if err != nil {
		return err
	}
	if err := report.Terminal(a.streams.Out, d, a.screen()); err != nil {
		return err
	}
	fmt.Fprintf(a.streams.Out, "\nreport: %s\n", filepath.Join(path, results.HTMLFile))
	return verdictResult(v.Verdict)
}

func (a *app) judgeJSON(path string) error {
	_, v, err := judgeFolder(path)
	if err != nil {
		return err
	}
	if err := a.printJSON(v); err != nil {
		return err
	}
	return verdictResult(v.Verdict)
}

func judgeFolder(path string) (*results.Folder, results.Verdict, error) {
	folder, err := results.Open(path)
	if err != nil {
		return nil, results.Verdict{}, err
	}
	v, err := verdict.Evaluate(folder)
	if err != nil {
		return nil, results.Verdict{}, err
	}
	return folder, v, report.Write(folder, v)
}

// screen is what the standard output is: its width, and colours on a terminal
// whose user has not asked for none.
func (a *app) screen() report.Screen {
	f, ok := a.streams.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return report.Screen{}
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width = 0
	}
	return report.Screen{Width: width, Color: os.Getenv("NO_COLOR") == ""}
}
