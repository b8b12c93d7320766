// Command fakeshop serves one of the shop's eight services:
//
//	fakeshop serve order-processing
//
// Its settings come from the environment; see settings.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stderr))
}

// errUsage marks wrong use: exit code 2.
var errUsage = errors.New("wrong use")

func run(ctx context.Context, args []string, env func(string) string, stderr io.Writer) int {
	err := serve(ctx, args, env, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "fakeshop: %v\nusage: fakeshop serve SERVICE\nservices: %s\n", err, strings.Join(serviceNames(), ", "))
		return 2
	}
	fmt.Fprintf(stderr, "fakeshop: %v\n", err)
	return 1
}

func serve(ctx context.Context, args []string, env func(string) string, stderr io.Writer) error {
	if len(args) != 2 || args[0] != "serve" {
		return fmt.Errorf("%w: wants \"serve SERVICE\"", errUsage)
	}
	if !slices.Contains(serviceNames(), args[1]) {
		return fmt.Errorf("%w: there is no service %q", errUsage, args[1])
	}
	set, err := readSettings(args[1], env)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: set.logLevel}))
	return runService(ctx, set, log)
}
