//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
	"sigs.k8s.io/e2e-framework/pkg/features"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/test/mesh/report"
)

const clusterName = "conformance"

// What a run is told by its environment.
const (
	envMesh   = "MESH"   // fakemesh or linkerd
	envRows   = "ROWS"   // pattern of the ids to run; all when empty
	envReport = "REPORT" // file for the table; none when empty
	envKeep   = "KEEP"   // 1 leaves the cluster standing
)

var testenv env.Environment

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

// run ends early but in order when it is interrupted: what a scene changed is
// put back, and the table tells how far it came.
func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	wanted, err := asked()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if testenv, err = env.NewWithContext(ctx, envconf.New()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	testenv.Setup(raise, wanted.prepareWorld)
	// A report that was not written and a cluster that was not removed count.
	var finished error
	testenv.Finish(func(ctx context.Context, _ *envconf.Config) (context.Context, error) {
		finished = errors.Join(publish(ctx), lower(ctx))
		return ctx, finished
	})
	code := testenv.Run(m)
	if finished != nil && code == 0 {
		code = 1
	}
	return code
}

// raise brings the cluster up with the program as `make build` left it, or
// takes the one that stands.
func raise(ctx context.Context, cfg *envconf.Config) (context.Context, error) {
	if err := meshsim(ctx, "up", "--name", clusterName, "--topology", "ci"); err != nil {
		return ctx, err
	}
	dir, err := cache.Default()
	if err != nil {
		return ctx, err
	}
	cluster, err := kind.Open(dir, clusterName)
	if err != nil {
		return ctx, err
	}
	cfg.WithKubeconfigFile(cluster.Kubeconfig)
	return context.WithValue(ctx, clusterKey{}, cluster), nil
}

type (
	clusterKey struct{}
	worldKey   struct{}
)

// wanted is what the environment asks of a run.
type wanted struct {
	mesh string
	rows *regexp.Regexp
}

// asked reads it, before minutes are spent on a cluster.
func asked() (wanted, error) {
	w := wanted{mesh: os.Getenv(envMesh), rows: regexp.MustCompile("")}
	if w.mesh != stack.MeshLinkerd && w.mesh != stack.MeshStandIn {
		return w, fmt.Errorf("%s=%q: it is %s or %s", envMesh, w.mesh, stack.MeshStandIn, stack.MeshLinkerd)
	}
	text := os.Getenv(envRows)
	if text == "" {
		return w, nil
	}
	var err error
	if w.rows, err = regexp.Compile("^(?:" + text + ")$"); err != nil {
		return w, fmt.Errorf("%s: %w", envRows, err)
	}
	var ids []string
	for _, s := range scenes() {
		for _, r := range s.rows {
			if w.rows.MatchString(r.id) {
				return w, nil
			}
			ids = append(ids, r.id)
		}
	}
	return w, fmt.Errorf("%s=%q matches no row; there are %s", envRows, text, strings.Join(ids, ", "))
}

func (a wanted) prepareWorld(ctx context.Context, cfg *envconf.Config) (context.Context, error) {
	w, err := newWorld(ctx, ctx.Value(clusterKey{}).(*kind.Cluster), cfg, a.mesh, a.rows)
	if err != nil {
		return ctx, err
	}
	return context.WithValue(ctx, worldKey{}, w), nil
}

// publish prints the table and writes it where it was asked for.
func publish(ctx context.Context) error {
	w, ok := ctx.Value(worldKey{}).(*world)
	if !ok {
		return nil // it failed before there was anything to tell
	}
	if err := w.book.Markdown(os.Stdout); err != nil {
		return err
	}
	path := os.Getenv(envReport)
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return errors.Join(w.book.Markdown(f), f.Close())
}

func lower(ctx context.Context) error {
	if os.Getenv(envKeep) == "1" {
		return nil
	}
	return meshsim(context.WithoutCancel(ctx), "down", "--name", clusterName)
}

func meshsim(ctx context.Context, args ...string) error {
	fmt.Fprintf(os.Stderr, "--- meshsim %v\n", args)
	cmd := exec.CommandContext(ctx, "bin/meshsim", args...)
	cmd.Dir = "../.."
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("meshsim %v: %w", args, err)
	}
	return nil
}

func TestConformance(t *testing.T) {
	testenv.Test(t, features.New("conformance").Assess("rows", func(ctx context.Context, t *testing.T, _ *envconf.Config) context.Context {
		w := ctx.Value(worldKey{}).(*world)
		for _, s := range scenes() {
			for _, r := range s.rows {
				w.book.Set(report.Row{ID: r.id, Says: r.says, Expected: r.expected, Outcome: report.NotRun})
			}
		}
		for _, s := range scenes() {
			w.play(ctx, t, s)
		}
		return ctx
	}).Feature())
}
