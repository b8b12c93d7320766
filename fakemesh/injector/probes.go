package injector

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshsim.dev/meshsim/fakemesh/policy"
)

// probesOf lists what the kubelet asks a pod by httpGet. Other kinds of probe
// carry nothing by which a proxy could know them.
func probesOf(pod *corev1.Pod) string {
	var found []string
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		for _, p := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe, c.StartupProbe} {
			if p == nil || p.HTTPGet == nil {
				continue
			}
			port := portNumber(c, p.HTTPGet.Port)
			if port == 0 || strings.Contains(p.HTTPGet.Path, ",") {
				continue
			}
			path := p.HTTPGet.Path
			if !strings.HasPrefix(path, "/") {
				path = "/" + path
			}
			found = append(found, policy.Probe{Port: port, Path: path}.String())
		}
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), ",")
}

func portNumber(c *corev1.Container, port intstr.IntOrString) uint16 {
	n := port.IntValue()
	if port.Type == intstr.String {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				n = int(p.ContainerPort)
			}
		}
	}
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}
