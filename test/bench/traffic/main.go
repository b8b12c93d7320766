// Command traffic measures the sender of rehearsals and the import of access
// logs: how late requests leave, what they cost beside vegeta's, ghz's and wrk's
// own command lines, and what memory they take, against a server that does
// nothing, on loopback, in one run. It says what it found as a table, and as JSON.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"meshsim.dev/meshsim/test/bench/sheet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	return sheet.Code("traffic", dispatch(ctx, args, env, stdin, stdout, stderr), stderr)
}

// options are what the flags say.
type options struct {
	json, profiles   string
	meshsim          string
	vegeta, ghz, wrk string
	wrkLibs          string
	quick            bool
	plan             plan
	log              *slog.Logger
}

func dispatch(ctx context.Context, args []string, env func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	if role := env(envRole); role != "" {
		return runRole(ctx, role, env(envTask), stdin, stdout)
	}
	o := options{plan: fullPlan(), log: slog.New(slog.NewTextHandler(stderr, nil))}
	flags := flag.NewFlagSet("traffic", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.json, "json", "", "write the report to this `file` as well")
	flags.BoolVar(&o.quick, "quick", false, "half a minute that shows that it works, and no figure to rely on")
	flags.StringVar(&o.meshsim, "meshsim", "", "meshsim's `program`, which imports; without it nothing is imported")
	flags.StringVar(&o.vegeta, "vegeta", "", "vegeta's `program`; without it there is no comparison with it")
	flags.StringVar(&o.ghz, "ghz", "", "ghz's `program`")
	flags.StringVar(&o.wrk, "wrk", "", "wrk's `program`")
	flags.StringVar(&o.wrkLibs, "wrk-libs", "", "`folder` of the libraries that wrk needs, where they are not installed")
	flags.StringVar(&o.profiles, "profile", "", "write pprof profiles of the senders to this `folder`")
	only := flags.String("only", "", "measure only these `parts`, with commas: "+strings.Join(partNames(), ", "))
	if err := flags.Parse(args); err != nil {
		return sheet.Usage(err)
	}
	if o.quick {
		o.plan = quickPlan()
	}
	err := o.plan.keep(*only)
	if flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(stderr, "traffic:", err)
		return sheet.Usage(err)
	}
	r, err := bench(ctx, o)
	if err != nil {
		return err
	}
	if err := r.writeTables(stdout); err != nil {
		return err
	}
	if o.json == "" {
		return nil
	}
	return sheet.WriteJSON(o.json, r)
}

// plan is what is measured, and for how long.
type plan struct {
	parts      []string
	steady     time.Duration // of each rate whose lag is a figure
	search     time.Duration // of each rate on the way to the highest
	rivals     time.Duration // of each turn of a program
	rounds     int           // turns that each has
	rivalRate  float64
	remembered int // results whose memory is a figure
	lines      int // of the log
}

// The parts of a run, as -only names them.
const (
	partLag     = "lag"
	partHighest = "highest"
	partRivals  = "rivals"
	partMemory  = "memory"
	partImport  = "import"
)

func partNames() []string {
	return []string{partLag, partHighest, partRivals, partMemory, partImport}
}

// fullPlan takes about six minutes, half of them for a million results.
func fullPlan() plan {
	return plan{
		parts: partNames(), steady: 10 * time.Second, search: time.Second, rivals: 6 * time.Second, rounds: 3,
		rivalRate: 3000, remembered: 1_000_000, lines: 10_000_000,
	}
}

func quickPlan() plan {
	return plan{
		parts: partNames(), steady: time.Second, search: 300 * time.Millisecond, rivals: time.Second, rounds: 1,
		rivalRate: 500, remembered: 2000, lines: 100_000,
	}
}

func (p *plan) keep(only string) error {
	if only == "" {
		return nil
	}
	p.parts = strings.Split(only, ",")
	for _, part := range p.parts {
		if !slices.Contains(partNames(), part) {
			return fmt.Errorf("nothing to measure is called %q: want some of %s", part, strings.Join(partNames(), ", "))
		}
	}
	return nil
}

func (p *plan) has(part string) bool { return slices.Contains(p.parts, part) }

// bench does all that is planned.
func bench(ctx context.Context, o options) (r *report, err error) {
	begin := time.Now()
	w, err := openWorld(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r = &report{Host: sheet.ThisHost(), Begun: begin, Quick: o.quick}
	for _, part := range []struct {
		name string
		do   func(context.Context, *world, *report) error
	}{
		{partLag, measureLag}, {partHighest, measureHighest}, {partRivals, measureRivals}, {partMemory, measureMemory}, {partImport, measureImport},
	} {
		if !o.plan.has(part.name) {
			continue
		}
		o.log.Info("measuring", "part", part.name)
		if err := part.do(ctx, w, r); err != nil {
			return nil, fmt.Errorf("measure %s: %w", part.name, err)
		}
	}
	r.judge()
	r.Took = time.Since(begin).Round(time.Second).String()
	return r, nil
}
