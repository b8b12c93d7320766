package engine

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
)

// bench is a machine that exists only in a test.
type bench struct {
	*manager
	runner *command.Fake
	net    *fakeNetwork

	installed  []string // programs that lookPath finds
	hostDocker bool     // the host's docker answers
	hostRuns   bool     // and runs privileged containers
	privRuns   bool     // the private engine does
	spawned    []string
	spawnErr   error
	dies       bool // dockerd ends as it starts
}

const allCaps, withoutResource = "000001ffffffffff", "000001fffeffffff"

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{privRuns: true, installed: []string{"docker", "dockerd", "containerd", "runc", "iptables", "apt-get"}, net: &fakeNetwork{}}
	b.runner = &command.Fake{Respond: b.respond}
	dir := t.TempDir()
	self := filepath.Join(dir, "meshsim")
	require.NoError(t, os.WriteFile(self, []byte("program"), 0o755))
	o := Options{Cache: cache.Dir(filepath.Join(dir, "cache")), Runner: b.runner, Self: self}
	b.manager = newManager(o)
	b.paths = pathsFor(o.Cache, filepath.Join(dir, "run"))
	b.host = host{
		proc: filepath.Join(dir, "proc"), cgroup: filepath.Join(dir, "cgroup"), euid: func() int { return 0 },
		lookPath: func(name string) (string, error) {
			if slices.Contains(b.installed, name) {
				return "/usr/sbin/" + name, nil
			}
			return "", errors.New(name + " not found")
		},
		spawn: b.spawn, network: b.net,
	}
	b.setCaps(t, allCaps)
	return b
}

func (b *bench) setCaps(t *testing.T, mask string) {
	t.Helper()
	writeTree(t, b.host.proc, map[string]string{
		"self/status":                       "Name:\tx\nCapPrm:\t" + mask + "\nCapBnd:\t" + mask + "\n",
		"sys/kernel/cap_last_cap":           "40\n",
		"sys/kernel/random/boot_id":         "boot-1\n",
		"sys/fs/inotify/max_user_instances": "128\n",
		"self/mountinfo":                    "",
	})
}

func writeTree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
}

// spawn starts nothing: the daemons' sockets appear, and the processes in /proc.
func (b *bench) spawn(argv []string, log string) (*daemon, error) {
	b.spawned = append(b.spawned, strings.Join(argv, " "))
	if b.spawnErr != nil {
		return nil, b.spawnErr
	}
	d := &daemon{pid: 100 + len(b.spawned), exited: make(chan struct{})}
	if b.dies && filepath.Base(argv[0]) == "dockerd" {
		close(d.exited)
		return d, os.WriteFile(log, []byte("one\ntwo\nno space left on device\n"), 0o600)
	}
	socket := b.paths.socket
	if filepath.Base(argv[0]) == "containerd" {
		socket = b.paths.containerdSocket
	}
	return d, os.WriteFile(socket, nil, 0o600)
}

