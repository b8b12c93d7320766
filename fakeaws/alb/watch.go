package alb

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/pause"
)

// PodNetwork leads to pods.
type PodNetwork interface {
	// Keep makes the pods of these nodes reachable, as far as it can.
	Keep([]*corev1.Node) error
	// Reaches tells whether a pod can be reached.
	Reaches(pod netip.Addr) bool
}

// watcher follows the cluster and keeps the table as the cluster wants it. A
// cluster whose API is away changes nothing: what was known last goes on.
type watcher struct {
	table      *table
	targetType TargetType
	settings   settings
	pods       PodNetwork // nil: pods are reached as they are
	gates      *Gates     // nil: there are none
	log        *slog.Logger
	settle     time.Duration // how long to gather changes before acting on them
	synced     atomic.Bool

	told    string // the problems last logged, so that each is said once
	waysErr error  // what is wrong with the ways to pods
}

// retryAfter is how soon what has failed is tried again.
const retryAfter = 2 * time.Second

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context, client kubernetes.Interface) error {
	c := newCluster(client, w.gates != nil)
	dirty := make(chan struct{}, 1)
	defer c.factory.Shutdown() // waits for the informers, which ctx ends
	err := c.start(ctx, func() {
		select {
		case dirty <- struct{}{}:
		default: // already marked
		}
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.follow(ctx, dirty, c) })
	if w.gates != nil {
		keeper := &gatekeeper{table: w.table, client: client, pods: c.pods.Lister(), log: w.log, settle: w.settle}
		hook := &gateHook{table: w.table, services: c.services.Lister(), log: w.log}
		g.Go(func() error {
			keeper.run(ctx)
			return nil
		})
		g.Go(func() error { return w.gates.serve(ctx, client, hook) })
	}
	return g.Wait()
}

// follow rebuilds at once, then after each burst of changes, and again while
// pods cannot be reached.
func (w *watcher) follow(ctx context.Context, dirty <-chan struct{}, c *cluster) error {
	for {
		in, err := c.objects()
		if err != nil {
			return err
		}
		w.apply(ctx, in, c)
		w.synced.Store(true)
		var again <-chan time.Time
		if w.waysErr != nil {
			again = time.After(retryAfter)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		case <-dirty:
			if pause.For(ctx, w.settle) != nil {
				return nil
			}
		}
	}
}

func (w *watcher) apply(ctx context.Context, in objects, c *cluster) {
	// listers answer in no order; a steady one keeps equal states equal
	slices.SortFunc(in.ingresses, byName)
	how := policy{targetType: w.targetType, settings: w.settings, unusable: w.waysTo(in.nodes)}
	if w.gates != nil {
		how.gated = c.gated
	}
	want, problems := plan(in, how)
	if w.waysErr != nil {
		problems = append(problems, w.waysErr)
	}
	if text := fmt.Sprint(problems); text != w.told {
		w.told = text
		for _, p := range problems {
			w.log.Warn("not served", "problem", p.Error())
		}
	}
	w.table.apply(ctx, want)
}

// waysTo opens the ways to pods as soon as anybody asks for one, and says of
// each pod why there is none.
func (w *watcher) waysTo(nodes []*corev1.Node) func(netip.Addr) string {
	w.waysErr = nil
	if w.pods == nil {
		return nil
	}
	kept := false
	return func(pod netip.Addr) string {
		if !kept {
			kept = true
			if err := w.pods.Keep(nodes); err != nil {
				w.waysErr = fmt.Errorf("reach the cluster's pods: %w", err)
			}
		}
		if w.pods.Reaches(pod) {
			return ""
		}
		return "there is no route to the pod"
	}
}

type named interface {
	GetNamespace() string
	GetName() string
}

func byName[T named](a, b T) int {
	return slices.Compare([]string{a.GetNamespace(), a.GetName()}, []string{b.GetNamespace(), b.GetName()})
}
