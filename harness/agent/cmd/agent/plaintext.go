package main

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"strings"

	"meshsim.dev/meshsim/harness/agent/plaintext"
)

func tryPlaintext(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	targets := flags.String("targets", "", "comma-separated NAME=ADDR of gRPC servers")
	exempt := flags.String("exempt", "", "the same, of servers that may let the calls in")
	return func(ctx context.Context, _ []string, out io.Writer) error {
		list, err := plaintext.ParseTargets(strings.Split(*targets, ","))
		if err != nil {
			return err
		}
		var may []plaintext.Target
		if *exempt != "" {
			if may, err = plaintext.ParseTargets(strings.Split(*exempt, ",")); err != nil {
				return err
			}
		}
		return json.NewEncoder(out).Encode(plaintext.Try(ctx, list, may))
	}
}
