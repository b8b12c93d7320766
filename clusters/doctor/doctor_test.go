package doctor

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/kind"
	"meshsim.dev/meshsim/clusters/topology"
)

// patient is a machine in good health that each case spoils.
type patient struct {
	Options
	system
	installed []string
	ensured   int
}

const goodConfig = "CONFIG_OVERLAY_FS=y\nCONFIG_BRIDGE=y\nCONFIG_VETH=m\nCONFIG_NF_TABLES=y\nCONFIG_NF_CONNTRACK=y\nCONFIG_NET_SCH_NETEM=m\n"

func newPatient(t *testing.T) *patient {
	t.Helper()
	top, err := topology.Load("eks-1.24")
	require.NoError(t, err)
	root := t.TempDir()
	p := &patient{installed: []string{"docker", "dockerd", "containerd", "runc", "iptables", "apt-get", "go", "git", "unshare", "chroot", "debootstrap"}}
	p.Options = Options{Cache: cache.Dir(filepath.Join(root, "cache")), Runner: &command.Fake{}, Topology: top, Cluster: "meshsim", Ports: []int{8080}}
	p.system = system{
		root: root, goos: "linux", euid: 0, kernel: "6.1.0",
		lookPath: func(name string) (string, error) {
			if slices.Contains(p.installed, name) {
				return "/usr/bin/" + name, nil
			}
			return "", errors.New("not found")
		},
		findEngine: func(context.Context, engine.Options) (*engine.Engine, error) {
			return &engine.Engine{Version: "24.0"}, nil
		},
		ensure: func(context.Context, engine.Options) (*engine.Engine, error) {
			p.ensured++
			return &engine.Engine{}, nil
		},
		freeDisk: func(string) (int64, error) { return 100 << 30, nil },
		portFree: func(int) error { return nil },
		call:     func(context.Context, string) error { return nil },
		cgroup2:  func(string) (bool, error) { return true, nil },
	}
	p.write(t, "proc/self/status", "CapPrm:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n")
	p.write(t, "proc/sys/kernel/cap_last_cap", "40\n")
	p.write(t, "proc/meminfo", "MemAvailable: 20971520 kB\n")
	p.write(t, "proc/sys/fs/inotify/max_user_instances", "8192\n")
	p.write(t, "boot/config-6.1.0", goodConfig)
	p.write(t, "lib/modules/6.1.0/modules.dep", "kernel/drivers/net/veth.ko.xz:\nkernel/net/sched/sch_netem.ko.xz: kernel/x.ko\n")
	return p
}

func (p *patient) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(p.root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func (p *patient) noEngine(why string) {
	p.findEngine = func(context.Context, engine.Options) (*engine.Engine, error) {
		return nil, fmt.Errorf("%w: %s", engine.ErrNone, why)
	}
}

func (p *patient) check(t *testing.T) []Finding {
	t.Helper()
	findings := check(t.Context(), p.Options, p.system)
	for _, f := range findings {
		require.NotEmpty(t, f.Detail, f.Name)
		if f.State == OK {
			require.Empty(t, f.Mend, f.Name)
		}
	}
	return findings
}

func find(t *testing.T, findings []Finding, name string) Finding {
	t.Helper()
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Name == name })
	require.GreaterOrEqual(t, i, 0, "no finding %q", name)
	return findings[i]
}

func TestAHealthyMachineHasNoComplaint(t *testing.T) {
	p := newPatient(t)
	findings := p.check(t)
	require.Equal(t, OK, Worst(findings))
	var names []string
	for _, f := range findings {
		names = append(names, f.Name)
	}
	require.Equal(t, []string{"engine", "privileged containers", "control groups", "file watches", "memory", "disk",
		"kernel overlayfs", "kernel bridge", "kernel veth", "kernel nf_tables", "kernel conntrack", "kernel netem", "building a bundle", "registries", "port 8080"}, names)
	require.Equal(t, "the host's Docker 24.0", findings[0].Detail)
}

