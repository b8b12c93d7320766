// Package process fits a whole process to its one purpose, to be a proxy.
package process

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"meshsim.dev/meshsim/clusters/footprint"
	"meshsim.dev/meshsim/clusters/pause"
)

// collectAt is how much garbage there may be, in percent of what is in use. A
// proxy keeps little and drops much: at Go's 100 it would be half as large again.
const collectAt = 50

// GoDebug is for the environment variable GODEBUG that a proxy is started with:
// goroutines begin with as much stack as those of now need on average. net/http
// starts about eight for a request, most of which would have to grow. See
// StaySmall for how the average comes to be more than the least.
const GoDebug = "adaptivestackstart=1"

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
//
// It waits deep in its stack. Goroutines that wait for a request need little of
// theirs, and would have those that serve one begin with as little.
func StaySmall(ctx context.Context) error {
	var err error
	below(depth, func() { err = repeat(ctx, footprint.Shrink) })
	return err
}

// depth in KiB brings the average of 150 goroutines from some 700 bytes to over
// 1,120, from where on they begin with 4 KiB instead of 2.
const depth = 64

// below calls do that many KiB deeper in the stack.
//
//go:noinline
func below(kib int, do func()) byte {
	var room [1 << 10]byte
	if kib == 0 {
		do()
		return room[0]
	}
	return below(kib-1, do) + room[kib%len(room)]
}

func repeat(ctx context.Context, do func() error) error {
	for wait := firstPause; pause.For(ctx, wait) == nil; wait = min(2*wait, maxPause) {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}
