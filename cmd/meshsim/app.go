package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/mitchellh/go-wordwrap"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/progress"
)

// Streams are the program's three.
type Streams struct {
	In  io.Reader
	Out io.Writer // what was asked for: tables, JSON, verdicts
	Err io.Writer // progress, logs and errors
}

// app holds what every command needs.
type app struct {
	streams  Streams
	runner   command.Runner
	progress *progress.Reporter
	log      *slog.Logger

	cacheDir string // --cache
	verbose  bool   // --verbose
	ran      bool   // a command's arguments were accepted and it began
}

// Run executes one command line and returns its exit code.
func Run(ctx context.Context, streams Streams, args []string) int {
	a := &app{streams: streams, runner: command.Exec{}, progress: progress.New(streams.Err)}
	root := a.newRoot()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.ran {
		// Refused before it began: an unknown command, flag or argument.
		if _, ok := errors.AsType[*usageError](err); !ok {
			err = &usageError{fmt.Errorf("%w\n  mend: see `meshsim --help`", err)}
		}
	}
	code := exitCode(ctx, err)
	printError(streams.Err, code, err)
	return code
}

// printError prints an error once. A verdict has been printed by its command.
func printError(w io.Writer, code int, err error) {
	if code == exitInterrupted {
		fmt.Fprintln(w, "meshsim: interrupted; what had been raised by this command was cleaned up")
		if err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintf(w, "meshsim: %v\n", err)
		}
		return
	}
	if err == nil {
		return
	}
	if _, ok := errors.AsType[*verdictError](err); ok {
		return
	}
	fmt.Fprintf(w, "meshsim: %v\n", err)
}

func (a *app) newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "meshsim",
		Short: "Rehearse a service-mesh launch before customers see it",
		Long: `meshsim raises a kind cluster shaped like the real one, deploys a fake shop of
eight services, installs cert-manager, Vault and the mesh, replays a launch
day's traffic while mTLS is rolled out, and gives a verdict with evidence.

Exit codes: 0 pass, 1 a budget is broken, 2 wrong use or invalid input,
3 inconclusive, 4 engine, cluster or install failed, 130 interrupted.`,
		Example: `  meshsim up                      # raise the cluster of the shop
  meshsim run mtls-rollout        # rehearse the rollout on it
  meshsim report latest           # judge and render the last run again
  meshsim down                    # remove everything again`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.ran = true
			level := slog.LevelWarn
			if a.verbose {
				level = slog.LevelDebug
			}
			a.log = slog.New(slog.NewTextHandler(a.streams.Err, &slog.HandlerOptions{Level: level}))
			// client-go logs what it also returns; keep that out of people's sight.
			quiet := slog.New(slog.DiscardHandler)
			if a.verbose {
				quiet = a.log
			}
			klog.SetSlogLogger(quiet)
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&a.cacheDir, "cache", "", "where to keep engine, bundle and cluster state (default $"+cache.EnvVar+" or the user's cache folder)")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log what is done in detail")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w\n  mend: see `%s --help`", err, c.CommandPath())}
	})
	root.AddCommand(
		a.newUp(), a.newDown(), a.newStatus(),
		a.newRun(), a.newReport(), a.newCompare(), a.newHistory(), a.newScenarios(), a.newTraffic(),
		a.newBundle(), a.newEngine(), a.newDoctor(), a.newVersion(),
	)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprintf(".FlagUsagesWrapped %d", helpWidth)))
	return root
}

// helpWidth is how many columns help and lists may take.
const helpWidth = 100

// hang wraps text that begins at a column, and indents its other lines to it.
func hang(text string, column int) string {
	return strings.ReplaceAll(wordwrap.WrapString(text, uint(helpWidth-column)), "\n", "\n"+strings.Repeat(" ", column))
}

// args wraps an argument check so that a refusal is wrong use.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, got []string) error {
		if err := check(c, got); err != nil {
			mend := fmt.Sprintf("see `%s --help`", c.CommandPath())
			if !c.HasSubCommands() {
				mend = fmt.Sprintf("call it as `%s`; %s", c.UseLine(), mend)
			}
			return &usageError{fmt.Errorf("%s: %w\n  mend: %s", strings.TrimPrefix(c.CommandPath(), "meshsim "), err, mend)}
		}
		return nil
	}
}

// noArgs is cobra.NoArgs, which calls every argument an unknown command.
func noArgs(c *cobra.Command, got []string) error {
	switch {
	case len(got) == 0:
		return nil
	case c.HasSubCommands():
		return fmt.Errorf("unknown command %q", got[0])
	}
	return fmt.Errorf("it takes no argument, but got %q", got[0])
}

func (a *app) cache() (cache.Dir, error) {
	if a.cacheDir != "" {
		abs, err := filepath.Abs(a.cacheDir) // other programs run elsewhere
		return cache.Dir(abs), err
	}
	return cache.Default()
}

func (a *app) engineOptions() (engine.Options, error) {
	dir, err := a.cache()
	if err != nil {
		return engine.Options{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return engine.Options{}, fmt.Errorf("find this executable: %w", err)
	}
	return engine.Options{Cache: dir, Runner: a.runner, Log: a.log, Progress: a.progress, Self: self}, nil
}
