package alb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
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
	log        *slog.Logger
	settle     time.Duration // how long to gather changes before acting on them
	synced     atomic.Bool

	told    string // the problems last logged, so that each is said once
	waysErr error  // what is wrong with the ways to pods
}

// retryAfter is how soon a failed change of routes is tried again.
const retryAfter = 2 * time.Second

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields))
	ingresses := factory.Networking().V1().Ingresses()
	services := factory.Core().V1().Services()
	endpoints := factory.Discovery().V1().EndpointSlices()
	nodes := factory.Core().V1().Nodes()

	dirty := make(chan struct{}, 1)
	mark := func() {
		select {
		case dirty <- struct{}{}:
		default: // already marked
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { mark() },
		UpdateFunc: func(any, any) { mark() },
		DeleteFunc: func(any) { mark() },
	}
	informed := []cache.SharedIndexInformer{ingresses.Informer(), services.Informer(), endpoints.Informer(), nodes.Informer()}
	for _, i := range informed {
		if _, err := i.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch the cluster: %w", err)
		}
	}
	defer factory.Shutdown() // waits for the informers, which ctx ends
	factory.Start(ctx.Done())
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("watch the cluster: %v were never listed: %w", kind, context.Cause(ctx))
		}
	}

	rebuild := func() error {
		var in objects
		var errs [4]error
		in.ingresses, errs[0] = ingresses.Lister().List(labels.Everything())
		in.services, errs[1] = services.Lister().List(labels.Everything())
		in.slices, errs[2] = endpoints.Lister().List(labels.Everything())
		in.nodes, errs[3] = nodes.Lister().List(labels.Everything())
		if err := errors.Join(errs[:]...); err != nil {
			return fmt.Errorf("read the cluster's objects: %w", err)
		}
		w.apply(ctx, in)
		return nil
	}
	return w.follow(ctx, dirty, rebuild)
}

// withoutManagedFields spares the memory that they take.
func withoutManagedFields(object any) (any, error) {
	if m, err := meta.Accessor(object); err == nil {
		m.SetManagedFields(nil)
	}
	return object, nil
}

// follow rebuilds at once, then after each burst of changes, and again while
// pods cannot be reached.
func (w *watcher) follow(ctx context.Context, dirty <-chan struct{}, rebuild func() error) error {
	for {
		if err := rebuild(); err != nil {
			return err
		}
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
			if !sleep(ctx, w.settle) {
				return nil
			}
		}
	}
}

func (w *watcher) apply(ctx context.Context, in objects) {
	// listers answer in no order; a steady one keeps equal states equal
	slices.SortFunc(in.ingresses, byName)
	want, problems := plan(in, policy{targetType: w.targetType, settings: w.settings, unusable: w.waysTo(in.nodes)})
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
