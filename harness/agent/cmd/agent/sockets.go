package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"

	"meshsim.dev/meshsim/harness/agent/sockets"
)

func listSockets(*flag.FlagSet) func(context.Context, []string, io.Writer) error {
	return func(_ context.Context, _ []string, out io.Writer) error {
		all, err := sockets.List(os.DirFS("/proc"))
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(all)
	}
}
