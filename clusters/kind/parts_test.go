package kind

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	kinderrors "sigs.k8s.io/kind/pkg/errors"
	kindexec "sigs.k8s.io/kind/pkg/exec"

	"meshsim.dev/meshsim/clusters/engine"
	"meshsim.dev/meshsim/clusters/fault"
)

func testNets() []nodeNet {
	return []nodeNet{
		{Node{Name: "m-control-plane"}, "10.0.0.2", "10.244.0.0/24"},
		{Node{"m-worker", "us-east-1a", "apps"}, "10.0.0.3", "10.244.1.0/24"},
		{Node{"m-worker2", "us-east-1b", "apps"}, "10.0.0.4", "10.244.2.0/24"},
		{Node{"m-worker3", "us-east-1a", "apps"}, "10.0.0.5", ""},
	}
}

func TestTheDelayIsHalfTheRoundTripTowardsOtherZones(t *testing.T) {
	nets := testNets()
	require.Equal(t, `qdisc replace dev eth0 root handle 1: prio bands 4
qdisc replace dev eth0 parent 1:4 handle 40: netem delay 300us limit 10000
filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.4/32 flowid 1:4
filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst 10.244.2.0/24 flowid 1:4
`, tcBatch(nets[1], nets, 600*time.Microsecond))
	require.Equal(t, `qdisc replace dev eth0 root handle 1: prio bands 4
qdisc replace dev eth0 parent 1:4 handle 40: netem delay 300us limit 10000
filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.3/32 flowid 1:4
filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst 10.244.1.0/24 flowid 1:4
filter add dev eth0 parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.5/32 flowid 1:4
`, tcBatch(nets[2], nets, 600*time.Microsecond))
}

func TestTheDelayIsSetOnWorkersWhereTheKernelCan(t *testing.T) {
	d := newDocker()
	note, err := addDelay(t.Context(), d, &engine.Engine{}, testNets(), 600*time.Microsecond)
	require.NoError(t, err)
	require.Empty(t, note)
	require.Equal(t, []string{"exec m-worker tc qdisc add dev lo root netem delay 1us", "exec m-worker tc qdisc del dev lo root"}, d.lines[:2])
	require.Len(t, d.stdin, 3)
	require.Contains(t, d.stdin["m-worker2"], "netem delay 300us")
}

func TestADelayThatCannotBeEmulatedIsNoted(t *testing.T) {
	d := newDocker()
	d.fail = func([]string) error { return errors.New("Error: Specified qdisc kind is unknown.") }
	note, err := addDelay(t.Context(), d, &engine.Engine{}, testNets(), 600*time.Microsecond)
	require.NoError(t, err)
	require.Equal(t, "the 600µs between zones are not emulated: this kernel has no netem (sch_netem)", note)
	require.Len(t, d.lines, 1)
}

func TestNoDelayIsSetWhereNoneIsWanted(t *testing.T) {
	d := newDocker()
	for _, tc := range []struct {
		nets  []nodeNet
		delay time.Duration
	}{{testNets(), 0}, {testNets()[:2], time.Millisecond}, {nil, time.Millisecond}} {
		note, err := addDelay(t.Context(), d, &engine.Engine{}, tc.nets, tc.delay)
		require.NoError(t, err)
		require.Empty(t, note)
	}
	require.Empty(t, d.lines)
}

func TestADelayThatFailsOnOneNodeIsAnError(t *testing.T) {
	d := newDocker()
	d.fail = func(args []string) error {
		if args[1] == "--interactive" && args[2] == "m-worker2" {
			return errors.New("no u32")
		}
		return nil
	}
	_, err := addDelay(t.Context(), d, &engine.Engine{}, testNets(), time.Millisecond)
	require.ErrorContains(t, err, "set the delay between zones on m-worker2: no u32")
}

func TestNodesThatStayUnreadyAreNamed(t *testing.T) {
	client := fake.NewClientset(readyNodes("")...)
	_, err := awaitNodes(t.Context(), client, []string{"meshsim-worker", "meshsim-worker9"}, 50*time.Millisecond)
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "wait 50ms for the nodes: not ready: meshsim-worker9")
	nodes, err := awaitNodes(t.Context(), client, []string{"meshsim-worker"}, time.Second)
	require.NoError(t, err)
	require.Len(t, nodes, 4)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("interrupted")
	cancel(cause)
	_, err = awaitNodes(ctx, client, []string{"meshsim-worker9"}, time.Minute)
	require.ErrorIs(t, err, cause)
	require.False(t, nodeReady(corev1.Node{}))
}

