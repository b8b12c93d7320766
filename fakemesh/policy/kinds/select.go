package kinds

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// SelectedPorts are the ports of a pod that a Server selects.
func SelectedPorts(srv *Server, pod *corev1.Pod) []uint16 {
	if !Selects(srv.Spec.PodSelector, pod.Labels) {
		return nil
	}
	var ports []uint16
	add := func(n int32) {
		if n > 0 && n <= 65535 && !slices.Contains(ports, uint16(n)) {
			ports = append(ports, uint16(n))
		}
	}
	if srv.Spec.Port.Type == intstr.Int {
		add(srv.Spec.Port.IntVal)
		return ports
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == srv.Spec.Port.StrVal && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				add(p.ContainerPort)
			}
		}
	}
	return ports
}

// Selects says whether a selector takes labels; the empty one takes all, none
// takes nothing.
func Selects(selector *metav1.LabelSelector, set map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(set))
}
