package destination

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
	"meshsim.dev/meshsim/fakemesh/ports"
)

// lookup says what is behind an address now, and the keys whose change may
// change the answer.
func (x *Index) lookup(addr netip.AddrPort) (*meshapi.Destinations, hub.Keys) {
	ip := addr.Addr().String()
	keys := hub.Keys{}
	keys.Add(ipKey(ip))
	if svc := x.serviceAt(ip); svc != nil {
		if port := kubeapi.ServicePort(svc, addr.Port()); port != nil {
			return x.service(svc, port, keys), keys
		}
	}
	if pod := x.podAt(ip); pod != nil {
		e := x.endpoint(pod, ip, addr.Port(), keys)
		return &meshapi.Destinations{
			Kind: meshapi.Destinations_POD, Namespace: pod.Namespace,
			Opaque: e.Opaque, Endpoints: []*meshapi.Endpoint{e},
		}, keys
	}
	return &meshapi.Destinations{Opaque: x.settings.OpaquePorts.Has(addr.Port())}, keys
}

func (x *Index) serviceAt(ip string) *corev1.Service {
	found, err := x.services.GetIndexer().ByIndex(byIP, ip)
	if err != nil || len(found) == 0 {
		return nil
	}
	svc, _ := found[0].(*corev1.Service)
	return svc
}

func (x *Index) podAt(ip string) *corev1.Pod {
	found, err := x.pods.GetIndexer().ByIndex(byIP, ip)
	if err != nil {
		return nil
	}
	var newest *corev1.Pod
	for _, obj := range found {
		pod, ok := obj.(*corev1.Pod)
		if ok && (newest == nil || newest.CreationTimestamp.Before(&pod.CreationTimestamp)) {
			newest = pod
		}
	}
	return newest
}

func (x *Index) service(svc *corev1.Service, port *corev1.ServicePort, keys hub.Keys) *meshapi.Destinations {
	key := serviceKey(svc.Namespace, svc.Name)
	keys.Add(key)
	out := &meshapi.Destinations{
		Kind: meshapi.Destinations_SERVICE, Namespace: svc.Namespace, Service: svc.Name,
		Opaque: opaque(svc.Annotations, uint16(port.Port), x.settings.OpaquePorts),
	}
	found, err := x.slices.GetIndexer().ByIndex(byService, key)
	if err != nil {
		return out
	}
	seen := map[string]struct{}{}
	for _, obj := range found {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok || slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		target := slicePort(slice, port.Name)
		if target == 0 {
			continue
		}
		for i := range slice.Endpoints {
			e := x.ready(slice, &slice.Endpoints[i], target, keys)
			if e == nil {
				continue
			}
			if _, twice := seen[e.Ip]; !twice {
				seen[e.Ip] = struct{}{}
				out.Endpoints = append(out.Endpoints, e)
			}
		}
	}
	slices.SortFunc(out.Endpoints, func(a, b *meshapi.Endpoint) int { return cmp.Compare(a.Ip, b.Ip) })
	return out
}

func slicePort(slice *discoveryv1.EndpointSlice, name string) uint16 {
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) {
			return uint16(*p.Port)
		}
	}
	return 0
}

// ready is the endpoint when it takes traffic now, else nil.
func (x *Index) ready(slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, port uint16, keys hub.Keys) *meshapi.Endpoint {
	if len(e.Addresses) == 0 || e.Conditions.Ready != nil && !*e.Conditions.Ready {
		return nil
	}
	ip := e.Addresses[0]
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
		return &meshapi.Endpoint{Ip: ip, Port: uint32(port)}
	}
	name := podKey(slice.Namespace, e.TargetRef.Name)
	keys.Add(name)
	obj, exists, err := x.pods.GetStore().GetByKey(slice.Namespace + "/" + e.TargetRef.Name)
	if err != nil || !exists {
		// The two watches are not in step. Who this pod is will be known in a
		// moment; sending to it in the clear meanwhile would be a leak.
		return nil
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.UID != e.TargetRef.UID && e.TargetRef.UID != "" {
		return nil
	}
	out := x.endpoint(pod, ip, port, keys)
	if e.Zone != nil {
		out.Zone = *e.Zone
	}
	return out
}

func (x *Index) endpoint(pod *corev1.Pod, ip string, port uint16, keys hub.Keys) *meshapi.Endpoint {
	e := &meshapi.Endpoint{
		Ip: ip, Port: uint32(port), Pod: pod.Name, Namespace: pod.Namespace,
		ServiceAccount: pod.Spec.ServiceAccountName,
		Opaque:         x.opaque(pod, port, keys),
	}
	e.OwnerKind, e.OwnerName = kubeapi.OwnerLabel(pod)
	if meshed(pod) && !skipped(pod, port) {
		id := meshid.ID{ServiceAccount: pod.Spec.ServiceAccountName, Namespace: pod.Namespace}
		e.Identity = id.Name(x.settings.Mesh)
	}
	return e
}

// meshed goes by what the pod consists of, not by whether its proxy is ready
// at this moment: an endpoint is ready only when every container of it is, and
// the two facts come by different watches.
func meshed(pod *corev1.Pod) bool {
	return pod.Labels[contract.LabelControlPlaneNS] != "" &&
		slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == contract.ContainerProxy })
}

// skipped goes by the annotation alone, as in Linkerd: the proxy's own port 4191 is
// not redirected either, but the proxy that listens there ends mutual TLS itself.
func skipped(pod *corev1.Pod, port uint16) bool {
	set, err := ports.Parse(pod.Annotations[contract.AnnotationSkipInbound])
	return err == nil && set.Has(port)
}

// opaque says whether a pod's proxy looks at no bytes of a port: a Server that
// selects it has the last word, as it has there.
func (x *Index) opaque(pod *corev1.Pod, port uint16, keys hub.Keys) bool {
	keys.Add(serversKey(pod.Namespace))
	if found, err := x.servers.GetIndexer().ByIndex(cache.NamespaceIndex, pod.Namespace); err == nil {
		for _, obj := range found {
			if srv, ok := obj.(*kinds.Server); ok && slices.Contains(kinds.SelectedPorts(srv, pod), port) {
				return srv.Spec.ProxyProtocol == kinds.ProtocolOpaque
			}
		}
	}
	return opaque(pod.Annotations, port, x.settings.OpaquePorts)
}

func opaque(annotations map[string]string, port uint16, fallback ports.Set) bool {
	text, own := annotations[contract.AnnotationOpaquePorts]
	if !own {
		return fallback.Has(port)
	}
	set, err := ports.Parse(text)
	if err != nil {
		return fallback.Has(port)
	}
	return set.Has(port)
}
