// Package control is the policy controller: it tells proxies whom to let in and
// which way to send what goes out, and writes on HTTPRoutes what became of them.
package control

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

// Settings are the mesh-wide ones.
type Settings struct {
	convert.Mesh
	// Defaults are the policy of pods that say nothing, and where probes come from.
	Defaults policy.Defaults
}

// Caches are of the objects that rules are made of.
type Caches struct {
	Pods, Services, Servers, ServerAuthorizations cache.SharedIndexInformer
	AuthorizationPolicies, MeshTLS, Networks      cache.SharedIndexInformer
	Routes, GatewayRoutes                         cache.SharedIndexInformer
}

// CachesOf are those of the cluster behind a client.
func CachesOf(c *kubeapi.Client) Caches {
	return Caches{
		Pods: c.Pods(), Services: c.Services(), Servers: c.Servers(), ServerAuthorizations: c.ServerAuthorizations(),
		AuthorizationPolicies: c.AuthorizationPolicies(), MeshTLS: c.MeshTLSAuthentications(), Networks: c.NetworkAuthentications(),
		Routes: c.HTTPRoutes(kinds.V1Beta3), GatewayRoutes: c.HTTPRoutes(kinds.Gateway),
	}
}

// always are the caches whose kinds any cluster with the mesh has.
func (c Caches) always() []cache.SharedIndexInformer {
	return []cache.SharedIndexInformer{
		c.Pods, c.Services, c.Servers, c.ServerAuthorizations, c.AuthorizationPolicies, c.MeshTLS, c.Networks, c.Routes,
	}
}

// Index knows the cluster's policies, and tells subscribers when what they
// asked for may have changed.
type Index struct {
	settings Settings
	log      *slog.Logger
	Caches
	hub     *hub.Hub
	gateway atomic.Int32
}

// What is known of the Gateway API, which a cluster may lack.
const (
	gatewayUnknown = iota
	gatewayAbsent
	gatewayServed
)

// Names of the caches' indexes.
const (
	byIP      = "ip"
	byService = "service" // of routes: the Services that they are attached to
)

// NewIndex makes an Index of caches that have not run yet; Run fills it.
func NewIndex(c Caches, settings Settings, log *slog.Logger) (*Index, error) {
	x := &Index{settings: settings, log: log, Caches: c, hub: hub.New()}
	names := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
	routes := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc, byService: routeServices}
	for _, set := range []struct {
		informer cache.SharedIndexInformer
		indexes  cache.Indexers
		keys     func(any) []string
	}{
		{c.Pods, names, podKeys},
		{c.Services, cache.Indexers{byIP: kubeapi.ServiceIPs}, serviceKeys},
		{c.Servers, names, serverKeys},
		{c.ServerAuthorizations, names, policyKeys},
		{c.AuthorizationPolicies, names, policyKeys},
		{c.MeshTLS, names, authenticationKeys},
		{c.Networks, names, authenticationKeys},
		{c.Routes, routes, routeKeys},
		{c.GatewayRoutes, routes, routeKeys},
	} {
		if err := set.informer.AddIndexers(set.indexes); err != nil {
			return nil, fmt.Errorf("set up the caches: %w", err)
		}
		if _, err := set.informer.AddEventHandler(x.hub.Handler(set.keys)); err != nil {
			return nil, fmt.Errorf("watch the caches: %w", err)
		}
	}
	if err := c.Pods.SetTransform(slimPod); err != nil {
		return nil, fmt.Errorf("set up the caches: %w", err)
	}
	return x, nil
}

// askGateway is how often an API server without the Gateway API is asked for it.
const askGateway = time.Minute

// Run fills the caches and keeps them so until ctx ends. serves says whether
// the cluster has the Gateway API.
func (x *Index) Run(ctx context.Context, serves func(context.Context) (bool, error)) {
	for _, informer := range x.always() {
		go informer.RunWithContext(ctx)
	}
	tick := time.NewTicker(askGateway)
	defer tick.Stop()
	for {
		served, err := serves(ctx)
		switch {
		case err != nil:
			x.log.Warn("it is not known whether there is a Gateway API", "error", err)
		case served:
			x.gateway.Store(gatewayServed)
			x.GatewayRoutes.RunWithContext(ctx)
			return
		default:
			x.gateway.Store(gatewayAbsent)
		}
		wait := tick.C
		if x.gateway.Load() == gatewayUnknown {
			wait = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return
		case <-wait:
		}
	}
}

// HasSynced says whether the caches hold the whole cluster.
func (x *Index) HasSynced() bool {
	for _, informer := range x.always() {
		if !informer.HasSynced() {
			return false
		}
	}
	switch x.gateway.Load() {
	case gatewayUnknown:
		return false
	case gatewayServed:
		return x.GatewayRoutes.HasSynced()
	default:
		return true
	}
}

