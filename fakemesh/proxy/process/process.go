// Package process fits a whole process to its one purpose, to be a proxy.
package process

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"meshsim.dev/meshsim/clusters/footprint"
)

// collectAt is how much garbage there may be, in percent of what is in use. A
// proxy keeps little and drops much: at Go's 100 it would be half as large again.
const collectAt = 50

// Fit gives the Go runtime that many cores at a time (0: all), has it collect
// garbage early, unless the environment says when, and gives back those pages of
// the program that only its start needed: the control plane's packages are in the
// same file, and a proxy never runs them.
func Fit(cores int) error {
	if cores > 0 {
		runtime.GOMAXPROCS(cores)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	return footprint.Shrink()
}

// Pauses after which pages are given back once more.
const (
	firstPause = 500 * time.Millisecond
	maxPause   = 10 * time.Minute
)

// StaySmall gives the program's pages back again and again, with pauses that
// grow, until ctx ends. What the program has touched only to start, and then to
// open its connections, stays away; what its work goes on needing comes back from
// the page cache.
func StaySmall(ctx context.Context) error { return repeat(ctx, footprint.Shrink) }

func repeat(ctx context.Context, do func() error) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		if err := do(); err != nil {
			return err
		}
	}
}
