package alb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// watcher follows the cluster and keeps the table as the cluster wants it. A
// cluster whose API is away changes nothing: what was known last goes on.
type watcher struct {
	table  *table
	log    *slog.Logger
	settle time.Duration // how long to gather changes before acting on them
	synced atomic.Bool

	told string // the problems last logged, so that each is said once
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	ingresses := factory.Networking().V1().Ingresses()
	services := factory.Core().V1().Services()
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
	informed := []cache.SharedIndexInformer{ingresses.Informer(), services.Informer(), nodes.Informer()}
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
		var errs [3]error
		in.ingresses, errs[0] = ingresses.Lister().List(labels.Everything())
		in.services, errs[1] = services.Lister().List(labels.Everything())
		in.nodes, errs[2] = nodes.Lister().List(labels.Everything())
		if err := errors.Join(errs[:]...); err != nil {
			return fmt.Errorf("read the cluster's objects: %w", err)
		}
		w.apply(ctx, in)
		return nil
	}
	return w.follow(ctx, dirty, rebuild)
}

// follow rebuilds at once, then after each burst of changes.
func (w *watcher) follow(ctx context.Context, dirty <-chan struct{}, rebuild func() error) error {
	for {
		if err := rebuild(); err != nil {
			return err
		}
		w.synced.Store(true)
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(w.settle):
		}
	}
}

func (w *watcher) apply(ctx context.Context, in objects) {
	// listers answer in no order; a steady one keeps equal states equal
	slices.SortFunc(in.ingresses, byName)
	want, problems := plan(in)
	if text := fmt.Sprint(problems); text != w.told {
		w.told = text
		for _, p := range problems {
			w.log.Warn("not served", "problem", p.Error())
		}
	}
	w.table.apply(ctx, want)
}

type named interface {
	GetNamespace() string
	GetName() string
}

func byName[T named](a, b T) int {
	return slices.Compare([]string{a.GetNamespace(), a.GetName()}, []string{b.GetNamespace(), b.GetName()})
}
