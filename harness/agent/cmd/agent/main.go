// Command agent measures from inside the cluster: it is the twins whose calls
// are compared with and without the mesh, and the stranger without a proxy who
// tries plaintext calls. Its one line of JSON on standard output is the result.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"meshsim.dev/meshsim/harness/agent/plaintext"
	"meshsim.dev/meshsim/harness/agent/twin"
)

const usage = `usage:
  agent twin-server --listen ADDR
  agent twin-client --plain ADDR --meshed ADDR [--triples N] [--payload BYTES] [--rate PER_SECOND]
  agent plaintext --targets NAME=ADDR,…
  agent hold`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "agent: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	switch args[0] {
	case "twin-server":
		listen := flags.String("listen", ":9000", "address to serve gRPC on")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return twin.Serve(ctx, *listen)
	case "twin-client":
		o := twin.Options{}
		flags.StringVar(&o.Plain, "plain", "", "address of the server without a proxy")
		flags.StringVar(&o.Meshed, "meshed", "", "address of the server behind a proxy")
		flags.IntVar(&o.Triples, "triples", 2000, "how many triples to measure")
		flags.IntVar(&o.Payload, "payload", 512, "bytes in each call and each answer")
		flags.Float64Var(&o.Rate, "rate", 100, "triples a second")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		result, err := twin.Measure(ctx, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(result)
	case "plaintext":
		targets := flags.String("targets", "", "comma-separated NAME=ADDR of gRPC servers")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		list, err := plaintext.ParseTargets(strings.Split(*targets, ","))
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(plaintext.Try(ctx, list))
	case "hold":
		<-ctx.Done()
		return nil
	default:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
}
