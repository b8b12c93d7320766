// Command fakemesh is a stand-in for Linkerd where Linkerd's images cannot be
// had: its control plane, its proxy and its init container in one program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"meshsim.dev/meshsim/fakemesh/contract"
)

// Exit codes.
const (
	codeFailed = 1
	codeUsage  = 2
	codeAwait  = 69 // await gave up
)

type command struct {
	about string
	run   func(ctx context.Context, o *options) error
}

// options are what every command gets.
type options struct {
	flags  *flag.FlagSet
	args   []string
	env    func(string) string
	stdout io.Writer
	log    *slog.Logger
	level  *slog.LevelVar
}

// parse reads the flags that the command has defined.
func (o *options) parse() error {
	if err := o.flags.Parse(o.args); err != nil {
		return usageError{err, true}
	}
	o.args = o.flags.Args()
	return nil
}

type usageError struct {
	error
	told bool // the flags have printed it
}

// Unwrap gives the cause.
func (e usageError) Unwrap() error { return e.error }

// wrongUse is an error of the command's arguments.
func wrongUse(err error) error { return usageError{error: err} }

// wrongFlag is an error of a flag's value.
func wrongFlag(name string, err error) error { return wrongUse(fmt.Errorf("--%s: %w", name, err)) }

// exitError is an error with an exit code of its own.
type exitError struct {
	error
	code int
}

func commands() map[string]command {
	return map[string]command{
		"identity":     {"issue certificates to proxies", runIdentity},
		"destination":  {"tell proxies what is behind an address", runDestination},
		"injector":     {"add the proxy to new pods", runInjector},
		"policy":       {"tell proxies whom to let in, and refuse policies that make no sense", runPolicy},
		"sp-validator": {"refuse ServiceProfiles that make no sense", runSPValidator},
		"proxy":        {"be a pod's proxy", runProxy},
		"init":         {"redirect a pod's traffic through its proxy", runInit},
		"await":        {"wait until the proxy is ready", runAwait},
		"sleep":        {"hold back the proxy's end for some seconds", runSleep},
		"version":      {"print the version", runVersion},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	all := commands()
	if len(args) == 0 {
		usage(stderr, all)
		return codeUsage
	}
	c, ok := all[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "fakemesh: unknown command %q\n", args[0])
		usage(stderr, all)
		return codeUsage
	}
	level := &slog.LevelVar{}
	o := &options{
		flags: flag.NewFlagSet(args[0], flag.ContinueOnError), args: args[1:], env: env, stdout: stdout, level: level,
		log: slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})),
	}
	o.flags.SetOutput(stderr)
	err := c.run(ctx, o)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	wrong, isWrong := errors.AsType[usageError](err)
	if !wrong.told {
		fmt.Fprintf(stderr, "fakemesh %s: %v\n", args[0], err)
	}
	if isWrong {
		return codeUsage
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return exit.code
	}
	return codeFailed
}

func usage(w io.Writer, all map[string]command) {
	fmt.Fprintln(w, "fakemesh is a stand-in for Linkerd. Commands:")
	for _, name := range []string{"identity", "destination", "policy", "sp-validator", "injector", "proxy", "init", "await", "sleep", "version"} {
		fmt.Fprintf(w, "  %-12s %s\n", name, all[name].about)
	}
}

func runVersion(_ context.Context, o *options) error {
	_, err := fmt.Fprintln(o.stdout, contract.Version)
	return err
}
