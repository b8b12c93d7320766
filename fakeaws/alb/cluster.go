package alb

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	networkinginformers "k8s.io/client-go/informers/networking/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// cluster is what is known of the cluster's objects.
type cluster struct {
	factory   informers.SharedInformerFactory
	ingresses networkinginformers.IngressInformer
	services  coreinformers.ServiceInformer
	slices    discoveryinformers.EndpointSliceInformer
	nodes     coreinformers.NodeInformer
	pods      coreinformers.PodInformer // nil unless there are readiness gates to keep
}

func newCluster(client kubernetes.Interface, withPods bool) *cluster {
	f := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(lean))
	c := &cluster{
		factory: f, ingresses: f.Networking().V1().Ingresses(), services: f.Core().V1().Services(),
		slices: f.Discovery().V1().EndpointSlices(), nodes: f.Core().V1().Nodes(),
	}
	if withPods {
		c.pods = f.Core().V1().Pods()
	}
	return c
}

// lean spares the memory of what nobody here looks at.
func lean(object any) (any, error) {
	if m, err := meta.Accessor(object); err == nil {
		m.SetManagedFields(nil)
	}
	if p, ok := object.(*corev1.Pod); ok {
		p.Spec = corev1.PodSpec{ReadinessGates: p.Spec.ReadinessGates}
		p.Status = corev1.PodStatus{Conditions: p.Status.Conditions}
	}
	return object, nil
}

// start lists everything, and calls changed at every change from then on. The
// informers end with ctx; Shutdown of the factory waits for them.
func (c *cluster) start(ctx context.Context, changed func()) error {
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(any, any) { changed() },
		DeleteFunc: func(any) { changed() },
	}
	all := []cache.SharedIndexInformer{c.ingresses.Informer(), c.services.Informer(), c.slices.Informer(), c.nodes.Informer()}
	if c.pods != nil {
		all = append(all, c.pods.Informer())
	}
	for _, i := range all {
		if _, err := i.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch the cluster: %w", err)
		}
	}
	c.factory.Start(ctx.Done())
	for kind, ok := range c.factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("watch the cluster: %v were never listed: %w", kind, context.Cause(ctx))
		}
	}
	return nil
}

// objects are all objects as they are now.
func (c *cluster) objects() (objects, error) {
	var in objects
	var errs [4]error
	in.ingresses, errs[0] = c.ingresses.Lister().List(labels.Everything())
	in.services, errs[1] = c.services.Lister().List(labels.Everything())
	in.slices, errs[2] = c.slices.Lister().List(labels.Everything())
	in.nodes, errs[3] = c.nodes.Lister().List(labels.Everything())
	if err := errors.Join(errs[:]...); err != nil {
		return objects{}, fmt.Errorf("read the cluster's objects: %w", err)
	}
	return in, nil
}

// gated tells whether only its readiness gates keep a pod from being ready.
func (c *cluster) gated(namespace, name string) bool {
	pod, err := c.pods.Lister().Pods(namespace).Get(name)
	return err == nil && containersReady(pod)
}
