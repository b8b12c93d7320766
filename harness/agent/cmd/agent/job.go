package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"meshsim.dev/meshsim/harness/agent/call"
)

// proxyShutdown is where a mesh's proxy is told that its pod's work is done.
const proxyShutdown = "http://localhost:4191/shutdown"

// doJob makes one call and ends, as a Job does. Without --shutdown the proxy
// beside it goes on, and with it the pod.
func doJob(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	o := call.Options{Rate: 1, Count: 1, Timeout: 10 * time.Second}
	flags.StringVar(&o.Target, "target", "", "URL to call")
	shutdown := flags.Bool("shutdown", false, "tell the proxy to end, too")
	return func(ctx context.Context, _ []string, _ io.Writer) error {
		if err := once(ctx, o); err != nil {
			return fmt.Errorf("the job's call: %w", err)
		}
		if !*shutdown {
			return nil
		}
		return endProxy(ctx)
	}
}

func once(ctx context.Context, o call.Options) error {
	all, err := call.Run(ctx, o)
	if err != nil {
		return err
	}
	return firstFailure(all)
}
