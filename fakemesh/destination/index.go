// Package destination tells proxies what is behind an address: which pods are
// ready, who they must prove to be, and which ports carry opaque bytes.
package destination

import (
	"context"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
	"meshsim.dev/meshsim/fakemesh/ports"
)

// Settings are the mesh-wide ones.
type Settings struct {
	Mesh        meshid.Mesh
	OpaquePorts ports.Set // where neither Service nor pod says otherwise
}

// Index knows the cluster's Services, EndpointSlices and pods, and tells
// subscribers when what they asked for may have changed.
type Index struct {
	settings Settings
	log      *slog.Logger
	services cache.SharedIndexInformer
	slices   cache.SharedIndexInformer
	pods     cache.SharedIndexInformer
	servers  cache.SharedIndexInformer // of the policy API: they may say that a port is opaque
	hub      *hub.Hub
}

// Names of the caches' indexes.
const (
	byIP      = "ip"
	byService = "service"
)

// NewIndex makes an Index of the cluster behind client; Run fills it.
func NewIndex(client *kubeapi.Client, settings Settings, log *slog.Logger) (*Index, error) {
	return newIndex(client.Services(), client.EndpointSlices(), client.Pods(), client.Servers(), settings, log)
}

func newIndex(services, slices, pods, servers cache.SharedIndexInformer, settings Settings, log *slog.Logger) (*Index, error) {
	x := &Index{settings: settings, log: log, services: services, slices: slices, pods: pods, servers: servers, hub: hub.New()}
	steps := []error{
		services.AddIndexers(cache.Indexers{byIP: kubeapi.ServiceIPs}),
		slices.AddIndexers(cache.Indexers{byService: sliceService}),
		pods.SetTransform(slimPod),
		pods.AddIndexers(cache.Indexers{byIP: podIPs}),
		servers.AddIndexers(cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}),
	}
	for _, err := range steps {
		if err != nil {
			return nil, fmt.Errorf("set up the caches: %w", err)
		}
	}
	for informer, keys := range map[cache.SharedIndexInformer]func(any) []string{
		services: serviceKeys, slices: sliceKeys, pods: podKeys, servers: serverKeys,
	} {
		if _, err := informer.AddEventHandler(x.hub.Handler(keys)); err != nil {
			return nil, fmt.Errorf("watch the caches: %w", err)
		}
	}
	return x, nil
}

// Run fills the caches and keeps them so until ctx ends.
func (x *Index) Run(ctx context.Context) {
	for _, informer := range []cache.SharedIndexInformer{x.services, x.slices, x.servers} {
		go informer.RunWithContext(ctx)
	}
	x.pods.RunWithContext(ctx)
}

// Synced waits until the caches hold the whole cluster.
func (x *Index) Synced(ctx context.Context) error {
	if !cache.WaitForCacheSync(ctx.Done(), x.HasSynced) {
		return fmt.Errorf("read the cluster's Services and pods: %w", ctx.Err())
	}
	return nil
}

// HasSynced says whether the caches hold the whole cluster.
func (x *Index) HasSynced() bool {
	return x.services.HasSynced() && x.slices.HasSynced() && x.pods.HasSynced() && x.servers.HasSynced()
}

func ipKey(ip string) string                   { return "ip/" + ip }
func serversKey(namespace string) string       { return "servers/" + namespace }
func serviceKey(namespace, name string) string { return "service/" + namespace + "/" + name }

func serviceKeys(obj any) []string {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return nil
	}
	keys := []string{serviceKey(svc.Namespace, svc.Name)}
	for _, ip := range svc.Spec.ClusterIPs {
		keys = append(keys, ipKey(ip))
	}
	return keys
}

func sliceService(obj any) ([]string, error) {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, nil
	}
	return []string{serviceKey(slice.Namespace, slice.Labels[discoveryv1.LabelServiceName])}, nil
}

func sliceKeys(obj any) []string {
	keys, _ := sliceService(obj)
	return keys
}

func podIPs(obj any) ([]string, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.HostNetwork || pod.Status.PodIP == "" {
		return nil, nil
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil, nil // its address may belong to another by now
	}
	return []string{pod.Status.PodIP}, nil
}

func podKeys(obj any) []string {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil
	}
	keys := []string{podKey(pod.Namespace, pod.Name)}
	if pod.Status.PodIP != "" {
		keys = append(keys, ipKey(pod.Status.PodIP))
	}
	return keys
}

func serverKeys(obj any) []string {
	srv, ok := obj.(*kinds.Server)
	if !ok {
		return nil
	}
	return []string{serversKey(srv.Namespace)}
}

func podKey(namespace, name string) string { return "pod/" + namespace + "/" + name }

// slimPod drops what nobody here reads, which is most of a pod.
func slimPod(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Pod{ObjectMeta: pod.ObjectMeta}
	slim.ManagedFields = nil
	slim.Spec.HostNetwork = pod.Spec.HostNetwork
	slim.Spec.ServiceAccountName = pod.Spec.ServiceAccountName
	slim.Spec.NodeName = pod.Spec.NodeName
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		slim.Spec.Containers = append(slim.Spec.Containers, corev1.Container{Name: c.Name, Ports: c.Ports})
	}
	slim.Status.PodIP = pod.Status.PodIP
	slim.Status.Phase = pod.Status.Phase
	return slim, nil
}