func (b *bench) respond(c command.Cmd) (command.Output, error) {
	private := slices.Contains(c.Env, "DOCKER_HOST="+b.paths.dockerHost())
	fail := func(code int, text string) (command.Output, error) {
		return command.Output{}, &command.Error{Argv: c.Argv, ExitCode: code, Stderr: []byte(text), Err: errors.New("exit status")}
	}
	switch {
	case c.Argv[len(c.Argv)-1] == handshakeFlag:
		return command.Output{Stdout: []byte(handshakeAnswer + "\n")}, nil
	case c.Argv[0] == "apt-get":
		b.installed = append(b.installed, "docker", "dockerd", "containerd", "runc", "iptables")
		return command.Output{}, nil
	case c.Argv[0] != "docker":
		return command.Output{}, nil
	case !private && !b.hostDocker:
		return fail(1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
	case c.Argv[1] == "info":
		return command.Output{Stdout: []byte("ID:1 20.10.24+dfsg1\n")}, nil
	case c.Argv[1] == "run" && (private && b.privRuns || !private && b.hostRuns):
		return fail(probeExit, "")
	case c.Argv[1] == "run":
		return fail(126, "docker: Error response from daemon: unable to apply caps: operation not permitted.")
	default:
		return command.Output{}, nil
	}
}

type fakeNetwork struct {
	used  []netip.Prefix
	calls []string
	err   error
}

func (n *fakeNetwork) taken() ([]netip.Prefix, error) { return n.used, nil }

func (n *fakeNetwork) addBridge(name string, address netip.Prefix) error {
	n.calls = append(n.calls, "add bridge "+address.String())
	return n.err
}

func (n *fakeNetwork) removeBridges(name string, pool netip.Prefix) error {
	n.calls = append(n.calls, "remove bridges "+pool.String())
	return nil
}

func (n *fakeNetwork) addRules(_ context.Context, pool netip.Prefix, _ string) error {
	n.calls = append(n.calls, "add rules "+pool.String())
	return nil
}

func (n *fakeNetwork) removeRules(_ context.Context, pool netip.Prefix, _ string) error {
	n.calls = append(n.calls, "remove rules "+pool.String())
	return nil
}

func TestDecideNamesWhatToDoOrTheMend(t *testing.T) {
	for _, tc := range []struct {
		name  string
		facts facts
		want  plan
		mend  string
	}{
		{"root with dockerd", facts{linux: true, root: true, dockerd: true}, start, ""},
		{"root with dockerd and apt", facts{linux: true, root: true, dockerd: true, apt: true}, start, ""},
		{"root on Debian without dockerd", facts{linux: true, root: true, apt: true}, installAndStart, ""},
		{"root elsewhere without dockerd", facts{linux: true, root: true}, impossible, "install Docker"},
		{"not root", facts{linux: true, dockerd: true, apt: true}, impossible, "run meshsim as root on Debian or Ubuntu"},
		{"not Linux", facts{root: true, dockerd: true}, impossible, "start Docker"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.facts.why = "docker does not answer"
			got, err := decide(tc.facts)
			require.Equal(t, tc.want.String(), got.String())
			if tc.mend == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, fault.Environment, fault.KindOf(err))
			require.ErrorContains(t, err, "no usable container engine: docker does not answer")
			require.ErrorContains(t, err, tc.mend)
		})
	}
}

func TestEnsureUsesTheHostsDockerWherePrivilegedContainersRun(t *testing.T) {
	b := newBench(t)
	b.hostDocker, b.hostRuns = true, true
	e, err := b.ensure(t.Context())
	require.NoError(t, err)
	require.Equal(t, &Engine{Version: "20.10.24+dfsg1"}, e)
	require.Empty(t, b.spawned)
	require.Equal(t, command.Cmd{Argv: []string{"docker", "ps"}}, e.Docker("ps"))
	probes := func() int {
		return len(slices.DeleteFunc(b.runner.Lines(), func(l string) bool { return !strings.HasPrefix(l, "docker run ") }))
	}
	require.Equal(t, 1, probes())
	require.True(t, slices.ContainsFunc(b.runner.Lines(), func(l string) bool { return strings.HasPrefix(l, "docker image rm -f meshsim-probe-") }))
	require.True(t, slices.ContainsFunc(b.runner.Lines(), func(l string) bool { return strings.HasPrefix(l, "docker rm -f -v meshsim-probe-") }))

	_, err = b.ensure(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, probes(), "a good answer is remembered")
	writeTree(t, b.host.proc, map[string]string{"sys/kernel/random/boot_id": "boot-2\n"})
	_, err = b.ensure(t.Context())
	require.NoError(t, err)
	require.Equal(t, 2, probes(), "but not over a reboot")
}

func TestEnsureStartsAPrivateEngineWhereTheHostsIsTooWeak(t *testing.T) {
	b := newBench(t)
	b.hostDocker = true
	b.setCaps(t, withoutResource)
	e, err := b.ensure(t.Context())
	require.NoError(t, err)
	require.Equal(t, &Engine{Private: true, Host: b.paths.dockerHost(), Version: "20.10.24+dfsg1", Wrapped: true,
		Missing: []string{"CAP_SYS_RESOURCE"}, Log: b.paths.log, Started: true}, e)
	require.Equal(t, []string{"/usr/sbin/containerd --config " + b.paths.dir + "/containerd.toml", "/usr/sbin/dockerd --config-file " + b.paths.config}, b.spawned)
	require.Equal(t, []string{"add bridge 10.213.0.1/24", "add rules 10.213.0.0/16"}, b.net.calls)
	require.Equal(t, []string{"DOCKER_HOST=" + b.paths.dockerHost(), "DOCKER_TLS_VERIFY=", "DOCKER_CERT_PATH="}, e.Docker("ps").Env)
	copied, err := os.ReadFile(b.paths.wrapper)
	require.NoError(t, err)
	require.Equal(t, "program", string(copied))
	limit, err := os.ReadFile(filepath.Join(b.host.proc, "sys/fs/inotify/max_user_instances"))
	require.NoError(t, err)
	require.Equal(t, "1024", string(limit))

	again, err := b.ensure(t.Context())
	require.NoError(t, err)
	require.False(t, again.Started)
	e.Started = false
	require.Equal(t, e, again)
	require.Len(t, b.spawned, 2, "a running one is used again")
}

