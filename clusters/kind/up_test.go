package kind

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/bundle"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/topology"
)

var allContainers = []string{"meshsim-aws", "meshsim-control-plane", "meshsim-registry", "meshsim-worker", "meshsim-worker2", "meshsim-worker3"}

func TestUpRaisesAClusterAndRecordsIt(t *testing.T) {
	b := newBench(t)
	b.HTTPPort = 8080
	c, err := b.up(t.Context())
	require.NoError(t, err)
	require.Equal(t, allContainers, b.docker.names())
	require.Equal(t, "127.0.0.1:8080", c.HTTP)
	require.Equal(t, "127.0.0.1:39090", c.GRPC)
	require.Equal(t, "http://meshsim-aws:4566", c.KMSEndpoint)
	require.Equal(t, "hash1", c.BundleHash)
	require.Len(t, c.Nodes, 4)
	require.InDelta(t, 2.0/12, c.Fit.CPU, 1e-9)
	require.False(t, c.Reused)
	require.Equal(t, []string{"node,registry,fakeaws"}, b.loads)
	require.True(t, slices.ContainsFunc(b.docker.lines, func(l string) bool {
		return strings.HasPrefix(l, "run --detach --name meshsim-registry --hostname meshsim-registry --network kind ") &&
			strings.HasSuffix(l, " --volume /bundles/1:/bundle:ro meshsim.local/registry:1 --listen=:5000 --bundle=/bundle")
	}))
	require.True(t, slices.ContainsFunc(b.docker.lines, func(l string) bool {
		return strings.HasPrefix(l, "run --detach --name meshsim-aws ") && strings.Contains(l, " --cap-add NET_ADMIN ") && strings.Contains(l, " --alb-pod-routes ")
	}), "the load balancer may lead itself to pods")
	for path, mode := range map[string]os.FileMode{"": 0o700, "cluster.json": 0o600, "kubeconfig": 0o600, "aws/kubeconfig": 0o600} {
		info, err := os.Stat(filepath.Join(b.folder(), path))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), path)
	}
	internal, err := os.ReadFile(filepath.Join(b.folder(), "aws/kubeconfig"))
	require.NoError(t, err)
	require.Equal(t, "internal of meshsim", string(internal))

	opened, err := Open(b.Cache, "meshsim")
	require.NoError(t, err)
	require.Equal(t, c.HTTP, opened.HTTP)
	require.Equal(t, c.Topology.Hash(), opened.Topology.Hash())
	require.Equal(t, c.Nodes, opened.Nodes)
	require.Equal(t, c.NodeImage, opened.NodeImage)

	classes, err := b.client.StorageV1().StorageClasses().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	ranks := map[string]string{}
	for _, class := range classes.Items {
		ranks[class.Name] = class.Annotations[defaultClassAnnotation]
	}
	require.Equal(t, map[string]string{"gp3": "true", "standard": "false"}, ranks)
}

func TestUpReusesTheSameCluster(t *testing.T) {
	b := newBench(t)
	_, err := b.up(t.Context())
	require.NoError(t, err)
	before := len(b.docker.lines)
	c, err := b.up(t.Context())
	require.NoError(t, err)
	require.True(t, c.Reused)
	require.Equal(t, 1, b.kind.calls)
	for _, line := range b.docker.lines[before:] {
		require.True(t, strings.HasPrefix(line, "ps "), "only looked: %s", line)
	}
}

func TestUpExchangesOnlyWhatChanged(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*bench)
		raised  int      // times kind was called in all
		started []string // containers beside the nodes that were started again
	}{
		{"another bundle with the same node image", func(b *bench) { b.bundleHash = "hash2" }, 1, []string{"meshsim-aws", "meshsim-registry"}},
		{"the registry has gone", func(b *bench) { delete(b.docker.containers, "meshsim-registry") }, 1, []string{"meshsim-registry"}},
		{"the AWS stand-in has ended", func(b *bench) { b.docker.setState("meshsim-aws", "exited") }, 1, []string{"meshsim-aws"}},
		{"another port is asked for", func(b *bench) { b.HTTPPort = 8081 }, 1, []string{"meshsim-aws"}},
		{"a paused node is woken", func(b *bench) { b.docker.setState("meshsim-worker2", "paused") }, 1, nil},
		{"another node image", func(b *bench) { b.images = fakeBundle{"v1.24.17", "sha256:other", &b.loads} }, 2, []string{"meshsim-aws", "meshsim-registry"}},
		{"another shape", func(b *bench) { b.Topology.CrossZoneDelay++ }, 2, []string{"meshsim-aws", "meshsim-registry"}},
		{"a node has gone", func(b *bench) { delete(b.docker.containers, "meshsim-worker2") }, 2, []string{"meshsim-aws", "meshsim-registry"}},
		{"a node has ended", func(b *bench) { b.docker.setState("meshsim-worker2", "exited") }, 2, []string{"meshsim-aws", "meshsim-registry"}},
		{"the record cannot be read", func(b *bench) { _ = os.WriteFile(b.record(), []byte("{"), 0o600) }, 2, []string{"meshsim-aws", "meshsim-registry"}},
		{"there is no record: half made", func(b *bench) { _ = os.Remove(b.record()) }, 2, []string{"meshsim-aws", "meshsim-registry"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			_, err := b.up(t.Context())
			require.NoError(t, err)
			top := *b.Topology
			b.Topology = &top
			tc.change(b)
			before := len(b.docker.lines)
			c, err := b.up(t.Context())
			require.NoError(t, err)
			require.Equal(t, tc.raised, b.kind.calls)
			require.Equal(t, tc.raised == 1, c.Reused)
			var started []string
			for _, line := range b.docker.lines[before:] {
				if fields := strings.Fields(line); fields[0] == "run" {
					started = append(started, fields[3])
				}
			}
			slices.Sort(started)
			require.Equal(t, tc.started, started)
			require.Equal(t, allContainers, b.docker.names())
			require.Equal(t, b.bundleHash, c.BundleHash)
			if b.HTTPPort == 8081 {
				require.Equal(t, "127.0.0.1:8081", c.HTTP)
			}
		})
	}
}

