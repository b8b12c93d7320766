package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/fault"
)

func (c checker) engineOptions() engine.Options {
	return engine.Options{Cache: c.Cache, Runner: c.Runner, Log: c.Log, Progress: c.Progress, Self: c.Self}
}

// engine finds the engine, or says whether meshsim could start one.
func (c checker) engine(ctx context.Context) (*engine.Engine, []Finding) {
	e, err := c.findEngine(ctx, c.engineOptions())
	if err == nil {
		detail := "the host's Docker " + e.Version
		if e.Private {
			detail = "private dockerd " + e.Version + " at " + e.Host
		}
		return e, []Finding{{Name: "engine", State: OK, Detail: detail}}
	}
	f := Finding{Name: "engine", State: Missing, Detail: err.Error()}
	if !errors.Is(err, engine.ErrNone) {
		f.Mend = "see what is wrong with it, or stop it by `meshsim engine stop`"
		return nil, []Finding{f}
	}
	start := func(ctx context.Context) error {
		_, err := c.ensure(ctx, c.engineOptions())
		return err
	}
	programs := c.lacking("docker", "dockerd", "containerd", "runc", "iptables")
	_, noApt := c.lookPath("apt-get")
	switch {
	case c.goos != "linux":
		f.Mend = "start Docker and see that `docker run --privileged` works"
	case c.euid != 0:
		f.Mend = "start a Docker that runs privileged containers, or run meshsim as root on Debian or Ubuntu"
	case len(programs) == 0:
		f.State, f.Mend, f.Fix = Warning, "`meshsim engine start` starts a private engine, and so does `meshsim up`", start
	case noApt == nil:
		f.State, f.Fix = Warning, start
		f.Mend = "`meshsim engine start` installs docker.io and starts a private engine, and so does `meshsim up`"
	default:
		f.Mend = "install Docker: " + strings.Join(programs, ", ") + " are not here, nor is apt-get"
	}
	return nil, []Finding{f}
}

// needed are the capabilities without which no node container runs.
var needed = []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SETFCAP", "CAP_NET_RAW"}

// privileged tells whether node containers can run: by the engine's own probe,
// or, before there is an engine, by what the kernel lets this process do.
func (c checker) privileged(e *engine.Engine) Finding {
	f := Finding{Name: "privileged containers", State: OK, Detail: "run"}
	if e != nil {
		if e.Wrapped {
			f.Detail = "run through meshsim's OCI runtime wrapper, for this host holds back " + strings.Join(e.Missing, ", ")
		}
		return f
	}
	if c.goos != "linux" || c.euid != 0 {
		f.State, f.Detail = Warning, "not tried: there is no engine"
		return f
	}
	missing, err := engine.MissingCapabilities(filepath.Join(c.root, "proc"))
	if err != nil {
		f.State, f.Detail = Warning, err.Error()
		return f
	}
	var lacking []string
	for _, name := range needed {
		for _, m := range missing {
			if m == name {
				lacking = append(lacking, name)
			}
		}
	}
	switch {
	case len(lacking) > 0:
		f.State, f.Detail = Missing, "this machine holds back "+strings.Join(lacking, ", ")
		f.Mend = "run meshsim in a virtual machine, or in a container that is itself privileged"
	case len(missing) > 0:
		f.Detail = "will run through meshsim's OCI runtime wrapper, for this host holds back " + strings.Join(missing, ", ")
	default:
		f.Detail = "nothing is held back"
	}
	return f
}

// cgroup weighs the host's control groups against the topology's kubelet.
func (c checker) cgroup() Finding {
	f := Finding{Name: "control groups", State: OK}
	if c.goos != "linux" {
		f.Detail = "those of the engine's machine"
		return f
	}
	dir := filepath.Join(c.root, "sys/fs/cgroup")
	v2, err := c.cgroup2(dir)
	if err != nil {
		f.State, f.Detail = Missing, err.Error()
		f.Mend = "mount the control groups at /sys/fs/cgroup"
		return f
	}
	if v2 {
		f.Detail = "version 2"
		return f
	}
	f.Detail = "version 1"
	var lacking []string
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids", "devices", "freezer"} {
		if _, err := os.Stat(filepath.Join(dir, controller)); err != nil {
			lacking = append(lacking, controller)
		}
	}
	if len(lacking) > 0 {
		f.State, f.Detail = Missing, "version 1, without "+strings.Join(lacking, ", ")
		f.Mend = "mount these controllers below /sys/fs/cgroup"
		return f
	}
	if minor := kubernetesMinor(c.Topology.KubernetesVersion); minor >= 31 {
		f.State = Warning
		f.Detail = fmt.Sprintf("version 1, which Kubernetes %s no longer cares for", c.Topology.KubernetesVersion)
		f.Mend = "boot with version 2 (systemd.unified_cgroup_hierarchy=1), or rehearse on Kubernetes 1.30 or older"
	}
	return f
}

// kubernetesMinor of "v1.24.17" is 24, and 0 of what is no version.
func kubernetesMinor(version string) int {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return 0
	}
	minor, _ := strconv.Atoi(parts[1])
	return minor
}

// inotify looks at the limits that many nodes on one kernel run into.
func (c checker) inotify() Finding {
	f := Finding{Name: "file watches", State: OK, Detail: "enough"}
	if c.goos != "linux" {
		f.Detail = "those of the engine's machine"
		return f
	}
	proc := filepath.Join(c.root, "proc")
	low := engine.LowLimits(proc)
	if len(low) == 0 {
		return f
	}
	f.State, f.Detail = Warning, "too few for a cluster of many nodes: "+strings.Join(low, ", ")
	if c.euid != 0 {
		f.Mend = "as root: sysctl -w " + strings.Join(engine.LimitSettings(), " ")
		return f
	}
	f.Mend = "raised whenever meshsim starts or finds an engine"
	f.Fix = func(context.Context) error {
		if err := engine.RaiseLimits(proc); err != nil {
			return fault.NewEnvironment(err, "set them on the host that this machine is a guest of")
		}
		return nil
	}
	return f
}