func TestThePrivateEnginesConfigSharesNothing(t *testing.T) {
	b := newBench(t)
	b.setCaps(t, withoutResource)
	_, err := b.ensure(t.Context())
	require.NoError(t, err)
	data, err := os.ReadFile(b.paths.config)
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(data, &config))
	require.Equal(t, b.paths.data, config["data-root"])
	require.Equal(t, []any{b.paths.dockerHost()}, config["hosts"])
	require.Equal(t, filepath.Join(b.paths.run, "exec"), config["exec-root"])
	require.Equal(t, filepath.Join(b.paths.run, "dockerd.pid"), config["pidfile"])
	require.Equal(t, b.paths.containerdSocket, config["containerd"])
	require.Equal(t, b.paths.bridge(), config["bridge"])
	require.LessOrEqual(t, len(b.paths.bridge()), 15)
	require.Equal(t, false, config["iptables"])
	require.Equal(t, "/"+b.paths.cgroup(), config["cgroup-parent"])
	require.Equal(t, []any{map[string]any{"base": "10.213.128.0/17", "size": 24.0}}, config["default-address-pools"])
	require.Equal(t, "meshsim", config["default-runtime"])
	require.Equal(t, map[string]any{"meshsim": map[string]any{"path": b.paths.wrapper}}, config["runtimes"])
	require.Equal(t, 0.0, config["oom-score-adjust"])
}

func TestAHostWithEveryCapabilityNeedsNoWrapper(t *testing.T) {
	b := newBench(t)
	e, err := b.ensure(t.Context())
	require.NoError(t, err)
	require.False(t, e.Wrapped)
	require.Empty(t, e.Missing)
	data, err := os.ReadFile(b.paths.config)
	require.NoError(t, err)
	require.NotContains(t, string(data), "runtime")
	require.NoFileExists(t, b.paths.wrapper)
}

func TestEnsureInstallsDockerOnDebian(t *testing.T) {
	b := newBench(t)
	b.installed = []string{"apt-get"}
	e, err := b.ensure(t.Context())
	require.NoError(t, err)
	require.True(t, e.Private)
	require.Contains(t, b.runner.Lines(), "apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends docker.io iptables")
}

func TestEnsureSaysWhyItCannot(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*bench)
		want  string
	}{
		{"not root, and the host's docker too weak", func(b *bench) { b.hostDocker, b.host.euid = true, func() int { return 1000 } },
			"docker does not run privileged containers: docker: Error response from daemon: unable to apply caps: operation not permitted."},
		{"not root and no docker", func(b *bench) { b.installed, b.host.euid = nil, func() int { return 1000 } }, "there is no docker command"},
		{"the private engine is too weak as well", func(b *bench) { b.privRuns = false }, "the private engine cannot run privileged containers"},
		{"dockerd dies", func(b *bench) { b.dies = true }, "dockerd ended as it started: one\ntwo\nno space left on device"},
		{"no bridge can be made", func(b *bench) { b.net.err = errors.New("operation not permitted") }, "operation not permitted"},
		{"every address range is taken", func(b *bench) {
			b.net.used = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}
		},
			"no address range is free"},
		{"a daemon cannot be started", func(b *bench) { b.spawnErr = errors.New("exec format error") }, "exec format error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			tc.spoil(b)
			_, err := b.ensure(t.Context())
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, fault.Environment, fault.KindOf(err))
			require.NoDirExists(t, b.paths.run, "nothing is left")
		})
	}
}

func TestEnsureCancelledLeavesNothing(t *testing.T) {
	b := newBench(t)
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	spawn := b.host.spawn
	b.host.spawn = func(argv []string, log string) (*daemon, error) {
		cancel(cause)
		return spawn(argv, log)
	}
	_, err := b.ensure(ctx)
	require.ErrorIs(t, err, cause)
	require.NoDirExists(t, b.paths.run)
	require.Equal(t, "remove rules 10.213.0.0/16", b.net.calls[len(b.net.calls)-1])
}

