//go:build e2e

// Package e2e rehearses on a real kind cluster with the meshsim program as a
// user has it: topology ci, the rollout that must pass and the careless one
// that must fail, an interrupted run, and a clean-up that leaves nothing.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"meshsim.dev/meshsim/clusters/cache"
)

const clusterName = "e2e"

var testenv env.Environment

func TestMain(m *testing.M) {
	testenv = env.New()
	testenv.Setup(raise)
	testenv.Finish(lower)
	os.Exit(testenv.Run(m))
}

func raise(ctx context.Context, cfg *envconf.Config) (context.Context, error) {
	if out := meshsim(ctx, "up", "--name", clusterName, "--topology", "ci"); out.code != 0 {
		return ctx, fmt.Errorf("meshsim up: exit code %d:\n%s", out.code, out.stderr)
	}
	dir, err := cache.Default()
	if err != nil {
		return ctx, err
	}
	cfg.WithKubeconfigFile(filepath.Join(dir.Cluster(clusterName), "kubeconfig"))
	return ctx, nil
}

func lower(ctx context.Context, _ *envconf.Config) (context.Context, error) {
	if out := meshsim(ctx, "down", "--name", clusterName); out.code != 0 {
		return ctx, fmt.Errorf("meshsim down: exit code %d:\n%s", out.code, out.stderr)
	}
	return ctx, nil
}

// output is what one call of the program gave.
type output struct {
	code   int
	stdout string
	stderr string
}

// command is the program as `make build` left it, run from the checkout.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bin/meshsim", args...)
	cmd.Dir = "../.."
	return cmd
}

func meshsim(ctx context.Context, args ...string) output {
	fmt.Fprintf(os.Stderr, "--- meshsim %v\n", args)
	cmd := command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout = &stdout
	cmd.Stderr = &teeStderr{&stderr}
	return result(cmd.Run(), &stdout, &stderr)
}

func result(err error, stdout, stderr *bytes.Buffer) output {
	out := output{stdout: stdout.String(), stderr: stderr.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		out.code = exit.ExitCode()
	} else if err != nil {
		out.code, out.stderr = -1, err.Error()
	}
	return out
}

// teeStderr shows progress while a long command runs.
type teeStderr struct{ buf *bytes.Buffer }

func (t *teeStderr) Write(p []byte) (int, error) {
	t.buf.Write(p)
	return os.Stderr.Write(p)
}
