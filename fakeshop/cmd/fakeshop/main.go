// Command fakeshop serves one of the shop's eight services, or renews the
// secrets in Vault that they read:
//
//	fakeshop serve order-processing
//	fakeshop rotate        those that are due
//	fakeshop rotate --now  all of them
//
// Its settings come from the environment; see settings.go and rotate.go.
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
	err := command(ctx, args, env, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "fakeshop: %v\nusage: fakeshop serve SERVICE\n       fakeshop rotate [--now]\nservices: %s\n", err, strings.Join(serviceNames(), ", "))
		return 2
	}
	fmt.Fprintf(stderr, "fakeshop: %v\n", err)
	return 1
}

func command(ctx context.Context, args []string, env func(string) string, stderr io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1], env, stderr)
	case len(args) == 1 && args[0] == "rotate", len(args) == 2 && args[0] == "rotate" && args[1] == "--now":
		return rotate(ctx, len(args) == 2, env, stderr)
	}
	return fmt.Errorf("%w: wants \"serve SERVICE\" or \"rotate\"", errUsage)
}

func serve(ctx context.Context, service string, env func(string) string, stderr io.Writer) error {
	if !slices.Contains(serviceNames(), service) {
		return fmt.Errorf("%w: there is no service %q", errUsage, service)
	}
	set, err := readSettings(service, env)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return runService(ctx, set, logger(stderr, set.logLevel))
}

func rotate(ctx context.Context, now bool, env func(string) string, stderr io.Writer) error {
	set, err := readRotateSettings(now, env)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return runRotation(ctx, set, logger(stderr, set.logLevel))
}

func logger(to io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level}))
}
