package injector

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/fakemesh/contract"
)

// decide says whether a pod gets a proxy, and if not, why.
func decide(pod *corev1.Pod, namespace map[string]string) (inject bool, reason string) {
	value, where := pod.Annotations[contract.AnnotationInject], "pod"
	if value == "" {
		value, where = namespace[contract.AnnotationInject], "namespace"
	}
	switch value {
	case contract.InjectEnabled, contract.InjectIngress:
	case "", contract.InjectDisabled:
		if value == "" {
			return false, fmt.Sprintf("neither the pod nor its namespace has the annotation %s: %s", contract.AnnotationInject, contract.InjectEnabled)
		}
		return false, fmt.Sprintf("%s: %s on the %s", contract.AnnotationInject, value, where)
	default:
		return false, fmt.Sprintf("the %s's annotation %s has the unknown value %q", where, contract.AnnotationInject, value)
	}
	if pod.Spec.HostNetwork {
		return false, "the pod uses the host's network (hostNetwork)"
	}
	isMesh := func(c corev1.Container) bool {
		return c.Name == contract.ContainerProxy || c.Name == contract.ContainerInit
	}
	if slices.ContainsFunc(pod.Spec.Containers, isMesh) || slices.ContainsFunc(pod.Spec.InitContainers, isMesh) {
		return false, "the pod has a proxy already"
	}
	return true, ""
}