func TestStepsOfKindAreShownPlainAndLoggedWhole(t *testing.T) {
	var file bytes.Buffer
	var steps []string
	l := &kindLogger{file: &file, step: func(s string) { steps = append(steps, s) }, now: func() time.Time { return time.Unix(0, 0) }}
	l.V(0).Infof(" • %s  ...\n", "Preparing nodes 📦 📦 ")
	l.V(0).Infof(" • %s  ...\n", "Starting control-plane 🕹️")
	l.V(0).Infof(" ✓ %s\n", "Starting control-plane 🕹️")
	l.V(3).Info("kubeadm says much")
	l.V(4).Info("too much")
	l.Warnf("cgroup v%d", 1)
	l.Errorf("bad %s", "luck")
	require.Equal(t, []string{"preparing nodes", "starting control-plane"}, steps)
	require.Contains(t, file.String(), "00:00:00.000 I kubeadm says much\n")
	require.Contains(t, file.String(), "00:00:00.000 W cgroup v1\n")
	require.Contains(t, file.String(), "00:00:00.000 E bad luck\n")
	require.NotContains(t, file.String(), "too much")
}

func TestKindsErrorsCarryWhatTheProgramSaid(t *testing.T) {
	require.NoError(t, explain(nil))
	run := &kindexec.RunError{Command: []string{"docker", "exec"}, Output: []byte("one\ntwo\nconnection refused\n"), Inner: errors.New("exit status 1")}
	err := explain(kinderrors.Wrap(run, "failed to init node with kubeadm"))
	require.ErrorContains(t, err, "failed to init node with kubeadm")
	require.ErrorContains(t, err, "two\nconnection refused")
}

func TestKindIsAimedAtTheEngineAndTheEnvironmentPutBack(t *testing.T) {
	t.Setenv("KIND_EXPERIMENTAL_DOCKER_NETWORK", "mine")
	t.Setenv("DOCKER_HOST", "tcp://elsewhere")
	restore, err := aimKind(&engine.Engine{Host: "unix:///run/x.sock"})
	require.NoError(t, err)
	require.Equal(t, "unix:///run/x.sock", os.Getenv("DOCKER_HOST"))
	_, set := os.LookupEnv("KIND_EXPERIMENTAL_DOCKER_NETWORK")
	require.False(t, set)
	restore()
	require.Equal(t, "tcp://elsewhere", os.Getenv("DOCKER_HOST"))
	require.Equal(t, "mine", os.Getenv("KIND_EXPERIMENTAL_DOCKER_NETWORK"))
	_, set = os.LookupEnv("DOCKER_CERT_PATH")
	require.False(t, set)
}

func TestFreeMemoryIsWhatTheKernelSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meminfo")
	for text, want := range map[string]int64{"MemTotal: 10 kB\nMemAvailable:    2048 kB\n": 2 << 20, "MemTotal: 10 kB\n": -1, "MemAvailable: x kB\n": -1, "MemAvailable:\n": -1} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		got, err := FreeMemory(path)
		if want < 0 {
			require.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
}

func FuzzFreeMemory(f *testing.F) {
	f.Add("MemAvailable:    2048 kB\n")
	f.Add("MemAvailable")
	path := filepath.Join(f.TempDir(), "meminfo")
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		if n, err := FreeMemory(path); err != nil && n != 0 {
			t.Fatal("an error with a figure")
		}
	})
}

func TestAPortThatIsListenedOnIsNotFree(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := portOf(l.Addr().String())
	require.ErrorContains(t, PortFree(port), "address already in use")
	require.NoError(t, l.Close())
	require.NoError(t, PortFree(port))
	require.Zero(t, portOf("nonsense"))
}

func TestPreflightTellsEveryProblemAtOnce(t *testing.T) {
	m := machine{
		freeDisk:   func(string) (int64, error) { return 0, nil },
		freeMemory: func() (int64, error) { return 0, nil },
		portFree:   func(int) error { return errors.New("taken") },
	}
	err := m.preflight(hostInfo{DockerRoot: "/d"}, shipped(t, "eks-1.24"), 0, 80, 81)
	require.Equal(t, 4, strings.Count(err.Error(), "mend:"))
	m.freeDisk = func(string) (int64, error) { return 0, errors.New("elsewhere") }
	m.freeMemory = func() (int64, error) { return 0, errors.New("no meminfo") }
	require.NoError(t, m.preflight(hostInfo{}, shipped(t, "ci"), 0))
	free, err := FreeDisk(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, free)
	_, err = FreeDisk("/does/not/exist")
	require.Error(t, err)
}

func TestPacketsToServicesThatNobodyKnowsStayInside(t *testing.T) {
	d := newDocker()
	require.NoError(t, keepServicesInside(t.Context(), d, &engine.Engine{}, []Node{{Name: "m-control-plane"}, {Name: "m-worker"}}))
	require.Len(t, d.stdin, 2)
	require.Equal(t, "*filter\n-I OUTPUT -d 10.96.0.0/16 -j REJECT\n-I FORWARD -d 10.96.0.0/16 -j REJECT\nCOMMIT\n", d.stdin["m-worker"])
	d.fail = func(args []string) error {
		if args[2] == "m-worker" {
			return errors.New("no iptables")
		}
		return nil
	}
	err := keepServicesInside(t.Context(), d, &engine.Engine{}, []Node{{Name: "m-control-plane"}, {Name: "m-worker"}})
	require.ErrorContains(t, err, "keep packets to Services on m-worker inside: no iptables")
}
