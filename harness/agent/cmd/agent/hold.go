package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
)

// hold keeps a container running until it is told to end.
func hold(*flag.FlagSet) func(context.Context, []string, io.Writer) error {
	return func(ctx context.Context, _ []string, _ io.Writer) error {
		<-ctx.Done()
		return nil
	}
}

// sleep is what a preStop hook calls in an image without a shell.
func sleep(*flag.FlagSet) func(context.Context, []string, io.Writer) error {
	return func(ctx context.Context, words []string, _ io.Writer) error {
		if len(words) != 1 {
			return errors.New("sleep takes a duration, such as 5s")
		}
		d, err := time.ParseDuration(words[0])
		if err != nil {
			return fmt.Errorf("sleep: %w", err)
		}
		_ = pause.For(ctx, d)
		return nil
	}
}
