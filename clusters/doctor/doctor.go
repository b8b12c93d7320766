// Package doctor looks whether a machine has what a rehearsal needs: engine,
// capabilities, limits, memory, disk, kernel, build tools, free ports. Every
// finding says how it is, and what mends it where it is not well.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/progress"
	"meshsim.dev/meshsim/clusters/topology"
)

// State says how a precondition is met.
type State string

const (
	OK      State = "ok"
	Warning State = "warning" // a rehearsal runs, and the finding says what it lacks
	Missing State = "missing" // a rehearsal does not run
)

// Finding is what was found about one precondition.
type Finding struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitempty"` // what to do about it
	// Fix does it; nil when it is left to the reader.
	Fix func(ctx context.Context) error `json:"-"`
}

// Options says what for. Cache, Runner and Topology must be set.
type Options struct {
	Cache    cache.Dir
	Runner   command.Runner
	Topology *topology.Topology // the cluster to be raised
	Self     string             // path of the meshsim executable
	Cluster  string             // name of the cluster; its own ports count as free
	Ports    []int              // of 127.0.0.1 that must be free; 0 is left out
	// Registries are hosts ("quay.io") to call once each; none is called unasked.
	Registries []string
	Log        *slog.Logger
	Progress   *progress.Reporter
}

// system is this machine as the checks see it; tests give another.
type system struct {
	root       string // where /proc, /sys, /boot and /lib are
	goos       string
	euid       int
	lookPath   func(string) (string, error)
	findEngine func(context.Context, engine.Options) (*engine.Engine, error)
	ensure     func(context.Context, engine.Options) (*engine.Engine, error)
	freeDisk   func(path string) (int64, error)
	portFree   func(port int) error
	call       func(ctx context.Context, url string) error
	kernel     string // release, as `uname -r`
	cgroup2    func(path string) (bool, error)
}

// Check looks at everything and changes nothing that stays.
func Check(ctx context.Context, o Options) []Finding {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = progress.Discard()
	}
	return check(ctx, o, thisSystem())
}

func check(ctx context.Context, o Options, s system) []Finding {
	c := checker{Options: o, system: s}
	e, findings := c.engine(ctx)
	findings = append(findings, c.privileged(e), c.cgroup(), c.inotify(), c.memory(), c.disk())
	findings = append(findings, c.kernelFeatures()...)
	findings = append(findings, c.build(), c.registries(ctx))
	return append(findings, c.ports()...)
}

type checker struct {
	Options
	system
}

// Fix runs the fixes of the findings that are not ok, and goes on after a
// failure. What it returns names each that failed.
func Fix(ctx context.Context, findings []Finding) error {
	var errs []error
	for _, f := range findings {
		if f.State == OK || f.Fix == nil {
			continue
		}
		if err := f.Fix(ctx); err != nil {
			errs = append(errs, fmt.Errorf("mend %s: %w", f.Name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// Worst is the state of the whole: missing when anything is.
func Worst(findings []Finding) State {
	worst := OK
	for _, f := range findings {
		switch {
		case f.State == Missing:
			return Missing
		case f.State == Warning:
			worst = Warning
		}
	}
	return worst
}

func thisSystem() system {
	return system{
		root: "/", goos: runtime.GOOS, euid: os.Geteuid(), lookPath: exec.LookPath,
		findEngine: engine.Find, ensure: engine.Ensure,
		freeDisk: freeDisk, portFree: portFree, call: call, kernel: kernelRelease(), cgroup2: isCgroup2,
	}
}