func TestEveryComplaintIsFoundWithItsMend(t *testing.T) {
	for _, tc := range []struct {
		name    string
		spoil   func(*testing.T, *patient)
		finding string
		state   State
		detail  string
		mend    string
		fix     bool
	}{
		{"no engine, dockerd installed", func(_ *testing.T, p *patient) { p.noEngine("docker does not answer") },
			"engine", Warning, "no usable container engine is running: docker does not answer", "`meshsim engine start` starts a private engine", true},
		{"no engine, Debian", func(_ *testing.T, p *patient) { p.noEngine("x"); p.installed = []string{"apt-get"} },
			"engine", Warning, "no usable container engine", "installs docker.io and starts a private engine", true},
		{"no engine, another distribution", func(_ *testing.T, p *patient) { p.noEngine("x"); p.installed = nil },
			"engine", Missing, "no usable container engine", "install Docker: docker, dockerd, containerd, runc, iptables are not here", false},
		{"no engine and not root", func(_ *testing.T, p *patient) { p.noEngine("x"); p.euid = 1000 },
			"engine", Missing, "no usable container engine", "as root on Debian or Ubuntu", false},
		{"no engine on another system", func(_ *testing.T, p *patient) { p.noEngine("x"); p.goos = "darwin" },
			"engine", Missing, "no usable container engine", "start Docker", false},
		{"the engine's record is damaged", func(_ *testing.T, p *patient) {
			p.findEngine = func(context.Context, engine.Options) (*engine.Engine, error) { return nil, errors.New("unreadable") }
		}, "engine", Missing, "unreadable", "meshsim engine stop", false},
		{"a capability that nodes need is held back", func(t *testing.T, p *patient) {
			p.noEngine("x")
			p.write(t, "proc/self/status", "CapPrm:\t000001ffffdfffff\nCapBnd:\t000001ffffdfffff\n")
		}, "privileged containers", Missing, "this machine holds back CAP_SYS_ADMIN", "virtual machine", false},
		{"what is held back cannot be told without root", func(_ *testing.T, p *patient) { p.noEngine("x"); p.euid = 1000 },
			"privileged containers", Warning, "not tried: there is no engine", "", false},
		{"control groups are not mounted", func(_ *testing.T, p *patient) {
			p.cgroup2 = func(string) (bool, error) { return false, errors.New("no such file") }
		}, "control groups", Missing, "no such file", "mount", false},
		{"control groups lack controllers", func(t *testing.T, p *patient) {
			p.cgroup2 = func(string) (bool, error) { return false, nil }
			p.write(t, "sys/fs/cgroup/cpu/x", "")
			p.write(t, "sys/fs/cgroup/memory/x", "")
		}, "control groups", Missing, "version 1, without cpuset, pids, devices, freezer", "mount", false},
		{"control groups version 1 under a new Kubernetes", func(t *testing.T, p *patient) {
			p.v1(t)
			p.Topology.KubernetesVersion = "v1.33.0"
		}, "control groups", Warning, "version 1, which Kubernetes v1.33.0 no longer cares for", "systemd.unified_cgroup_hierarchy=1", false},
		{"too few file watches", func(t *testing.T, p *patient) { p.write(t, "proc/sys/fs/inotify/max_user_instances", "128\n") },
			"file watches", Warning, "fs.inotify.max_user_instances=128", "raised whenever", true},
		{"too few file watches and not root", func(t *testing.T, p *patient) {
			p.write(t, "proc/sys/fs/inotify/max_user_instances", "128\n")
			p.euid = 1000
		}, "file watches", Warning, "fs.inotify.max_user_instances=128", "sysctl -w fs.inotify.max_user_instances=1024", false},
		{"memory for a cluster but not for a rehearsal", func(t *testing.T, p *patient) { p.write(t, "proc/meminfo", "MemAvailable: 4194304 kB\n") },
			"memory", Warning, "4.0 GiB free", "8.0 GiB", false},
		{"memory for nothing", func(t *testing.T, p *patient) { p.write(t, "proc/meminfo", "MemAvailable: 524288 kB\n") },
			"memory", Missing, "0.5 GiB free", "an empty cluster of this shape takes 1.7 GiB", false},
		{"memory that cannot be told", func(t *testing.T, p *patient) { require.NoError(t, os.Remove(filepath.Join(p.root, "proc/meminfo"))) },
			"memory", Warning, "cannot be told", "", false},
		{"disk for a cluster but not for a build", func(_ *testing.T, p *patient) { p.freeDisk = func(string) (int64, error) { return 10 << 30, nil } },
			"disk", Warning, "10.0 GiB free", "building a bundle takes up to 25.0 GiB", false},
		{"disk for nothing", func(_ *testing.T, p *patient) { p.freeDisk = func(string) (int64, error) { return 1 << 30, nil } },
			"disk", Missing, "1.0 GiB free", "MESHSIM_CACHE", false},
		{"disk that cannot be told", func(_ *testing.T, p *patient) {
			p.freeDisk = func(string) (int64, error) { return 0, errors.New("no statfs") }
		},
			"disk", Warning, "cannot be told: no statfs", "", false},
		{"nothing to build with", func(_ *testing.T, p *patient) { p.installed = []string{"docker", "unshare", "chroot"} },
			"building a bundle", Warning, "not here: go, git, apt-get", "meshsim bundle pull", false},
		{"building without root", func(_ *testing.T, p *patient) { p.euid = 1000 },
			"building a bundle", Warning, "only root on Debian can", "meshsim bundle pull", false},
		{"a taken port", func(_ *testing.T, p *patient) {
			p.portFree = func(int) error { return errors.New("address already in use") }
		},
			"port 8080", Missing, "address already in use", "`ss -ltnp`", false},
		{"registries that do not answer", func(_ *testing.T, p *patient) {
			p.Registries = []string{"a.io", "b.io"}
			p.call = func(_ context.Context, url string) error {
				if url == "https://b.io/v2/" {
					return errors.New("no route")
				}
				return nil
			}
		}, "registries", Warning, "b.io do not answer", "meshsim bundle build", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPatient(t)
			tc.spoil(t, p)
			f := find(t, p.check(t), tc.finding)
			require.Equal(t, tc.state, f.State)
			require.Contains(t, f.Detail, tc.detail)
			require.Contains(t, f.Mend, tc.mend)
			require.Equal(t, tc.fix, f.Fix != nil)
		})
	}
}

