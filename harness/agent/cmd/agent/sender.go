package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"meshsim.dev/meshsim/harness/agent/call"
	"meshsim.dev/meshsim/harness/agent/sender"
	"meshsim.dev/meshsim/harness/traffic/agents/wire"
)

// sendTraffic sends its part of a plan, by its index in an indexed Job.
func sendTraffic(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	plan := flags.String("plan", "", "file with what is to be sent")
	index := flags.String("index", os.Getenv("JOB_COMPLETION_INDEX"), "which of the agents this is")
	listen := flags.String("listen", fmt.Sprintf("127.0.0.1:%d", wire.Port), "address to be controlled at")
	spool := flags.String("spool", "", "file for results until they are taken")
	patience := flags.Duration("patience", 2*time.Minute, "end when nobody asks for anything for so long")
	shutdown := flags.Bool("shutdown", false, "tell the proxy to end, too")
	return func(ctx context.Context, _ []string, _ io.Writer) (err error) {
		if *shutdown {
			defer func() { err = errors.Join(err, endProxy(context.WithoutCancel(ctx))) }()
		}
		number, err := strconv.Atoi(*index)
		if err != nil {
			return fmt.Errorf("index %q is no number", *index)
		}
		raw, err := os.ReadFile(*plan)
		if err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		p, err := wire.ReadPlan(raw, number)
		if err != nil {
			return err
		}
		pod, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("ask for this pod's name: %w", err)
		}
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		return sender.Serve(ctx, l, sender.Options{
			Plan: p, Pod: pod, Spool: *spool, Patience: *patience, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}
}

// endProxy tells the proxy beside it to end, without which a Job's pod never does.
func endProxy(ctx context.Context) error {
	o := call.Options{Rate: 1, Count: 1, Timeout: 10 * time.Second, Target: proxyShutdown, Method: "POST"}
	if err := once(ctx, o); err != nil {
		return fmt.Errorf("end the proxy: %w", err)
	}
	return nil
}
