package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/fakemesh/hub"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy/convert"
	"meshsim.dev/meshsim/fakemesh/policy/kinds"
)

func missing(kind, namespace, name string) error {
	return fmt.Errorf("there is no %s %s in namespace %s", kind, name, namespace)
}

// outbound makes the routes of an address for a client of a namespace, and the
// keys whose change may change them. Routes of the Service's own namespace
// count for everybody, others for their own namespace's clients.
func (x *Index) outbound(addr netip.AddrPort, namespace string) (*meshapi.OutboundRules, hub.Keys) {
	keys := hub.Keys{}
	keys.Add(ipKey(addr.Addr().String()))
	found, err := x.Services.GetIndexer().ByIndex(byIP, addr.Addr().String())
	if err != nil || len(found) == 0 {
		return &meshapi.OutboundRules{}, keys
	}
	svc, ok := found[0].(*corev1.Service)
	if !ok || kubeapi.ServicePort(svc, addr.Port()) == nil {
		return &meshapi.OutboundRules{}, keys
	}
	keys.Add(routesKey(svc.Namespace, svc.Name))
	out := &meshapi.OutboundRules{Parent: service(svc.Namespace, svc.Name, uint32(addr.Port()))}
	for _, r := range x.routesBy(byService, svc.Namespace+"/"+svc.Name) {
		if r.Namespace != svc.Namespace && r.Namespace != namespace {
			continue
		}
		if !slices.ContainsFunc(r.Spec.ParentRefs, func(p kinds.ParentRef) bool { return meant(p, r.Namespace, svc, addr.Port()) }) {
			continue
		}
		made, err := convert.Outbound(r.gv.Group, r.HTTPRoute, func(ref kinds.BackendRef) *meshapi.Backend {
			return x.backend(r.Namespace, ref, keys)
		})
		if err != nil {
			x.log.Warn("an HTTPRoute is ignored", "route", r.Namespace+"/"+r.Name, "error", err)
			continue
		}
		out.Routes = append(out.Routes, made)
	}
	return out, keys
}

func service(namespace, name string, port uint32) *meshapi.Resource {
	return &meshapi.Resource{Group: kinds.CoreGroup, Kind: "Service", Namespace: namespace, Name: name, Port: port}
}

// meant says whether a parent of a route of namespace is the Service's port.
func meant(p kinds.ParentRef, namespace string, svc *corev1.Service, port uint16) bool {
	return p.Is(kinds.CoreGroup, "Service") && p.Name == svc.Name && p.In(namespace) == svc.Namespace &&
		(p.Port == nil || *p.Port == int32(port))
}

// backend finds where a backend of a route of namespace is, or says why it is
// nowhere.
func (x *Index) backend(namespace string, ref kinds.BackendRef, keys hub.Keys) *meshapi.Backend {
	svc, failure := x.backendService(namespace, ref, keys)
	if failure != "" {
		return &meshapi.Backend{Resource: &meshapi.Resource{Kind: "default", Name: "invalid"}, Failure: failure}
	}
	return &meshapi.Backend{
		Resource: service(svc.Namespace, svc.Name, uint32(*ref.Port)),
		Address:  svc.Spec.ClusterIP + ":" + strconv.Itoa(int(*ref.Port)),
	}
}

func (x *Index) backendService(namespace string, ref kinds.BackendRef, keys hub.Keys) (svc *corev1.Service, failure string) {
	if !ref.IsService() {
		kind := kinds.Ref{Name: ref.Name}
		if ref.Group != nil {
			kind.Group = *ref.Group
		}
		if ref.Kind != nil {
			kind.Kind = *ref.Kind
		}
		return nil, fmt.Sprintf("unsupported backend kind %s", kind)
	}
	if ref.Port == nil || *ref.Port < 1 || *ref.Port > 65535 {
		return nil, "missing port for backend Service " + ref.Name
	}
	namespace = ref.In(namespace)
	keys.Add(serviceKey(namespace, ref.Name))
	svc = get[corev1.Service](x.Services, namespace, ref.Name)
	switch {
	case svc == nil:
		return nil, "Service not found " + ref.Name
	case kubeapi.ServicePort(svc, uint16(*ref.Port)) == nil:
		return nil, fmt.Sprintf("Service %s has no port %d", ref.Name, *ref.Port)
	case !hasIP(svc):
		return nil, fmt.Sprintf("Service %s has no cluster IP", ref.Name)
	}
	return svc, ""
}

// hasIP says whether a Service has an address of its own.
func hasIP(svc *corev1.Service) bool {
	ips, _ := kubeapi.ServiceIPs(svc)
	return len(ips) > 0
}
