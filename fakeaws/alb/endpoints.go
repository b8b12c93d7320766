package alb

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// trafficPort is AWS's word for a target's own port.
const trafficPort = "traffic-port"

// checkPort is the port that targets are checked at, 0 for their own.
func checkPort(svc *corev1.Service, kind TargetType, where string) (int32, error) {
	if where == trafficPort {
		return 0, nil
	}
	if number, err := strconv.ParseUint(where, 10, 16); err == nil && number > 0 {
		return int32(number), nil // of the node itself, or of the pod
	}
	sp, err := servicePort(svc, where, 0)
	switch {
	case err != nil:
		return 0, err
	case kind == InstanceTargets && sp.NodePort == 0:
		return 0, errors.New("port " + where + " has no NodePort")
	case kind == InstanceTargets:
		return sp.NodePort, nil
	case sp.TargetPort.Type == intstr.String:
		// AWS's controller cannot either: every pod could have another
		return 0, errors.New("port " + where + " has a named targetPort, which ip targets cannot be checked at")
	case sp.TargetPort.IntVal == 0:
		return sp.Port, nil
	}
	return sp.TargetPort.IntVal, nil
}

// endpoints are what is to be registered for a port of a service, by address.
func (p *planner) endpoints(svc *corev1.Service, port corev1.ServicePort, kind TargetType, check int32) []endpoint {
	if kind == IPTargets {
		return p.podEndpoints(svc, port, check)
	}
	out := slices.Clone(p.nodes)
	for i := range out {
		out[i].Port, out[i].CheckPort = port.NodePort, check
	}
	return out
}

// podEndpoints are the service's pods that are ready, or would be if their
// targets were healthy. One that is being deleted is not, whatever its probes say.
func (p *planner) podEndpoints(svc *corev1.Service, port corev1.ServicePort, check int32) []endpoint {
	var out []endpoint
	for _, slice := range p.slices[svc.Namespace+"/"+svc.Name] {
		if slice.AddressType != discoveryv1.AddressTypeIPv4 {
			continue
		}
		number := portIn(slice, port.Name)
		for i := range slice.Endpoints {
			if e := &slice.Endpoints[i]; number != 0 && len(e.Addresses) > 0 && p.registers(svc.Namespace, e) {
				out = append(out, p.podEndpoint(e, number, check))
			}
		}
	}
	// a pod may be in two slices for a moment
	slices.SortFunc(out, func(a, b endpoint) int { return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.Port, b.Port)) })
	return slices.CompactFunc(out, func(a, b endpoint) bool { return a.IP == b.IP && a.Port == b.Port })
}

func portIn(slice *discoveryv1.EndpointSlice, name string) int32 {
	for _, p := range slice.Ports {
		if p.Port != nil && (p.Name == nil && name == "" || p.Name != nil && *p.Name == name) {
			return *p.Port
		}
	}
	return 0
}

func (p *planner) registers(namespace string, e *discoveryv1.Endpoint) bool {
	if e.Conditions.Terminating != nil && *e.Conditions.Terminating {
		return false
	}
	if e.Conditions.Ready != nil && *e.Conditions.Ready {
		return true
	}
	return p.gated != nil && e.TargetRef != nil && e.NodeName != nil && p.ready[*e.NodeName] && p.gated(namespace, e.TargetRef.Name)
}

func (p *planner) podEndpoint(e *discoveryv1.Endpoint, port, check int32) endpoint {
	out := endpoint{IP: e.Addresses[0], Port: port, CheckPort: check}
	if e.TargetRef != nil {
		out.Pod = e.TargetRef.Name
	}
	if e.NodeName != nil {
		out.Node = *e.NodeName
	}
	out.Zone = p.zones[out.Node]
	if e.Zone != nil {
		out.Zone = *e.Zone
	}
	ip, err := netip.ParseAddr(out.IP)
	switch {
	case err != nil:
		out.Unusable = err.Error()
	case p.unusable != nil:
		out.Unusable = p.unusable(ip)
	}
	return out
}

// targetNodes are the nodes fit to be targets: ready, addressed, and neither
// cordoned nor labelled as excluded from load balancers. Sorted by name.
func targetNodes(nodes []*corev1.Node) []endpoint {
	var out []endpoint
	for _, n := range nodes {
		_, excluded := n.Labels[corev1.LabelNodeExcludeBalancers]
		_, controlPlane := n.Labels["node-role.kubernetes.io/control-plane"]
		if excluded || controlPlane || n.Spec.Unschedulable || n.DeletionTimestamp != nil || !isReady(n) {
			continue
		}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				out = append(out, endpoint{Node: n.Name, IP: a.Address, Zone: n.Labels[corev1.LabelTopologyZone]})
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b endpoint) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
