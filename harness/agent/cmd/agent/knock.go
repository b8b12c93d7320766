package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"strings"

	"meshsim.dev/meshsim/harness/agent/knock"
	"meshsim.dev/meshsim/harness/agent/plaintext"
)

// tryKnocking prints one line of JSON with what became of every call.
func tryKnocking(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	o := knock.Options{}
	plain := flags.String("targets", "", "comma-separated NAME=HOST:PORT of gRPC servers to call without TLS of one's own")
	sealed := flags.String("tls-targets", "", "the same, to call with certificates that nobody trusts")
	flags.StringVar(&o.Name, "name", "", "what those certificates say the caller is")
	flags.StringVar(&o.Suffix, "suffix", "", "what follows a target's name in the one that its server is asked for by")
	return func(ctx context.Context, _ []string, out io.Writer) error {
		all := []knock.Result{}
		for _, ways := range []struct {
			targets string
			ways    []string
		}{{*plain, []string{knock.Plain}}, {*sealed, []string{knock.Foreign, knock.Expired}}} {
			if ways.targets == "" {
				continue
			}
			targets, err := plaintext.ParseTargets(strings.Split(ways.targets, ","))
			if err != nil {
				return err
			}
			for _, way := range ways.ways {
				o.Targets, o.Way = targets, way
				some, err := knock.Try(ctx, o)
				if err != nil {
					return err
				}
				all = append(all, some...)
			}
		}
		return json.NewEncoder(out).Encode(all)
	}
}