// Synced waits until the caches hold the whole cluster.
func (x *Index) Synced(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), x.HasSynced) {
		return fmt.Errorf("read the cluster's policies: %w", ctx.Err())
	}
	return nil
}

// PodsOf are the pods of a namespace, as far as they are known.
func (x *Index) PodsOf(namespace string) []*corev1.Pod {
	return by[*corev1.Pod](x.Pods, cache.NamespaceIndex, namespace)
}

// Keys that answers depend on.
func podKey(namespace, name string) string     { return "pod/" + namespace + "/" + name }
func policyKey(namespace string) string        { return "policy/" + namespace }
func authnKey(namespace string) string         { return "authn/" + namespace }
func ipKey(ip string) string                   { return "ip/" + ip }
func serviceKey(namespace, name string) string { return "service/" + namespace + "/" + name }
func routesKey(namespace, name string) string  { return "routes/" + namespace + "/" + name }

// statusKey stands for everything that HTTPRoutes' statuses depend on.
const statusKey = "status"

func podKeys(obj any) []string {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	return []string{podKey(pod.Namespace, pod.Name)}
}

func serviceKeys(obj any) []string {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil
	}
	keys := []string{serviceKey(svc.Namespace, svc.Name), statusKey}
	for _, ip := range svc.Spec.ClusterIPs {
		keys = append(keys, ipKey(ip))
	}
	return keys
}

func policyKeys(obj any) []string {
	o, ok := obj.(metav1.Object)
	if !ok {
		return nil
	}
	return []string{policyKey(o.GetNamespace())}
}

func serverKeys(obj any) []string { return append(policyKeys(obj), statusKey) }

func authenticationKeys(obj any) []string {
	o, ok := obj.(metav1.Object)
	if !ok {
		return nil
	}
	return []string{authnKey(o.GetNamespace())}
}

func routeKeys(obj any) []string {
	keys := append(policyKeys(obj), statusKey)
	services, _ := routeServices(obj)
	for _, s := range services {
		keys = append(keys, "routes/"+s)
	}
	return keys
}

// routeServices are the Services that a route is attached to: namespace/name.
func routeServices(obj any) ([]string, error) {
	r, ok := obj.(*kinds.HTTPRoute)
	if !ok {
		return nil, nil
	}
	var out []string
	for _, p := range r.Spec.ParentRefs {
		if p.Is(kinds.CoreGroup, "Service") {
			out = append(out, p.In(r.Namespace)+"/"+p.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// slimPod drops what nobody here reads, which is most of a pod.
func slimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Pod{}
	slim.Namespace, slim.Name, slim.UID, slim.ResourceVersion = pod.Namespace, pod.Name, pod.UID, pod.ResourceVersion
	slim.Labels = pod.Labels
	slim.Spec.HostNetwork = pod.Spec.HostNetwork
	for _, c := range pod.Spec.Containers {
		slim.Spec.Containers = append(slim.Spec.Containers, corev1.Container{Name: c.Name, Ports: c.Ports})
	}
	return slim, nil
}

// groupRoute is an HTTPRoute with the group whose it is, which objects out of
// a list do not say.
type groupRoute struct {
	gv schema.GroupVersion
	*kinds.HTTPRoute
}

// routesBy finds HTTPRoutes of both groups by an index, the oldest first.
func (x *Index) routesBy(index, key string) []groupRoute {
	var out []groupRoute
	for _, from := range []struct {
		gv       schema.GroupVersion
		informer cache.SharedIndexInformer
	}{{kinds.V1Beta3, x.Routes}, {kinds.Gateway, x.GatewayRoutes}} {
		for _, r := range by[*kinds.HTTPRoute](from.informer, index, key) {
			out = append(out, groupRoute{from.gv, r})
		}
	}
	slices.SortStableFunc(out, func(a, b groupRoute) int { return older(a, b) })
	return out
}

// by finds objects by an index, the oldest first.
func by[T metav1.Object](informer cache.SharedIndexInformer, index, key string) []T {
	found, err := informer.GetIndexer().ByIndex(index, key)
	if err != nil {
		return nil
	}
	out := make([]T, 0, len(found))
	for _, obj := range found {
		if o, ok := obj.(T); ok {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b T) int { return older(a, b) })
	return out
}

// older orders objects by their age, and those of one age by their names.
func older(a, b metav1.Object) int {
	return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
		cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

// get finds one object; nil when there is none.
func get[T any](informer cache.SharedIndexInformer, namespace, name string) *T {
	obj, exists, err := informer.GetStore().GetByKey(namespace + "/" + name)
	if err != nil || !exists {
		return nil
	}
	found, _ := obj.(*T)
	return found
}