func TestUpThatFailsLeavesNothing(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*bench)
		want  string
		kind  fault.Kind
	}{
		{"kind fails", func(b *bench) { b.kind.err = errors.New("kubeadm init: boom") }, "kubeadm init: boom", fault.Environment},
		{"a port is taken", func(b *bench) {
			b.HTTPPort = 8080
			b.machine.portFree = func(int) error { return errors.New("address already in use") }
		}, "port 127.0.0.1:8080 is taken", fault.Environment},
		{"a port is taken this moment", func(b *bench) {
			b.docker.fail = func(args []string) error {
				if args[0] == "run" && slices.Contains(args, "meshsim-aws") {
					return &command.Error{Argv: args, ExitCode: 125, Err: errors.New("exit status 125"), Stderr: []byte("Bind for 127.0.0.1:8080 failed: port is already allocated")}
				}
				return nil
			}
		}, "port is already allocated", fault.Environment},
		{"too little disk", func(b *bench) { b.machine.freeDisk = func(string) (int64, error) { return gb, nil } },
			"/data has 1.0 GiB of disk free, and a cluster takes 5.0 GiB", fault.Environment},
		{"too little memory", func(b *bench) { b.machine.freeMemory = func() (int64, error) { return gb, nil } },
			"the host has 1.0 GiB of memory free, and 4 nodes take 1.2 GiB", fault.Environment},
		{"the bundle is of another version", func(b *bench) { b.images = fakeBundle{"v1.26.15", "sha256:node", &b.loads} },
			"topology ci wants Kubernetes v1.24.17, and the bundle's node image has v1.26.15", fault.Environment},
		{"the AWS stand-in dies", func(b *bench) {
			b.docker.fail = func(args []string) error {
				if args[0] == "inspect" && args[len(args)-1] == "meshsim-aws" {
					b.docker.setState("meshsim-aws", "exited")
				}
				return nil
			}
		}, "meshsim-aws does not run (exited)", fault.Environment},
		{"a version that kind cannot raise", func(b *bench) { b.Topology.KubernetesVersion = "v1.99.0" }, "cannot be raised with kind", fault.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			tc.spoil(b)
			_, err := b.up(t.Context())
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, tc.kind, fault.KindOf(err))
			b.nothingLeft(t)
		})
	}
}

func (b *bench) nothingLeft(t *testing.T) {
	t.Helper()
	require.Empty(t, b.docker.names())
	require.Empty(t, b.docker.volumes)
	require.Empty(t, b.docker.networks)
	require.NoDirExists(t, b.folder())
}

func TestUpInterruptedLeavesNothing(t *testing.T) {
	b := newBench(t)
	b.kind.hang = true
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
	_, err := b.up(ctx)
	require.Equal(t, cause, err)
	b.nothingLeft(t)
}

func TestDownIsIdempotentAndLeavesOthersAlone(t *testing.T) {
	b := newBench(t)
	_, err := b.up(t.Context())
	require.NoError(t, err)
	b.docker.containers["other-control-plane"] = dockerContainer{labels: map[string]string{nodeLabel: "other"}, state: "running"}
	b.docker.setState("meshsim-worker", "paused")
	require.NoError(t, b.remover.down(t.Context()))
	require.Equal(t, []string{"other-control-plane"}, b.docker.names())
	require.Contains(t, b.docker.lines, "unpause meshsim-worker")
	require.True(t, b.docker.networks["kind"], "another cluster uses it")
	require.NoDirExists(t, b.folder())
	delete(b.docker.containers, "other-control-plane")
	require.NoError(t, b.remover.down(t.Context()))
	require.Empty(t, b.docker.networks)
	require.NoError(t, b.remover.down(t.Context()))
}

