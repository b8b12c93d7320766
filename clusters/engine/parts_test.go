package engine

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/command"
)

func TestMissingCapabilitiesAreToldByName(t *testing.T) {
	for _, tc := range []struct {
		name     string
		prm, bnd string
		last     string
		want     []string
	}{
		{"everything is there", allCaps, allCaps, "40", nil},
		{"one is out of the bounding set", allCaps, withoutResource, "40", []string{"CAP_SYS_RESOURCE"}},
		{"one is not permitted", withoutResource, allCaps, "40", []string{"CAP_SYS_RESOURCE"}},
		{"an older kernel has fewer", "0000003fffffffff", "0000003fffffffff", "37", nil},
		{"what an older kernel lacks is missing where the newer has it", "0000003fffffffff", "0000003fffffffff", "40", []string{"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"}},
		{"a newer kernel's are not known", "ffffffffffffffff", "ffffffffffffffff", "63", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			proc := t.TempDir()
			writeTree(t, proc, map[string]string{"self/status": "CapPrm:\t" + tc.prm + "\nCapBnd:\t" + tc.bnd + "\n", "sys/kernel/cap_last_cap": tc.last + "\n"})
			got, err := MissingCapabilities(proc)
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
		})
	}
	proc := t.TempDir()
	_, err := MissingCapabilities(proc)
	require.ErrorIs(t, err, os.ErrNotExist)
	writeTree(t, proc, map[string]string{"self/status": "CapPrm:\tzz\nCapBnd:\tzz\n"})
	_, err = MissingCapabilities(proc)
	require.ErrorContains(t, err, "read CapBnd")
}

func FuzzStatusMask(f *testing.F) {
	f.Add("CapBnd:\t000001fffeffffff\n")
	f.Add("CapBnd")
	f.Fuzz(func(t *testing.T, status string) {
		if mask, err := statusMask(status, "CapBnd"); err != nil && mask != 0 {
			t.Fatal("an error with a mask")
		}
	})
}

func TestChoosePoolKeepsClearOfTheHost(t *testing.T) {
	for _, tc := range []struct {
		name  string
		taken []string
		want  string
	}{
		{"a free host", nil, "10.213.0.0/16"},
		{"a default route takes nothing", []string{"0.0.0.0/0"}, "10.213.0.0/16"},
		{"an address inside the first", []string{"10.213.7.1/32"}, "10.214.0.0/16"},
		{"a wide private network", []string{"10.0.0.0/8"}, "172.29.0.0/16"},
		{"other families", []string{"fd00::/8"}, "10.213.0.0/16"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var taken []netip.Prefix
			for _, p := range tc.taken {
				taken = append(taken, netip.MustParsePrefix(p))
			}
			got, err := choosePool(taken)
			require.NoError(t, err)
			require.Equal(t, tc.want, got.String())
		})
	}
}

func TestRulesAreAddedOnceAndRemoved(t *testing.T) {
	pool, present := netip.MustParsePrefix("10.213.0.0/16"), false
	runner := &command.Fake{}
	runner.Respond = func(c command.Cmd) (command.Output, error) {
		if c.Argv[4] == "-C" && !present {
			return command.Output{}, errors.New("no such rule")
		}
		return command.Output{}, nil
	}
	n := netlinkNetwork{runner}
	require.NoError(t, n.addRules(t.Context(), pool, "mine"))
	want := []string{
		"iptables -w -t nat -I POSTROUTING -s 10.213.0.0/16 ! -d 10.213.0.0/16 -j MASQUERADE -m comment --comment mine",
		"iptables -w -t filter -I FORWARD -s 10.213.0.0/16 -j ACCEPT -m comment --comment mine",
		"iptables -w -t filter -I FORWARD -d 10.213.0.0/16 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT -m comment --comment mine",
	}
	require.Subset(t, runner.Lines(), want)
	present = true
	before := len(runner.Lines())
	require.NoError(t, n.addRules(t.Context(), pool, "mine"))
	require.Len(t, runner.Lines()[before:], 3, "only looked for")
	require.NoError(t, n.removeRules(t.Context(), pool, "mine"))
	require.Contains(t, runner.Lines(), strings.Replace(want[0], "-I", "-D", 1))
}

