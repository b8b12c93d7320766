package engine

import (
	"context"
	"fmt"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
)

// install brings the engine's programs from the distribution's packages.
func (m *manager) install(ctx context.Context) (err error) {
	task := m.Progress.Start("install docker.io")
	defer func() {
		if err != nil {
			task.Fail(err)
			return
		}
		task.Done("")
	}()
	// The package lists may be missing or old: the first try tells.
	if err := m.apt(ctx, "docker.io", "iptables"); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		task.Detail("apt-get update")
		if _, err := m.Runner.Run(ctx, aptGet("update")); err != nil {
			return aptFault(fmt.Errorf("update the package lists: %w", err))
		}
		if err := m.apt(ctx, "docker.io", "iptables"); err != nil {
			return aptFault(err)
		}
	}
	// Newer Debian has docker's command in a package of its own.
	if _, err := m.host.lookPath("docker"); err != nil {
		if err := m.apt(ctx, "docker-cli"); err != nil {
			return aptFault(err)
		}
	}
	return nil
}

func (m *manager) apt(ctx context.Context, packages ...string) error {
	if _, err := m.Runner.Run(ctx, aptGet(append([]string{"install", "--no-install-recommends"}, packages...)...)); err != nil {
		return fmt.Errorf("install docker.io: %w", err)
	}
	return nil
}

func aptGet(args ...string) command.Cmd {
	return command.Cmd{
		Argv: append([]string{"apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"}, args...),
		Env:  []string{"DEBIAN_FRONTEND=noninteractive"},
	}
}

func aptFault(err error) error {
	return fault.NewEnvironment(err, "see that `apt-get install docker.io` works on this machine, or install Docker by hand")
}