func TestDownTriesAgainWhileAnotherRemoves(t *testing.T) {
	b := newBench(t)
	_, err := b.up(t.Context())
	require.NoError(t, err)
	failures := 2
	b.docker.fail = func(args []string) error {
		if args[0] == "rm" && failures > 0 {
			failures--
			return errors.New("removal of container is already in progress")
		}
		return nil
	}
	require.NoError(t, b.remover.down(t.Context()))
	b.nothingLeft(t)
}

func TestDownClearsUpAfterAKilledUp(t *testing.T) {
	b := newBench(t)
	require.NoError(t, os.MkdirAll(b.folder(), 0o700))
	// A docker command of the killed process comes up with one more container.
	b.remover.pause = func(time.Duration) {
		b.docker.containers["meshsim-worker"] = dockerContainer{labels: map[string]string{nodeLabel: "meshsim"}}
	}
	require.NoError(t, b.remover.down(t.Context()))
	b.nothingLeft(t)
}

func TestDownWithoutAnEngineRemovesTheRecord(t *testing.T) {
	b := newBench(t)
	_, err := b.up(t.Context())
	require.NoError(t, err)
	require.NoError(t, Down(t.Context(), DownOptions{Name: "meshsim", Cache: b.Cache, Runner: b.docker}))
	require.NoDirExists(t, b.folder())
	_, err = Open(b.Cache, "meshsim")
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "meshsim up")
}

func TestDownSaysWhatIsWrong(t *testing.T) {
	b := newBench(t)
	b.docker.fail = func([]string) error { return errors.New("cannot connect") }
	err := b.remover.down(t.Context())
	require.Equal(t, fault.Environment, fault.KindOf(err))
	require.ErrorContains(t, err, "remove cluster meshsim: cannot connect")
}

func TestNamesOfClusters(t *testing.T) {
	for name, good := range map[string]bool{
		"meshsim": true, "a": true, "a-1": true, strings.Repeat("a", 30): true,
		"": false, "-a": false, "a-": false, "A": false, "a_b": false, "../x": false, strings.Repeat("a", 31): false,
	} {
		err := CheckName(name)
		require.Equal(t, good, err == nil, name)
		if !good {
			require.Equal(t, fault.Invalid, fault.KindOf(err), name)
			require.Equal(t, fault.Invalid, fault.KindOf(Down(t.Context(), DownOptions{Name: name})), name)
		}
	}
}

func TestADamagedRecordIsToldWithItsMend(t *testing.T) {
	b := newBench(t)
	require.NoError(t, os.MkdirAll(b.folder(), 0o700))
	for _, text := range []string{"{", "{}", `{"name":"meshsim"}`} {
		require.NoError(t, os.WriteFile(b.record(), []byte(text), 0o600))
		_, err := Open(b.Cache, "meshsim")
		require.Equal(t, fault.Environment, fault.KindOf(err), text)
		require.ErrorContains(t, err, "meshsim down", text)
	}
}

func TestWrongOptionsAreToldWithTheirFlag(t *testing.T) {
	ci, err := topology.Load("ci")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		http, grpc int
		says       string // "" when nothing is wrong
	}{
		"free ports":                {0, 0, ""},
		"two ports":                 {8080, 9090, ""},
		"the same port twice":       {8080, 8080, "--http-port and --grpc-port"},
		"a port below all":          {-1, 0, "--http-port"},
		"a port beyond the last":    {0, 65536, "--grpc-port"},
		"the last port that is one": {65535, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := UpOptions{Name: "meshsim", Topology: ci, HTTPPort: c.http, GRPCPort: c.grpc}.Check()
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestStatusTellsOfContainersAndAnAPIThatDoesNotAnswer(t *testing.T) {
	b := newBench(t)
	empty, err := GetStatus(t.Context(), StatusOptions{Name: "meshsim", Engine: b.Engine, Cache: b.Cache, Runner: b.docker})
	require.NoError(t, err)
	require.Equal(t, &Status{Containers: []Container{}, Nodes: []NodeStatus{}}, empty)
	_, err = b.up(t.Context())
	require.NoError(t, err)
	s, err := GetStatus(t.Context(), StatusOptions{Name: "meshsim", Engine: b.Engine, Cache: b.Cache, Runner: b.docker})
	require.NoError(t, err)
	require.Len(t, s.Containers, 6)
	require.Equal(t, Container{Name: "meshsim-control-plane", Role: "node", State: "running"}, s.Containers[0])
	require.Equal(t, Container{Name: "meshsim-aws", Role: "aws", State: "running", Ports: "80/tcp -> 127.0.0.1:380, 9090/tcp -> 127.0.0.1:39090, 8090/tcp -> 127.0.0.1:38090"}, s.Containers[4])
	require.Contains(t, s.APIError, "kubeconfig") // which holds no such thing here
	require.Zero(t, s.Ready())
	without, err := GetStatus(t.Context(), StatusOptions{Name: "meshsim", Cache: b.Cache, Runner: b.docker})
	require.NoError(t, err)
	require.NotNil(t, without.Cluster)
	require.Empty(t, without.Containers)
}

var _ images = (*bundle.Bundle)(nil)
