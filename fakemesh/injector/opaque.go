package injector

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/ports"
)

// opaqueOfPod is the opaque-ports annotation that a pod is given: its
// namespace's, or those of the mesh's opaque ports that it declares. It is ""
// when the pod has one, or needs none.
func opaqueOfPod(c *Config, pod *corev1.Pod, namespace map[string]string) string {
	var declared []int32
	for i := range pod.Spec.Containers {
		for _, p := range pod.Spec.Containers[i].Ports {
			declared = append(declared, p.ContainerPort)
		}
	}
	return opaqueOf(c, pod.Annotations, namespace, declared, declared)
}

// opaqueOfService is the same for a Service, by the ports of the pods that its
// own ports lead to.
func opaqueOfService(c *Config, svc *corev1.Service, namespace map[string]string) string {
	var own, target []int32
	for _, p := range svc.Spec.Ports {
		own = append(own, p.Port)
		if p.TargetPort.IntVal == 0 && p.TargetPort.StrVal == "" {
			target = append(target, p.Port)
			continue
		}
		target = append(target, p.TargetPort.IntVal)
	}
	return opaqueOf(c, svc.Annotations, namespace, own, target)
}

// opaqueOf names each port whose counterpart carries opaque bytes.
func opaqueOf(c *Config, annotations, namespace map[string]string, named, counterpart []int32) string {
	if _, own := annotations[contract.AnnotationOpaquePorts]; own {
		return ""
	}
	if inherited, ok := namespace[contract.AnnotationOpaquePorts]; ok {
		return inherited
	}
	set, err := ports.Parse(c.Proxy.OpaquePorts)
	if err != nil {
		return ""
	}
	var found []string
	for i, port := range counterpart {
		if port > 0 && port <= 65535 && set.Has(uint16(port)) {
			found = append(found, strconv.Itoa(int(named[i])))
		}
	}
	return strings.Join(slices.Compact(found), ",")
}

// annotate is the patch of what gets nothing but the opaque-ports annotation;
// nil when it needs none.
func annotate(annotations map[string]string, opaque string) []op {
	if opaque == "" {
		return nil
	}
	return mapOps("/metadata/annotations", annotations, map[string]string{contract.AnnotationOpaquePorts: opaque})
}
