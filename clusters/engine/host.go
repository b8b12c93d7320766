package engine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// host holds the edges to the machine that are not commands.
type host struct {
	proc     string // /proc
	cgroup   string // /sys/fs/cgroup
	euid     func() int
	lookPath func(string) (string, error)
	spawn    func(argv []string, logPath string) (*daemon, error)
	network  network
}

func newHost(o Options) host {
	return host{proc: "/proc", cgroup: CgroupRoot, euid: os.Geteuid, lookPath: lookPath, spawn: spawn, network: netlinkNetwork{runner: o.Runner}}
}

// lookPath is exec.LookPath that also knows the sbin folders, which are not on
// every root's PATH.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range systemDirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// facts collects what decide needs.
func (m *manager) facts(why string) facts {
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(n string) bool {
			_, err := m.host.lookPath(n)
			return err != nil
		})
	}
	return facts{
		why:     why,
		linux:   runtime.GOOS == "linux",
		root:    m.host.euid() == 0,
		dockerd: has("docker", "dockerd", "containerd", "runc", "iptables"),
		apt:     has("apt-get"),
	}
}

// daemon is a program that was started to stay.
type daemon struct {
	pid    int
	exited chan struct{} // closed when it ends while we live
}

func (d *daemon) alive() bool {
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// spawn starts a program in a session of its own, so that neither the end of
// this process nor a Ctrl-C in its terminal reaches it.
func spawn(argv []string, logPath string) (*daemon, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+daemonPath(os.Getenv("PATH")))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", argv[0], err)
	}
	d := &daemon{pid: cmd.Process.Pid, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(d.exited)
	}()
	return d, nil
}

// daemonPath adds the sbin folders where the daemons' own helpers are.
func daemonPath(path string) string {
	dirs := filepath.SplitList(path)
	for _, dir := range systemDirs {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(dirs, string(os.PathListSeparator))
}

// belongs tells whether the process is a daemon of the private engine: it runs,
// it is a dockerd, containerd or shim, and its command line mentions the path. A
// process id alone may have been given to another since.
func (h host) belongs(pid int, path string) bool {
	if pid <= 0 {
		return false
	}
	data, err := os.ReadFile(filepath.Join(h.proc, strconv.Itoa(pid), "cmdline"))
	if err != nil || len(data) == 0 {
		return false // gone, or a zombie
	}
	program, _, _ := strings.Cut(string(data), "\x00")
	program = filepath.Base(program)
	return (program == "dockerd" || strings.HasPrefix(program, "containerd")) && strings.Contains(string(data), path)
}

// processesOf lists the daemons of the private engine that mention the path.
func (h host) processesOf(path string) []int {
	entries, err := os.ReadDir(h.proc)
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && h.belongs(pid, path) {
			pids = append(pids, pid)
		}
	}
	return pids
}