func TestMountPointsAreThoseOnOrBelowTheFolders(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 254:0 /c/data /c/data rw - ext4 /dev/vda rw
31 30 0:40 / /c/data/overlay2/x/merged rw - overlay overlay rw
32 22 0:41 / /run/e\040f/netns rw - nsfs nsfs rw
33 22 0:42 / /c/data2 rw - tmpfs tmpfs rw
short line
`
	require.Equal(t, []string{"/c/data", "/c/data/overlay2/x/merged", "/run/e f/netns"}, mountPoints(mountinfo, []string{"/c/data", "/run/e f"}))
}

func FuzzMountPoints(f *testing.F) {
	f.Add("22 1 254:0 / /c/data/x rw - ext4 /dev/vda rw\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range mountPoints(text, []string{"/c"}) {
			if p != "/c" && !strings.HasPrefix(p, "/c/") {
				t.Fatalf("%q is not below /c", p)
			}
		}
	})
}

func TestCgroupsOfTheEngineAreFoundInBothVersions(t *testing.T) {
	root := t.TempDir()
	writeTree(t, root, map[string]string{
		"memory/meshsim-1/cgroup.procs": "", "memory/meshsim-1/abc/cgroup.procs": "12\n13\n",
		"pids/meshsim-1/cgroup.procs": "0\n", "pids/meshsim-2/cgroup.procs": "99\n", "meshsim-1/cgroup.procs": "14\n",
	})
	dirs := cgroupDirs(root, "meshsim-1")
	require.Len(t, dirs, 3)
	var pids []int
	for _, d := range dirs {
		pids = append(pids, cgroupProcesses(d)...)
	}
	require.ElementsMatch(t, []int{12, 13, 14}, pids)
	empty := filepath.Join(root, "cpu/meshsim-1/a/b")
	require.NoError(t, os.MkdirAll(empty, 0o755))
	removeCgroup(filepath.Join(root, "cpu/meshsim-1"))
	require.NoDirExists(t, filepath.Join(root, "cpu/meshsim-1"))
}

func TestWhatIsFrozenIsThawedHoweverTheEngineNamesItsGroups(t *testing.T) {
	root := t.TempDir()
	frozen := map[string]string{
		"freezer/docker/abc/freezer.state": "FROZEN\n", "freezer/docker/abc/kubelet/pod/freezer.state": "FREEZING\n",
		"freezer/system.slice/docker-abc.scope/freezer.state": "FROZEN\n", "freezer/abc/freezer.state": "FROZEN\n",
	}
	writeTree(t, root, frozen)
	writeTree(t, root, map[string]string{"freezer/docker/other/freezer.state": "FROZEN\n", "freezer/docker/abc/calm/freezer.state": "THAWED\n"})
	require.NoError(t, Thaw(root, "abc", "nowhere"))
	for name := range frozen {
		state, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		require.Equal(t, "THAWED", string(state), name)
	}
	other, err := os.ReadFile(filepath.Join(root, "freezer/docker/other/freezer.state"))
	require.NoError(t, err)
	require.Equal(t, "FROZEN\n", string(other))
	require.NoError(t, Thaw(t.TempDir(), "abc"), "version 2 has no freezer to thaw")
	KeepThawed(root, "abc")()
}

func TestOnlyDaemonsOfThisEngineBelongToIt(t *testing.T) {
	h := host{proc: t.TempDir()}
	writeTree(t, h.proc, map[string]string{
		"10/cmdline": "/usr/sbin/dockerd\x00--config-file\x00/c/engine/daemon.json\x00",
		"11/cmdline": "/usr/bin/containerd-shim-runc-v2\x00-address\x00/c/engine/x.sock\x00",
		"12/cmdline": "/usr/sbin/dockerd\x00--config-file\x00/other/daemon.json\x00",
		"13/cmdline": "tail\x00-f\x00/c/engine/dockerd.log\x00",
		"14/cmdline": "",
	})
	require.ElementsMatch(t, []int{10, 11}, h.processesOf("/c/engine"))
	require.False(t, h.belongs(0, "/c/engine"))
	require.False(t, h.belongs(15, "/c/engine"))
}

func TestTheProbeProgramRuns(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		program, err := probeProgram(arch)
		require.NoError(t, err)
		require.Equal(t, "\x7fELF", string(program[:4]))
		require.Less(t, len(program), 200)
	}
	_, err := probeProgram("riscv64")
	require.ErrorContains(t, err, "no probe program for riscv64")
	program, err := probeProgram(runtime.GOARCH)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "probe")
	require.NoError(t, os.WriteFile(path, program, 0o755))
	_, err = command.Exec{}.Run(t.Context(), command.Cmd{Argv: []string{path}})
	var ce *command.Error
	require.ErrorAs(t, err, &ce)
	require.Equal(t, probeExit, ce.ExitCode)
}

func TestLimitsAreRaisedAndNeverLowered(t *testing.T) {
	proc := t.TempDir()
	writeTree(t, proc, map[string]string{"sys/fs/inotify/max_user_instances": "128\n", "sys/fs/inotify/max_user_watches": "1000000\n"})
	require.Equal(t, []string{"fs.inotify.max_user_instances=128"}, LowLimits(proc))
	require.NoError(t, RaiseLimits(proc))
	require.Empty(t, LowLimits(proc))
	watches, err := os.ReadFile(filepath.Join(proc, "sys/fs/inotify/max_user_watches"))
	require.NoError(t, err)
	require.Equal(t, "1000000\n", string(watches))
	require.Equal(t, []string{"fs.inotify.max_user_instances=1024", "fs.inotify.max_user_watches=524288"}, LimitSettings())
	require.NoError(t, RaiseLimits(t.TempDir()), "nothing to raise where the kernel shows nothing")
}

func TestADamagedStateIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.json")
	s, err := readState(path)
	require.NoError(t, err)
	require.Nil(t, s)
	require.NoError(t, os.WriteFile(path, []byte("{"), 0o600))
	_, err = readState(path)
	require.ErrorContains(t, err, "read the private engine's state")
	want := &state{Pool: netip.MustParsePrefix("10.213.0.0/16"), Containerd: 1, Dockerd: 2, Version: "v", Wrapped: true, Missing: []string{"CAP_BPF"}}
	require.NoError(t, writeState(path, want))
	got, err := readState(path)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestADaemonOutlivesItsStarterAndLogs(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	d, err := spawn([]string{"/bin/sh", "-c", "echo started"}, log)
	require.NoError(t, err)
	select {
	case <-d.exited:
	case <-time.After(10 * time.Second):
		t.Fatal("it did not end")
	}
	require.False(t, d.alive())
	require.Equal(t, "started", logTail(log))
	_, err = spawn([]string{"/does/not/exist"}, log)
	require.ErrorContains(t, err, "start /does/not/exist")
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	b := newBench(t)
	err := b.await(ctx, &daemon{exited: make(chan struct{})}, "log", "dockerd", func() bool { return false })
	require.ErrorIs(t, err, cause)
}
