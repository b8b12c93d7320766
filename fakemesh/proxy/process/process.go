// Package process fits a whole process to its one purpose, to be a proxy.
package process

import (
	"os"
	"runtime"
	"runtime/debug"

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
