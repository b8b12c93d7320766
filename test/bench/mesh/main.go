// Command mesh measures what a pair of the stand-in's proxies costs a request,
// beside no proxy at all and beside a pair of nginx that does the same mutual
// TLS, on loopback, in one run. It says what it found as tables, and as JSON.
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
	"strings"
	"syscall"
	"time"

	"meshsim.dev/meshsim/test/bench/sheet"
	"meshsim.dev/meshsim/test/loopmesh/echo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// options are what the flags say.
type options struct {
	json      string
	profiles  string
	nginxRoot string
	quick     bool
	cores     int
	plan      plan
	log       *slog.Logger
}

func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	return sheet.Code("mesh", dispatch(ctx, args, env, stdout, stderr), stderr)
}

func dispatch(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	if role := env(envRole); role != "" {
		return runRole(ctx, role, env)
	}
	o := options{plan: fullPlan(), log: slog.New(slog.NewTextHandler(stderr, nil))}
	flags := flag.NewFlagSet("mesh", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.json, "json", "", "write the report to this `file` as well")
	flags.BoolVar(&o.quick, "quick", false, "half a minute that shows that it works, and no figure to rely on")
	flags.IntVar(&o.cores, "cores", 1, "`number` of cores that a proxy, and an nginx, uses at a time; meshsim installs it with 1, 0 is all")
	only := flags.String("only", "", "measure only this `part`: memory, handshakes, bodies, or a cell such as gRPC/2000")
	flags.StringVar(&o.profiles, "profile", "", "write pprof profiles of the two proxies to this `folder`")
	flags.StringVar(&o.nginxRoot, "nginx-root", "", "`folder` that Debian's nginx was unpacked to, when it is not installed")
	if err := flags.Parse(args); err != nil {
		return sheet.Usage(err)
	}
	if flags.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", flags.Arg(0))
		fmt.Fprintln(stderr, "mesh:", err)
		return sheet.Usage(err)
	}
	if o.quick {
		o.plan = quickPlan()
	}
	if *only != "" {
		if err := o.plan.keep(*only); err != nil {
			fmt.Fprintln(stderr, "mesh:", err)
			return sheet.Usage(err)
		}
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
	cells                      []cell
	handshakes, handshakesTurn time.Duration
	bulk, bulkTurn             time.Duration
	crowd                      time.Duration
	crowdRate                  float64 // of each of four streams
}

// fullPlan takes less than five minutes. At the low rates all paths send at
// the same time: the machine is idle enough for four of them. At the high rate
// they take turns.
func fullPlan() plan {
	p := plan{handshakes: 6 * time.Second, handshakesTurn: time.Second, bulk: 2 * time.Second, bulkTurn: time.Second, crowd: 15 * time.Second, crowdRate: 50}
	p.add(20, 30*time.Second, 0)
	p.add(200, 20*time.Second, 0)
	p.add(2000, 6*time.Second, time.Second)
	return p
}

func quickPlan() plan {
	p := plan{handshakes: time.Second, handshakesTurn: 500 * time.Millisecond, bulk: 500 * time.Millisecond, bulkTurn: 500 * time.Millisecond, crowd: 3 * time.Second, crowdRate: 50}
	p.add(20, 2*time.Second, 0)
	p.add(200, 2*time.Second, 0)
	p.add(2000, time.Second, 500*time.Millisecond)
	return p
}

func (p *plan) add(rate float64, on, turn time.Duration) {
	for _, proto := range []echo.Protocol{echo.HTTP, echo.GRPC, echo.TCP} {
		p.cells = append(p.cells, cell{proto, rate, on, turn})
	}
}

// What is measured beside the cells, as -only names it.
const (
	onlyMemory     = "memory"
	onlyHandshakes = "handshakes"
	onlyBulk       = "bodies"
)

// keep leaves the part of that name alone.
func (p *plan) keep(name string) error {
	all := *p
	*p = plan{crowdRate: all.crowdRate, handshakesTurn: all.handshakesTurn, bulkTurn: all.bulkTurn}
	names := []string{onlyMemory, onlyHandshakes, onlyBulk}
	switch name {
	case onlyMemory:
		p.crowd = all.crowd
		return nil
	case onlyHandshakes:
		p.handshakes = all.handshakes
		return nil
	case onlyBulk:
		p.bulk = all.bulk
		return nil
	}
	for _, c := range all.cells {
		if c.name() == name {
			p.cells = []cell{c}
			return nil
		}
		names = append(names, c.name())
	}
	return fmt.Errorf("nothing to measure is called %q: want one of %s", name, strings.Join(names, ", "))
}

// bench does all that is planned.
func bench(ctx context.Context, o options) (r *report, err error) {
	begin := time.Now()
	w, err := startWorld(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r = &report{Host: host{sheet.ThisHost(), w.nginx != nil}, Begun: begin, Quick: o.quick}
	if o.plan.crowd > 0 {
		// First, so that it is what endpoints cost, not what the loads below leave.
		o.log.Info("measuring memory", "endpoints", crowdSize)
		if r.Crowd, err = crowded(ctx, w, o.plan.crowdRate, o.plan.crowd); err != nil {
			return nil, fmt.Errorf("measure memory: %w", err)
		}
	}
	paths := w.paths()
	for _, c := range o.plan.cells {
		o.log.Info("measuring", "cell", c.name())
		got, err := measure(ctx, paths, c)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", c.name(), err)
		}
		r.Cells = append(r.Cells, got...)
		r.Added = append(r.Added, addedOf(got)...)
	}
	if o.plan.handshakes > 0 {
		o.log.Info("measuring handshakes")
		if r.Handshakes, err = shake(ctx, paths[2:], o.plan.handshakes, o.plan.handshakesTurn); err != nil {
			return nil, fmt.Errorf("measure handshakes: %w", err)
		}
	}
	if o.plan.bulk > 0 {
		o.log.Info("measuring large bodies")
		if r.Bulk, err = transfer(ctx, paths, o.plan.bulk, o.plan.bulkTurn); err != nil {
			return nil, fmt.Errorf("measure large bodies: %w", err)
		}
	}
	r.judge()
	r.Took = time.Since(begin).Round(time.Second).String()
	return r, nil
}
