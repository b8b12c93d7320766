package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	stopTimeout = 2 * time.Minute
	// daemonGrace is for a daemon to end by itself.
	daemonGrace = 20 * time.Second
)

// stop is Stop without the lock. It goes on after a failure, so that as little
// as possible is left, and returns every failure.
func (m *manager) stop(ctx context.Context) error {
	s, err := readState(m.paths.state)
	if err != nil {
		m.Log.Warn("the private engine's state cannot be read; clearing away what is there", "err", err)
	}
	var errs []error
	keep := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if s != nil {
		if s.Dockerd > 0 && m.host.belongs(s.Dockerd, m.paths.dir) {
			keep(m.emptyEngine(ctx, m.engineOf(s)))
		}
		for _, pid := range []int{s.Dockerd, s.Containerd} {
			keep(m.endProcess(ctx, pid))
		}
	}
	m.killRest()
	keep(unmountBelow(m.host.proc, m.paths.run, m.paths.data))
	keep(m.host.network.removeBridges(m.paths.bridge(), s.pool()))
	if s != nil {
		keep(m.host.network.removeRules(ctx, s.Pool, m.paths.ruleComment()))
	}
	if ctx.Err() != nil {
		return errors.Join(append(errs, context.Cause(ctx))...)
	}
	if len(errs) == 0 {
		keep(os.RemoveAll(m.paths.run))
		_ = os.Remove(m.paths.root) // goes only when no other engine is in it
	}
	if len(errs) > 0 {
		return fmt.Errorf("stop the private engine: %w", errors.Join(errs...))
	}
	return nil
}

// emptyEngine removes containers, networks and volumes; images stay as a cache.
func (m *manager) emptyEngine(ctx context.Context, e *Engine) error {
	for _, kind := range []struct {
		list   []string
		remove []string
	}{
		{[]string{"ps", "-aq", "--no-trunc"}, []string{"rm", "-f", "-v"}},
		{[]string{"network", "ls", "-q", "--filter", "type=custom"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "-q"}, []string{"volume", "rm", "-f"}},
	} {
		out, err := m.Runner.Run(ctx, e.Docker(kind.list...))
		if err != nil {
			m.Log.Debug("the private engine does not answer any more", "err", err)
			return nil
		}
		names := strings.Fields(string(out.Stdout))
		if len(names) == 0 {
			continue
		}
		stop := KeepThawed(m.host.cgroup, names...) // only containers have a control group
		_, err = m.Runner.Run(ctx, e.Docker(slices.Concat(kind.remove, names)...))
		stop()
		if err != nil {
			return fmt.Errorf("empty the private engine: %w", err)
		}
	}
	return nil
}

// endProcess asks a daemon of ours to end, and makes it.
func (m *manager) endProcess(ctx context.Context, pid int) error {
	if !m.host.belongs(pid, m.paths.dir) {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	deadline := time.Now().Add(daemonGrace)
	for m.host.belongs(pid, m.paths.dir) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			m.Log.Warn("a daemon of the private engine did not end when asked", "pid", pid)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
			return nil
		}
		time.Sleep(startPoll)
	}
	return nil
}

// killRest ends what a killed dockerd left: the shims, which name our containerd
// socket, and the containers' processes, which are in our cgroup.
func (m *manager) killRest() {
	pids := m.host.processesOf(m.paths.run)
	dirs := cgroupDirs(m.host.cgroup, m.paths.cgroup())
	for range 20 {
		for _, dir := range dirs {
			if err := thawBelow(dir); err != nil {
				m.Log.Debug("thaw what is to be killed", "err", err)
			}
			pids = append(pids, cgroupProcesses(dir)...)
		}
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(startPoll)
		pids = m.host.processesOf(m.paths.run)
	}
	for _, dir := range dirs {
		removeCgroup(dir)
	}
}

// cgroupDirs finds the named group in every hierarchy (version 1) or in the one (version 2).
func cgroupDirs(root, name string) []string {
	found, _ := filepath.Glob(filepath.Join(root, "*", name))
	if own := filepath.Join(root, name); isDir(own) {
		found = append(found, own)
	}
	return found
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// cgroupProcesses lists the processes in a group and all below it.
func cgroupProcesses(dir string) []int {
	var pids []int
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" {
			return nil
		}
		data, _ := os.ReadFile(path)
		for _, field := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// removeCgroup removes a group from its leaves up.
func removeCgroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	_ = syscall.Rmdir(dir)
}

// unmountBelow detaches every mount on or below the folders, the newest first.
func unmountBelow(proc string, folders ...string) error {
	data, err := os.ReadFile(filepath.Join(proc, "self/mountinfo"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	points := mountPoints(string(data), folders)
	for _, point := range slices.Backward(points) {
		if err := detach(point); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// mountPoints reads the mount points on or below the folders from a mountinfo file.
func mountPoints(mountinfo string, folders []string) []string {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape.Replace(fields[4])
		for _, folder := range folders {
			if point == folder || strings.HasPrefix(point, folder+"/") {
				points = append(points, point)
				break
			}
		}
	}
	return points
}
