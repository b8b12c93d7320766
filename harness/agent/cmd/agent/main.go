// Command agent is what measures and is measured from inside the cluster, one
// file a sub-command. What it finds is JSON on standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage:
  agent twin-server --listen ADDR
  agent twin-client --plain ADDR|URL --meshed ADDR|URL [--triples N] [--payload BYTES] [--rate PER_SECOND]
  agent plaintext --targets NAME=ADDR,…
  agent knock [--targets NAME=ADDR,…] [--tls-targets NAME=ADDR,… --name NAME --suffix SUFFIX]
  agent echo-server [--http ADDR] [--grpc ADDR] [--tcp ADDR] [--greeting ADDR] [--name NAME]
  agent call --target PROTOCOL://HOST:PORT[/PATH] [--rate PER_SECOND] [--count N] [--strict] …
  agent job --target PROTOCOL://HOST:PORT[/PATH] [--shutdown]
  agent leaf --target HOST:PORT --name NAME
  agent traffic --plan FILE --spool FILE [--index N] [--listen ADDR] [--shutdown]
  agent capture --node NAME [--pods NETWORK,…] [--nodes ADDR,…] [--needle NAME=HEX] [--every DURATION]
  agent sockets
  agent sleep DURATION
  agent hold`

// command is one sub-command: it adds its flags and, once they are parsed,
// runs with the words that are left.
type command func(flags *flag.FlagSet) func(ctx context.Context, words []string, out io.Writer) error

var commands = map[string]command{
	"twin-server": twinServer,
	"twin-client": twinClient,
	"plaintext":   tryPlaintext,
	"knock":       tryKnocking,
	"echo-server": echoServer,
	"call":        makeCalls,
	"job":         doJob,
	"leaf":        readLeaf,
	"traffic":     sendTraffic,
	"capture":     capture,
	"sockets":     listSockets,
	"sleep":       sleep,
	"hold":        hold,
}

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
	c, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	do := c(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	return do(ctx, flags.Args(), out)
}
