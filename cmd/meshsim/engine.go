package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"meshsim.dev/meshsim/clusters/engine"
)

func (a *app) newEngine() *cobra.Command {
	c := &cobra.Command{
		Use:   "engine",
		Short: "Start, stop or show the container engine",
		Long: `meshsim uses the host's Docker when a privileged container really runs there.
Otherwise, as root on Debian, it runs a private one with a data root, socket and
pid file of its own, and never touches an engine that is already there.`,
		Example: "  meshsim engine start\n  meshsim engine status\n  meshsim engine stop",
		Args:    args(noArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.newEngineStart(), a.newEngineStop(), a.newEngineStatus())
	return c
}

func (a *app) newEngineStart() *cobra.Command {
	return &cobra.Command{
		Use:   "start",
		Short: "Find an engine that works, or start a private one",
		Long: `Finds an engine that really runs privileged containers, or starts the private
one and, as root on Debian, installs what that needs. up and run do it by themselves.`,
		Example: "  meshsim engine start",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := a.engineOptions()
			if err != nil {
				return err
			}
			e, err := engine.Ensure(c.Context(), o)
			if err != nil {
				return err
			}
			return a.printEngine(e, false)
		},
	}
}

func (a *app) newEngineStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Stop the private engine; the host's own is left alone",
		Long: `Removes every container of the private engine and ends it; its images stay in
the cache. The last down does it by itself.`,
		Example: "  meshsim engine stop",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := a.engineOptions()
			if err != nil {
				return err
			}
			return engine.Stop(c.Context(), o)
		},
	}
}

func (a *app) newEngineStatus() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show the engine in use",
		Example: "  meshsim engine status\n  meshsim engine status --json",
		Args:    args(noArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := a.engineOptions()
			if err != nil {
				return err
			}
			e, err := findEngine(c.Context(), o)
			if err != nil {
				return err
			}
			return a.printEngine(e, asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// findEngine returns the engine that is running, or nil when there is none.
func findEngine(ctx context.Context, o engine.Options) (*engine.Engine, error) {
	e, err := engine.Find(ctx, o)
	if errors.Is(err, engine.ErrNone) {
		return nil, nil
	}
	return e, err
}

func (a *app) printEngine(e *engine.Engine, asJSON bool) error {
	if asJSON {
		return a.printJSON(map[string]any{"running": e != nil, "engine": e})
	}
	if e == nil {
		_, err := fmt.Fprintln(a.streams.Out, "no engine is running; `meshsim engine start` starts one")
		return err
	}
	kind, at := "host's Docker", e.Host
	if e.Private {
		kind = "private"
	}
	if at == "" {
		at = "the default socket"
	}
	_, err := fmt.Fprintf(a.streams.Out, "engine: %s, version %s, at %s\n", kind, e.Version, at)
	if err == nil && e.Wrapped {
		_, err = fmt.Fprintf(a.streams.Out, "runtime: wrapped, because this host holds back %v\n", e.Missing)
	}
	return err
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.streams.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
