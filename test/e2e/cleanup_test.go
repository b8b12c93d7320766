//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/kind"
)

const brokenName = "e2e-broken"

// Each end comes when a node's container exists, so that there is something to leave behind.
func TestAnUpThatIsBrokenOffLeavesNothing(t *testing.T) {
	for _, end := range []struct {
		name   string
		signal syscall.Signal
		code   int
		downs  int // how many `meshsim down` follow
	}{
		{"Ctrl-C cleans up by itself", syscall.SIGINT, 130, 0},
		{"kill -9 is cleaned up by down, which may be called twice", syscall.SIGKILL, -1, 2},
	} {
		feature := features.New("up broken off").
			Assess(end.name, func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
				cmd := command(ctx, "up", "--name", brokenName, "--topology", "ci")
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				docker := findEngine(ctx, t)
				docker.awaitNode(ctx, t)
				if err := cmd.Process.Signal(end.signal); err != nil {
					t.Fatal(err)
				}
				if out := result(cmd.Wait(), &stdout, &stderr); out.code != end.code {
					t.Fatalf("exit code %d, want %d\n%s", out.code, end.code, out.stderr)
				}
				for range end.downs {
					if out := meshsim(ctx, "down", "--name", brokenName); out.code != 0 {
						t.Fatalf("down: exit code %d\n%s", out.code, out.stderr)
					}
				}
				if left := docker.remains(ctx, t); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				return ctx
			}).Feature()
		testenv.Test(t, feature)
	}
}

// dockerOf is the engine that the program under test uses.
type dockerOf struct{ engine.Engine }

func findEngine(ctx context.Context, t *testing.T) dockerOf {
	t.Helper()
	out := meshsim(ctx, "engine", "status", "--json")
	var status struct{ Engine engine.Engine }
	if err := json.Unmarshal([]byte(out.stdout), &status); err != nil {
		t.Fatalf("read `engine status --json`: %v\n%s", err, out.stderr)
	}
	return dockerOf{status.Engine}
}

// list runs a docker command that prints one name a line.
func (d dockerOf) list(ctx context.Context, t *testing.T, args ...string) []string {
	t.Helper()
	call := d.Docker(args...)
	cmd := exec.CommandContext(ctx, call.Argv[0], call.Argv[1:]...)
	cmd.Env = append(os.Environ(), call.Env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(call.Argv, " "), err)
	}
	return strings.Fields(string(out))
}

func (d dockerOf) awaitNode(ctx context.Context, t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		if len(d.list(ctx, t, "ps", "--quiet", "--filter", "name=^"+brokenName+"-worker")) > 0 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal("no node of the cluster came up")
}

// remains lists what is there of the broken cluster: containers, volumes, its folder.
func (d dockerOf) remains(ctx context.Context, t *testing.T) []string {
	t.Helper()
	left := d.list(ctx, t, "ps", "--all", "--format", "{{.Names}}", "--filter", "name=^"+brokenName+"-")
	left = append(left, d.list(ctx, t, "volume", "ls", "--quiet", "--filter", "label="+kind.Label+"="+brokenName)...)
	dir, err := cache.Default()
	if err != nil {
		t.Fatal(err)
	}
	folder := dir.Cluster(brokenName)
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		left = append(left, folder)
	}
	return left
}
