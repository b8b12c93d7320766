package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"time"

	"meshsim.dev/meshsim/harness/agent/leaf"
)

func readLeaf(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	target := flags.String("target", "", "HOST:PORT of a TLS server")
	name := flags.String("name", "", "the server's name to ask for")
	timeout := flags.Duration("timeout", 10*time.Second, "how long it may take")
	return func(ctx context.Context, _ []string, out io.Writer) error {
		ctx, cancel := context.WithTimeout(ctx, *timeout)
		defer cancel()
		r, err := leaf.Read(ctx, *target, *name)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(r)
	}
}
