package nodenet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Options say which node the daemon serves, and where.
type Options struct {
	Node       string       // name of the node it runs on
	AllPods    netip.Prefix // the cluster's pod range
	ConfigDir  string       // where the container runtime looks for CNI configurations
	Kubernetes kubernetes.Interface
	Kernel     Kernel
	Log        *slog.Logger
	Resync     time.Duration // how often everything is looked at without a cause
}

// retryAfter is how soon a failed change is tried again.
const retryAfter = time.Second

// Run keeps the node's network as its cluster's nodes need it, until ctx ends.
func Run(ctx context.Context, o Options) error {
	factory := informers.NewSharedInformerFactory(o.Kubernetes, 0)
	informer := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	poke := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { poke() },
		UpdateFunc: func(any, any) { poke() },
		DeleteFunc: func(any) { poke() },
	}); err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced) {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last Plan
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-timer.C:
		}
		nodes, err := informer.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("list nodes: %w", err)
		}
		next := o.Resync
		p, err := PlanFor(o.Node, nodes)
		if err == nil {
			last, err = p, apply(o, p, p.Pods != last.Pods)
		}
		switch {
		case errors.Is(err, ErrNoRange):
			o.Log.Debug("waiting", "cause", err)
		case err != nil:
			o.Log.Error("the network is not as it should be", "error", err)
			last, next = Plan{}, retryAfter
		}
		timer.Reset(next)
	}
}

// apply makes the kernel and the configuration as planned. Routes come first:
// the configuration is what makes the node ready for pods.
func apply(o Options, p Plan, newRange bool) error {
	have, err := o.Kernel.Routes()
	if err != nil {
		return err
	}
	add, remove := Changes(have, p.Routes)
	for _, r := range add {
		if err := o.Kernel.AddRoute(r); err != nil {
			return err
		}
		o.Log.Info("route added", "pods", r.Pods, "via", r.Via)
	}
	for _, r := range remove {
		if err := o.Kernel.RemoveRoute(r); err != nil {
			return err
		}
		o.Log.Info("route removed", "pods", r.Pods)
	}
	if !newRange {
		return nil
	}
	if err := o.Kernel.Masquerade(p.Pods, o.AllPods); err != nil {
		return err
	}
	mtu, err := o.Kernel.MTU()
	if err != nil {
		return err
	}
	text, err := Conflist(p.Pods, mtu)
	if err != nil {
		return err
	}
	wrote, err := WriteConflist(o.ConfigDir, text)
	if wrote {
		o.Log.Info("CNI configuration written", "pods", p.Pods, "mtu", mtu)
	}
	return err
}
