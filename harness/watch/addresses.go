package watch

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

// Party is who has an address.
type Party struct {
	// Name is a service of the shop, namespace/workload, or one of results.Party….
	Name string
	Pod  string
	Node string // that the pod runs on, or that the address is of
	Shop bool   // one of the shop's services
	// Meshed tells that the pod has a proxy.
	Meshed bool
	// Virtual is the address of a Service: the kernel puts a pod's in its place.
	Virtual bool
}

// Addresses knows who has which address. One that is given up stays known
// until somebody else gets it: what used it may be told later.
type Addresses struct {
	shop string // its namespace
	is   map[string]bool

	mu      sync.RWMutex
	parties map[netip.Addr]Party
}

// FollowAddresses keeps up with every pod, node and Service of the cluster
// until ctx ends. shop and services are the shop's namespace and services.
func FollowAddresses(ctx context.Context, client kubernetes.Interface, shop string, services []string) (*Addresses, error) {
	a := &Addresses{shop: shop, is: map[string]bool{}, parties: map[netip.Addr]Party{}}
	for _, s := range services {
		a.is[s] = true
	}
	f := informers.NewSharedInformerFactory(client, 0)
	for _, h := range []struct {
		informer cache.SharedIndexInformer
		fn       func(any)
	}{
		{f.Core().V1().Pods().Informer(), a.pod},
		{f.Core().V1().Nodes().Informer(), a.node},
		{f.Core().V1().Services().Informer(), a.service},
	} {
		if _, err := h.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: h.fn, UpdateFunc: func(_, now any) { h.fn(now) }}); err != nil {
			return nil, fmt.Errorf("follow addresses: %w", err)
		}
	}
	f.Start(ctx.Done())
	for kind, ok := range f.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return nil, fmt.Errorf("follow the addresses of %v: %w", kind, context.Cause(ctx))
		}
	}
	return a, nil
}

// Of tells who has the address, or had it last.
func (a *Addresses) Of(addr netip.Addr) Party {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if p, ok := a.parties[addr.Unmap()]; ok {
		return p
	}
	return Party{Name: results.PartyOutside}
}

func (a *Addresses) set(text string, p Party) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return // a headless Service's "None", or a name
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.parties[addr.Unmap()] = p
}

func (a *Addresses) pod(obj any) {
	p, ok := obj.(*corev1.Pod)
	if !ok || p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return
	}
	party := Party{Name: a.workload(p), Pod: p.Name, Node: p.Spec.NodeName, Meshed: stack.Meshed(p)}
	party.Shop = p.Namespace == a.shop && a.is[party.Name]
	for _, ip := range p.Status.PodIPs {
		a.set(ip.IP, party)
	}
}

// workload is what a pod belongs to, by the labels that are in use for that.
func (a *Addresses) workload(p *corev1.Pod) string {
	name := p.Name
	for _, label := range []string{"app.kubernetes.io/name", "linkerd.io/control-plane-component", "k8s-app", "app"} {
		if v := p.Labels[label]; v != "" {
			name = v
			break
		}
	}
	if p.Namespace == a.shop {
		return name
	}
	return p.Namespace + "/" + name
}

func (a *Addresses) node(obj any) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return
	}
	for _, addr := range n.Status.Addresses {
		a.set(addr.Address, Party{Name: results.PartyNode, Node: n.Name})
	}
}

func (a *Addresses) service(obj any) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return
	}
	for _, ip := range s.Spec.ClusterIPs {
		a.set(ip, Party{Name: s.Namespace + "/" + s.Name, Virtual: true})
	}
}