// v1 gives the machine control groups of version 1.
func (p *patient) v1(t *testing.T) {
	t.Helper()
	p.cgroup2 = func(string) (bool, error) { return false, nil }
	for _, c := range []string{"cpu", "cpuset", "memory", "pids", "devices", "freezer"} {
		p.write(t, "sys/fs/cgroup/"+c+"/x", "")
	}
}

func TestWhatIsFineIsSaidToBeFine(t *testing.T) {
	for _, tc := range []struct {
		name    string
		spoil   func(*testing.T, *patient)
		finding string
		detail  string
	}{
		{"a private engine behind the wrapper", func(_ *testing.T, p *patient) {
			p.findEngine = func(context.Context, engine.Options) (*engine.Engine, error) {
				return &engine.Engine{Private: true, Version: "20", Host: "unix:///x", Wrapped: true, Missing: []string{"CAP_SYS_RESOURCE"}}, nil
			}
		}, "privileged containers", "run through meshsim's OCI runtime wrapper, for this host holds back CAP_SYS_RESOURCE"},
		{"a capability that the wrapper can do without", func(t *testing.T, p *patient) {
			p.noEngine("x")
			p.write(t, "proc/self/status", "CapPrm:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\n")
		}, "privileged containers", "will run through meshsim's OCI runtime wrapper, for this host holds back CAP_SYS_RESOURCE"},
		{"nothing is held back", func(_ *testing.T, p *patient) { p.noEngine("x") }, "privileged containers", "nothing is held back"},
		{"control groups version 1 under Kubernetes 1.24", func(t *testing.T, p *patient) { p.v1(t) }, "control groups", "version 1"},
		{"control groups on another system", func(_ *testing.T, p *patient) { p.goos = "darwin" }, "control groups", "those of the engine's machine"},
		{"registries that nobody asked for", func(_ *testing.T, p *patient) { p.call = nil }, "registries", "not called: --registries HOST,… calls them; a bundle that is built needs none"},
		{"registries that answer", func(_ *testing.T, p *patient) { p.Registries = []string{"a.io"} }, "registries", "a.io answer"},
		{"a build whose debootstrap apt can bring", func(_ *testing.T, p *patient) {
			p.installed = slices.DeleteFunc(p.installed, func(s string) bool { return s == "debootstrap" })
		}, "building a bundle", "possible"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPatient(t)
			tc.spoil(t, p)
			f := find(t, p.check(t), tc.finding)
			require.Equal(t, OK, f.State)
			require.Equal(t, tc.detail, f.Detail)
		})
	}
}

func TestThePortsOfTheStandingClusterAreItsOwn(t *testing.T) {
	p := newPatient(t)
	p.portFree = func(int) error { return errors.New("address already in use") }
	p.Ports = []int{0, 8080, 9090}
	c := kind.Cluster{Name: "meshsim", Topology: p.Topology, HTTP: "127.0.0.1:8080", GRPC: "127.0.0.1:1"}
	p.record(t, c)
	findings := p.check(t)
	require.Equal(t, "held by cluster meshsim", find(t, findings, "port 8080").Detail)
	require.Equal(t, Missing, find(t, findings, "port 9090").State)
	require.False(t, slices.ContainsFunc(findings, func(f Finding) bool { return f.Name == "port 0" }))
}

