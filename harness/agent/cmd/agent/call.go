package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"meshsim.dev/meshsim/harness/agent/call"
)

// makeCalls prints a line of JSON for each call.
func makeCalls(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	o := call.Options{Headers: map[string]string{}}
	flags.StringVar(&o.Target, "target", "", "URL: http, grpc, ws, tcp or greeting")
	flags.StringVar(&o.Method, "method", "", "HTTP method")
	flags.Func("header", "`NAME=VALUE` of a header or of gRPC metadata; may be repeated", func(word string) error {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q is not NAME=VALUE", word)
		}
		o.Headers[name] = value
		return nil
	})
	flags.IntVar(&o.Bytes, "bytes", 0, "size of the payload")
	flags.Float64Var(&o.Rate, "rate", 10, "calls a second")
	flags.IntVar(&o.Count, "count", 1, "how many calls")
	flags.DurationVar(&o.Timeout, "timeout", 5*time.Second, "how long a call may take")
	flags.DurationVar(&o.Hold, "hold", 0, "keep each connection or stream busy for so long")
	flags.BoolVar(&o.Fresh, "fresh", false, "a new connection for each call")
	flags.BoolVar(&o.Show, "show", false, "print headers and trailers")
	strict := flags.Bool("strict", false, "fail when a call fails")
	return func(ctx context.Context, _ []string, out io.Writer) error {
		all, err := call.Run(ctx, o)
		if err != nil {
			return err
		}
		enc := json.NewEncoder(out)
		for _, r := range all {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		if *strict {
			return firstFailure(all)
		}
		return nil
	}
}

func firstFailure(all []call.Result) error {
	for _, r := range all {
		if !r.OK {
			return fmt.Errorf("call %d: %s", r.N, r.Error)
		}
	}
	return nil
}
