package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/progress"
)

// goEnv makes static Linux programs that are the same wherever they are built.
func goEnv() []string {
	return []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + goarch, "GOWORK=off", "GOFLAGS=", "GOAMD64=v1"}
}

// buildUpstream compiles the programs that an upstream's go.mod names as tools.
func buildUpstream(u Upstream, dir string) builder {
	return func(ctx context.Context, w *workshop, _ *component, out string, t *progress.Task) (string, error) {
		flags := []string{"-s", "-w"}
		for _, name := range sortedKeys(u.Stamps) {
			flags = append(flags, "-X", name+"="+u.Stamps[name])
		}
		return u.Version, w.goBuild(ctx, t, dir, out+"/", strings.Join(flags, " "), "tool", "-tags="+strings.Join(u.Tags, ","))
	}
}

// buildOwn compiles one of our programs.
func buildOwn(program string, src checkout) builder {
	return func(ctx context.Context, w *workshop, _ *component, out string, t *progress.Task) (string, error) {
		return "", w.goBuild(ctx, t, string(src), filepath.Join(out, path.Base(program)), "-s -w", program)
	}
}

// goBuild compiles pkg, as seen from the module at dir, to out.
func (w *workshop) goBuild(ctx context.Context, t *progress.Task, dir, out, ldflags, pkg string, more ...string) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fault.NewEnvironment(errors.New("the go command is not on PATH"), "install Go 1.26 or newer")
	}
	argv := []string{"go", "build", "-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", ldflags, "-o", out}
	_, err := w.runner.Run(ctx, command.Cmd{
		Argv:   append(append(argv, more...), pkg),
		Env:    goEnv(),
		Dir:    dir,
		Stderr: &packageCount{task: t},
	})
	if err != nil {
		return fmt.Errorf("compile %s: %w", pkg, err)
	}
	return nil
}

// packageCount turns the package names that `go build -v` writes into progress.
type packageCount struct {
	task *progress.Task
	n    int
}

func (p *packageCount) Write(b []byte) (int, error) {
	p.n += bytes.Count(b, []byte{'\n'})
	p.task.Detail("%d packages compiled", p.n)
	return len(b), nil
}
