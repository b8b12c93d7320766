package nodenet

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// memoryKernel keeps routes in memory; the first calls fail as often as told.
type memoryKernel struct {
	mu         sync.Mutex
	routes     []Route
	masquerade []netip.Prefix
	failures   int
}

func (k *memoryKernel) MTU() (int, error) { return 1400, nil }

func (k *memoryKernel) Routes() ([]Route, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failures > 0 {
		k.failures--
		return nil, errors.New("not now")
	}
	return slices.Clone(k.routes), nil
}

func (k *memoryKernel) AddRoute(r Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routes = append(slices.DeleteFunc(k.routes, func(o Route) bool { return o.Pods == r.Pods }), r)
	return nil
}

func (k *memoryKernel) RemoveRoute(r Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.routes = slices.DeleteFunc(k.routes, func(o Route) bool { return o == r })
	return nil
}

func (k *memoryKernel) Masquerade(pods, all netip.Prefix) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.masquerade = []netip.Prefix{pods, all}
	return nil
}

func (k *memoryKernel) has(want ...Route) func() bool {
	return func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.routes) == len(want) && !slices.ContainsFunc(want, func(r Route) bool { return !slices.Contains(k.routes, r) })
	}
}

func TestTheDaemonFollowsTheClustersNodes(t *testing.T) {
	stale := route("10.244.9.0/24", "172.18.0.9")
	kernel := &memoryKernel{routes: []Route{stale}, failures: 1}
	client := fake.NewClientset(node("me", "", "172.18.0.2"), node("a", "10.244.1.0/24", "172.18.0.3"))
	all, dir := netip.MustParsePrefix("10.244.0.0/16"), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{
			Node: "me", AllPods: all, ConfigDir: dir, Kubernetes: client, Kernel: kernel,
			Log: slog.New(slog.DiscardHandler), Resync: 10 * time.Millisecond,
		})
	}()
	soon := func(what string, is func() bool) {
		t.Helper()
		require.Eventually(t, is, 10*time.Second, 5*time.Millisecond, what)
	}
	nodes := client.CoreV1().Nodes()
	require.NoFileExists(t, filepath.Join(dir, ConflistName), "nothing is written before the node has a range")

	_, err := nodes.Update(ctx, node("me", "10.244.2.0/24", "172.18.0.2"), metav1.UpdateOptions{})
	require.NoError(t, err)
	soon("the stale route goes, the other node's comes", kernel.has(route("10.244.1.0/24", "172.18.0.3")))
	soon("the configuration is written", func() bool {
		_, err := os.Stat(filepath.Join(dir, ConflistName))
		return err == nil
	})
	kernel.mu.Lock()
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24"), all}, kernel.masquerade)
	kernel.mu.Unlock()

	_, err = nodes.Create(ctx, node("b", "10.244.3.0/24", "172.18.0.4"), metav1.CreateOptions{})
	require.NoError(t, err)
	soon("a node that joins gets a route", kernel.has(route("10.244.1.0/24", "172.18.0.3"), route("10.244.3.0/24", "172.18.0.4")))
	_, err = nodes.Update(ctx, node("b", "10.244.3.0/24", "172.18.0.5"), metav1.UpdateOptions{})
	require.NoError(t, err)
	soon("a new address is followed", kernel.has(route("10.244.1.0/24", "172.18.0.3"), route("10.244.3.0/24", "172.18.0.5")))
	require.NoError(t, nodes.Delete(ctx, "a", metav1.DeleteOptions{}))
	soon("a node that goes loses its route", kernel.has(route("10.244.3.0/24", "172.18.0.5")))
	require.NoError(t, kernel.RemoveRoute(route("10.244.3.0/24", "172.18.0.5")))
	soon("a route that someone removed comes back", kernel.has(route("10.244.3.0/24", "172.18.0.5")))
	cancel()
	require.NoError(t, <-done)
}
