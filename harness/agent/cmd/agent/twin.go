package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"

	"meshsim.dev/meshsim/harness/agent/twin"
)

func twinServer(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	listen := flags.String("listen", ":9000", "address to serve gRPC on")
	return func(ctx context.Context, _ []string, _ io.Writer) error { return twin.Serve(ctx, *listen) }
}

func twinClient(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	o := twin.Options{}
	flags.StringVar(&o.Plain, "plain", "", "address of the server without a proxy, or the URL of a page")
	flags.StringVar(&o.Meshed, "meshed", "", "the same behind a proxy")
	flags.IntVar(&o.Triples, "triples", 2000, "how many triples to measure")
	flags.IntVar(&o.Payload, "payload", 512, "bytes in each call and each answer of an echo server")
	flags.Float64Var(&o.Rate, "rate", 100, "triples a second")
	return func(ctx context.Context, _ []string, out io.Writer) error {
		result, err := twin.Measure(ctx, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(result)
	}
}
