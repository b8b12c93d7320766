// Command podtargets is a sidecar of Prometheus that lists the cluster's pods
// for it, on localhost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"meshsim.dev/meshsim/clusters/stack/podtargets"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "podtargets:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("podtargets", flag.ContinueOnError)
	flags.SetOutput(stderr)
	listen := flags.String("listen", "127.0.0.1:9095", "address of GET /targets")
	if err := flags.Parse(args); err != nil {
		return err
	}
	source, err := podtargets.InCluster(os.Getenv)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              *listen,
		Handler:           podtargets.Handler(source, slog.New(slog.NewTextHandler(stderr, nil))),
		ReadHeaderTimeout: 5 * time.Second,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
