// Package rootfs makes Debian file trees with debootstrap and apt, without a
// container engine. It needs root on a Debian machine. Everything that runs
// inside a tree runs in mount and process namespaces of its own, so nothing
// stays mounted or running, however the build ends.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
)

// Maker makes trees of one Debian release.
type Maker struct {
	Runner command.Runner
	Suite  string // "bookworm"
}

// aptEnv keeps package scripts from asking questions or changing with the locale.
var aptEnv = []string{
	"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "LC_ALL=C", "LANGUAGE=",
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=/tmp",
}

// Ready says whether trees can be made here, and installs debootstrap when
// only that is missing. The error is a fault.Environment.
func (m Maker) Ready(ctx context.Context) error {
	const mend = "build as root on Debian, or take the official images with `meshsim bundle pull`"
	if os.Geteuid() != 0 {
		return fault.NewEnvironment(errors.New("only root can make Debian file trees"), mend)
	}
	probe := command.Cmd{Argv: []string{"unshare", "--mount", "--pid", "--fork", "true"}}
	if _, err := m.Runner.Run(ctx, probe); err != nil {
		return fault.NewEnvironment(fmt.Errorf("root may not make namespaces here: %w", err), mend)
	}
	if _, err := exec.LookPath("debootstrap"); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fault.NewEnvironment(errors.New("neither debootstrap nor apt-get is here"), mend)
	}
	for _, argv := range [][]string{
		{"apt-get", "update", "-q"},
		{"apt-get", "install", "-q", "-y", "--no-install-recommends", "debootstrap"},
	} {
		if _, err := m.Runner.Run(ctx, command.Cmd{Argv: argv, Env: aptEnv}); err != nil {
			return fault.NewEnvironment(fmt.Errorf("install debootstrap: %w", err), "check this machine's apt sources")
		}
	}
	return nil
}

// Base bootstraps the smallest tree of the release into dir, which must not exist.
func (m Maker) Base(ctx context.Context, dir string) error {
	sources, err := m.sources(ctx)
	if err != nil {
		return err
	}
	_, err = m.Runner.Run(ctx, command.Cmd{
		Argv: []string{
			"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
			"debootstrap", "--variant=minbase", m.Suite, dir, sources[0].uri,
		},
		Env: aptEnv,
	})
	if err != nil {
		return fault.NewEnvironment(fmt.Errorf("bootstrap Debian %s from %s: %w", m.Suite, sources[0].uri, err),
			"check that the Debian mirror of this machine's apt sources answers")
	}
	return nil
}

// Install adds packages, without what they only recommend, to the tree at dir.
func (m Maker) Install(ctx context.Context, dir string, packages []string) error {
	sources, err := m.sources(ctx)
	if err != nil {
		return err
	}
	undo, err := m.prepareApt(ctx, dir, sources)
	if err != nil {
		return fmt.Errorf("prepare apt in %s: %w", dir, err)
	}
	defer undo()
	install := append([]string{"apt-get", "install", "-q", "-y", "--no-install-recommends"}, packages...)
	for _, argv := range [][]string{
		{"apt-get", "update", "-q"},
		{"apt-get", "upgrade", "-q", "-y"},
		install,
		{"apt-get", "clean"},
	} {
		if err := m.Run(ctx, dir, nil, argv...); err != nil {
			return fault.NewEnvironment(fmt.Errorf("install packages: %w", err),
				"check that the Debian mirror of this machine's apt sources answers")
		}
	}
	return nil
}

// Run runs argv inside the tree.
func (m Maker) Run(ctx context.Context, dir string, binds []Bind, argv ...string) error {
	_, err := m.Output(ctx, dir, binds, argv...)
	return err
}

// Bind makes a folder of this machine writable inside a tree while a command runs.
type Bind struct{ Source, Target string }

// enter mounts what a command in a tree needs, then becomes that command.
// Its arguments: the tree, pairs of source and target, "--", the command.
const enter = `root=$1; shift
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"`

// Output runs argv inside the tree and returns what it wrote.
func (m Maker) Output(ctx context.Context, dir string, binds []Bind, argv ...string) (command.Output, error) {
	full := []string{
		"unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
		"/bin/sh", "-euc", enter, "sh", dir,
	}
	for _, b := range binds {
		full = append(full, b.Source, b.Target)
	}
	full = append(append(full, "--"), argv...)
	out, err := m.Runner.Run(ctx, command.Cmd{Argv: full, Env: aptEnv})
	if err != nil {
		return out, fmt.Errorf("in the Debian tree: %s: %w", strings.Join(argv, " "), err)
	}
	return out, nil
}

// Versions returns the versions of installed packages by name.
func (m Maker) Versions(ctx context.Context, dir string) (map[string]string, error) {
	out, err := m.Output(ctx, dir, nil, "dpkg-query", "-W", "-f", "${Package} ${Version}\n")
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(out.Stdout)), "\n") {
		if name, version, ok := strings.Cut(line, " "); ok {
			versions[name] = version
		}
	}
	return versions, nil
}

// Remove deletes a tree, and refuses while something is mounted below it.
func Remove(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && (fields[4] == abs || strings.HasPrefix(fields[4], abs+"/")) {
			return fmt.Errorf("remove %s: %s is still mounted", dir, fields[4])
		}
	}
	return os.RemoveAll(dir)
}
