package kubeapi

import (
	corev1 "k8s.io/api/core/v1"
)

// ServiceIPs is a cache's index of Services by their cluster addresses.
func ServiceIPs(obj any) ([]string, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok || svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil, nil
	}
	return svc.Spec.ClusterIPs, nil
}

// ServicePort finds a Service's TCP port; nil when it has none of that number.
func ServicePort(svc *corev1.Service, port uint16) *corev1.ServicePort {
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.Port == int32(port) && (p.Protocol == corev1.ProtocolTCP || p.Protocol == "") {
			return p
		}
	}
	return nil
}
