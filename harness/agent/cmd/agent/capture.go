package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"time"

	"meshsim.dev/meshsim/harness/agent/wire"
)

// capture prints a line of JSON for each snapshot until it is told to end.
func capture(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	o := wire.FollowOptions{}
	var pods, nodes string
	flags.StringVar(&o.Node, "node", "", "what the snapshots name")
	flags.DurationVar(&o.Every, "every", 5*time.Second, "between two snapshots")
	flags.StringVar(&pods, "pods", "", "comma-separated networks of pods; none: everything is followed")
	flags.StringVar(&nodes, "nodes", "", "comma-separated addresses of nodes")
	flags.Func("needle", "`NAME=HEX` of bytes to look for; may be repeated", func(word string) error {
		n, err := wire.ParseNeedle(word)
		o.Needles = append(o.Needles, n)
		return err
	})
	flags.IntVar(&o.MaxFlows, "flows", 0, "most flows to follow at a time (default 16384)")
	return func(ctx context.Context, _ []string, out io.Writer) error {
		var err error
		if o.Networks.Pods, err = wire.ParseNetworks(pods); err != nil {
			return err
		}
		if o.Networks.Nodes, err = wire.ParseNetworks(nodes); err != nil {
			return err
		}
		enc := json.NewEncoder(out)
		return wire.Follow(ctx, o, func(s wire.Snapshot) error { return enc.Encode(s) })
	}
}