func TestStopEmptiesTheEngineAndTakesEverythingAway(t *testing.T) {
	b := newBench(t)
	_, err := b.ensure(t.Context())
	require.NoError(t, err)
	// dockerd is seen in /proc until it has been asked for its containers.
	writeTree(t, b.host.proc, map[string]string{"102/cmdline": "dockerd\x00--config-file\x00" + b.paths.config})
	respond := b.runner.Respond
	b.runner.Respond = func(c command.Cmd) (command.Output, error) {
		switch strings.Join(c.Argv[1:], " ") {
		case "ps -aq --no-trunc":
			return command.Output{Stdout: []byte("c1\nc2\n")}, nil
		case "network ls -q --filter type=custom":
			return command.Output{Stdout: []byte("n1\n")}, nil
		case "volume ls -q":
			return command.Output{}, os.RemoveAll(filepath.Join(b.host.proc, "102"))
		}
		return respond(c)
	}
	b.net.calls = nil
	require.NoError(t, b.stop(t.Context()))
	lines := b.runner.Lines()
	require.Contains(t, lines, "docker rm -f -v c1 c2")
	require.Contains(t, lines, "docker network rm n1")
	require.Equal(t, []string{"remove bridges 10.213.0.0/16", "remove rules 10.213.0.0/16"}, b.net.calls)
	require.NoDirExists(t, b.paths.run)
	require.DirExists(t, b.paths.data, "images stay as a cache")
	require.False(t, b.leftovers())
	require.NoError(t, b.stop(t.Context()), "stopping again does nothing")
}

func TestFindStartsNothing(t *testing.T) {
	b := newBench(t)
	_, err := Find(t.Context(), Options{Cache: b.Cache, Runner: b.runner})
	require.ErrorIs(t, err, ErrNone)
	require.Empty(t, b.spawned)
}

func TestAnEngineThatDoesNotAnswerIsStartedAnew(t *testing.T) {
	b := newBench(t)
	require.NoError(t, os.MkdirAll(b.paths.run, 0o755))
	require.NoError(t, writeState(b.paths.state, &state{Pool: netip.MustParsePrefix("10.214.0.0/16"), Dockerd: 7, Version: "1"}))
	respond := b.runner.Respond
	b.runner.Respond = func(c command.Cmd) (command.Output, error) {
		if len(b.spawned) == 0 && c.Argv[0] == "docker" {
			return command.Output{}, &command.Error{Argv: c.Argv, ExitCode: 1, Err: errors.New("exit status 1"), Stderr: []byte("Cannot connect")}
		}
		return respond(c)
	}
	e, err := b.ensure(t.Context())
	require.NoError(t, err)
	require.True(t, e.Private)
	require.Equal(t, []string{"remove bridges 10.214.0.0/16", "remove rules 10.214.0.0/16", "add bridge 10.213.0.1/24", "add rules 10.213.0.0/16"}, b.net.calls)
}

func TestTheWrapperFollowsANewBuildAndRefusesWhatCannotServe(t *testing.T) {
	b := newBench(t)
	b.setCaps(t, withoutResource)
	e, err := b.ensure(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(b.Self, []byte("program 2"), 0o755))
	b.refreshWrapper(t.Context(), e)
	copied, err := os.ReadFile(b.paths.wrapper)
	require.NoError(t, err)
	require.Equal(t, "program 2", string(copied))

	b.runner.Respond = func(c command.Cmd) (command.Output, error) {
		return command.Output{Stdout: []byte("unknown flag")}, nil
	}
	require.NoError(t, os.WriteFile(b.Self, []byte("something else"), 0o755))
	b.refreshWrapper(t.Context(), e)
	copied, err = os.ReadFile(b.paths.wrapper)
	require.NoError(t, err)
	require.Equal(t, "program 2", string(copied), "the old one goes on serving")
	require.ErrorContains(t, b.installWrapper(t.Context()), `does not serve as OCI runtime: it answered "unknown flag"`)
	entries, err := os.ReadDir(filepath.Dir(b.paths.wrapper))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestAnOldDockerWithoutAServerIsToldInPlainWords(t *testing.T) {
	template := &command.Error{Argv: []string{"docker", "info"}, ExitCode: 1, Err: errors.New("exit status 1"),
		Stderr: []byte("template: :1:2: executing \"\" at <.ID>: reflect: indirection through nil pointer to embedded struct field Info\n")}
	require.EqualError(t, noServer(template), "its server cannot be reached")
	spoken := &command.Error{Argv: []string{"docker", "info"}, Err: errors.New("exit status 1"), Stderr: []byte("Cannot connect to the Docker daemon\n")}
	require.Equal(t, error(spoken), noServer(spoken))
	other := errors.New("no such file")
	require.Equal(t, other, noServer(other))
}
