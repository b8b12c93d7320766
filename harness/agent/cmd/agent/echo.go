package main

import (
	"context"
	"flag"
	"io"

	"meshsim.dev/meshsim/harness/agent/echo"
)

func echoServer(flags *flag.FlagSet) func(context.Context, []string, io.Writer) error {
	o := echo.Options{}
	flags.StringVar(&o.HTTP, "http", "", "address for HTTP/1.1, h2c and WebSocket")
	flags.StringVar(&o.GRPC, "grpc", "", "address for gRPC")
	flags.StringVar(&o.TCP, "tcp", "", "address for TCP that gives bytes back")
	flags.StringVar(&o.Greeting, "greeting", "", "address for TCP whose server speaks first")
	flags.StringVar(&o.Name, "name", "", "what it calls itself (default: the host's name)")
	return func(ctx context.Context, _ []string, _ io.Writer) error { return echo.Serve(ctx, o) }
}