func (p *patient) record(t *testing.T, c kind.Cluster) {
	t.Helper()
	data := fmt.Sprintf(`{"name":%q,"topology":{"Name":"x"},"http":%q,"grpc":%q}`, c.Name, c.HTTP, c.GRPC)
	p.write(t, "cache/clusters/"+c.Name+"/cluster.json", data)
}

func TestKernelFeaturesAreReadFromTheKernelsBooks(t *testing.T) {
	gz := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return b.String()
	}
	for _, tc := range []struct {
		name  string
		files map[string]string
		want  answer
	}{
		{"it is loaded", map[string]string{"sys/module/sch_netem/x": ""}, yes},
		{"the config has it built in", map[string]string{"proc/config.gz": gz("CONFIG_NET_SCH_NETEM=y\n")}, yes},
		{"the config says it is not set", map[string]string{"proc/config.gz": gz("# CONFIG_NET_SCH_NETEM is not set\n")}, no},
		{"a module that is installed", map[string]string{"boot/config-6.1.0": "CONFIG_NET_SCH_NETEM=m\n", "lib/modules/6.1.0/modules.dep": "kernel/net/sched/sch_netem.ko: \n"}, yes},
		{"a module that is not installed", map[string]string{"boot/config-6.1.0": "CONFIG_NET_SCH_NETEM=m\n", "lib/modules/6.1.0/modules.dep": "kernel/x.ko: \n"}, no},
		{"a module, and no list of modules", map[string]string{"boot/config-6.1.0": "CONFIG_NET_SCH_NETEM=m\n"}, unknown},
		{"only lists, and it is built in", map[string]string{"lib/modules/6.1.0/modules.builtin": "kernel/net/sched/sch-netem.ko\n"}, yes},
		{"only lists, and it is in none", map[string]string{"lib/modules/6.1.0/modules.builtin": "kernel/x.ko\n"}, no},
		{"no book at all", nil, unknown},
		{"a damaged config", map[string]string{"proc/config.gz": "no gzip"}, unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &patient{system: system{root: t.TempDir(), kernel: "6.1.0", goos: "linux"}}
			for name, text := range tc.files {
				p.write(t, name, text)
			}
			c := checker{system: p.system}
			require.Equal(t, tc.want, c.kernelHas(c.kernelConfig(), feature{"netem", "NET_SCH_NETEM", "sch_netem", Warning, "x"}))
		})
	}
}

func TestAKernelWithoutNetemIsAWarningAndWithoutOverlayfsNoUse(t *testing.T) {
	p := newPatient(t)
	p.write(t, "boot/config-6.1.0", "CONFIG_BRIDGE=y\nCONFIG_VETH=m\nCONFIG_NF_TABLES=y\nCONFIG_NF_CONNTRACK=y\n")
	findings := p.check(t)
	require.Equal(t, Warning, find(t, findings, "kernel netem").State)
	require.Equal(t, Missing, find(t, findings, "kernel overlayfs").State)
	require.Equal(t, Missing, Worst(findings))
}

func TestFixMendsWhatItCanAndGoesOn(t *testing.T) {
	p := newPatient(t)
	p.noEngine("x")
	p.write(t, "proc/sys/fs/inotify/max_user_instances", "128\n")
	findings := p.check(t)
	require.NoError(t, Fix(t.Context(), findings))
	require.Equal(t, 1, p.ensured)
	require.Equal(t, OK, find(t, p.check(t), "file watches").State)

	boom := errors.New("boom")
	ran := 0
	err := Fix(t.Context(), []Finding{
		{Name: "a", State: Missing, Fix: func(context.Context) error { return boom }},
		{Name: "b", State: OK, Fix: func(context.Context) error { ran += 10; return nil }},
		{Name: "c", State: Warning, Fix: func(context.Context) error { ran++; return nil }},
		{Name: "d", State: Missing},
	})
	require.ErrorIs(t, err, boom)
	require.EqualError(t, err, "mend a: boom")
	require.Equal(t, 1, ran)
}

func FuzzConfigValue(f *testing.F) {
	f.Add(goodConfig)
	f.Add("CONFIG_VETH")
	f.Fuzz(func(t *testing.T, text string) {
		_ = configValue(text, "VETH")
		if configValue(text+"\nCONFIG_MESHSIM_TEST=y\n", "MESHSIM_TEST") == "" {
			t.Fatal("what is set is not found")
		}
	})
}

func TestThisMachineCanBeLookedAt(t *testing.T) {
	s := thisSystem()
	require.NotEmpty(t, s.kernel)
	_, err := s.cgroup2(t.TempDir())
	require.NoError(t, err)
	free, err := s.freeDisk(existing(filepath.Join(t.TempDir(), "not", "there")))
	require.NoError(t, err)
	require.Positive(t, free)
}
