// Command meshsim rehearses a service-mesh launch before customers see it.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"meshsim.dev/meshsim/clusters/engine"
)

func main() {
	// The private engine runs this same program as its OCI runtime on hosts
	// that hold back a capability.
	if filepath.Base(os.Args[0]) == engine.WrapperName {
		os.Exit(engine.RunOCI(os.Args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the program at once: the first one only asked.
	context.AfterFunc(ctx, stop)
	code := Run(ctx, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	stop()
	os.Exit(code)
}
