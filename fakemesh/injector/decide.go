package injector

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/fakemesh/contract"
)

// decide says whether a pod gets a proxy, and if not, why. The pod's own word
// counts for more than its namespace's.
func decide(pod *corev1.Pod, namespace map[string]string) (inject bool, reason string) {
	own, outer := pod.Annotations[contract.AnnotationInject], namespace[contract.AnnotationInject]
	for _, x := range [][2]string{{"namespace", outer}, {"pod", own}} {
		if !slices.Contains([]string{"", contract.InjectEnabled, contract.InjectDisabled, contract.InjectIngress}, x[1]) {
			return false, fmt.Sprintf("the %s's annotation %s has the unknown value %q", x[0], contract.AnnotationInject, x[1])
		}
	}
	switch {
	case own == contract.InjectDisabled:
		return false, fmt.Sprintf("%s: %s on the pod", contract.AnnotationInject, own)
	case own == "" && outer == contract.InjectDisabled:
		return false, fmt.Sprintf("%s: %s on the namespace", contract.AnnotationInject, outer)
	case own == "" && outer == "":
		return false, fmt.Sprintf("neither the pod nor its namespace has the annotation %s: %s", contract.AnnotationInject, contract.InjectEnabled)
	}
	if pod.Spec.HostNetwork {
		return false, "the pod uses the host's network (hostNetwork is enabled)"
	}
	isMesh := func(c corev1.Container) bool {
		return c.Name == contract.ContainerProxy || c.Name == contract.ContainerInit
	}
	if slices.ContainsFunc(pod.Spec.Containers, isMesh) || slices.ContainsFunc(pod.Spec.InitContainers, isMesh) {
		return false, "the pod has a proxy already"
	}
	return true, ""
}
