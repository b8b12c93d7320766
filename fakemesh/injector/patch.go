package injector

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/kubeapi"
)

// op is one operation of a JSON patch.
type op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// input is all that a patch depends on.
type input struct {
	config    *Config
	anchors   string // PEM
	pod       *corev1.Pod
	namespace string
	mesh      string            // namespace of the control plane
	inherited map[string]string // the namespace's annotations
	owner     kubeapi.Owner
}

// patch makes the operations that add the proxy to a pod. ignored are its
// annotations that make no sense.
func patch(in input) (ops []op, ignored []string) {
	s, ignored := settingsFor(in.config, in.pod.Annotations, in.inherited)
	ops = append(ops, mapOps("/metadata/labels", in.pod.Labels, labels(in))...)
	ops = append(ops, mapOps("/metadata/annotations", in.pod.Annotations, annotations(in, s))...)
	ops = append(ops, listOps("/spec/volumes", len(in.pod.Spec.Volumes), volumes()...)...)
	ops = append(ops, listOps("/spec/initContainers", len(in.pod.Spec.InitContainers), initContainer(in, s))...)
	proxy := proxyContainer(in, s)
	if s.await {
		// The kubelet starts containers in order and waits for each postStart.
		return append(ops, op{"add", "/spec/containers/0", proxy}), ignored
	}
	return append(ops, op{"add", "/spec/containers/-", proxy}), ignored
}

func mapOps(path string, have, add map[string]string) []op {
	var ops []op
	if have == nil {
		ops = append(ops, op{"add", path, map[string]string{}})
	}
	for _, key := range slices.Sorted(maps.Keys(add)) {
		escaped := strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
		ops = append(ops, op{"add", path + "/" + escaped, add[key]})
	}
	return ops
}

func listOps[T any](path string, have int, add ...T) []op {
	var ops []op
	if have == 0 {
		ops = append(ops, op{"add", path, []T{}})
	}
	for _, v := range add {
		ops = append(ops, op{"add", path + "/-", v})
	}
	return ops
}

func labels(in input) map[string]string {
	out := map[string]string{
		contract.LabelControlPlaneNS: in.mesh,
		contract.LabelWorkloadNS:     in.namespace,
	}
	if slices.Contains(labelledOwners, in.owner.Kind) {
		// A label's value holds 63 characters, an owner's name may be longer.
		out[contract.LabelProxyOwnerPrefix+strings.ToLower(in.owner.Kind)] = strings.TrimRight(in.owner.Name[:min(len(in.owner.Name), 63)], "-._")
	}
	return out
}

// labelledOwners are the kinds of owner that a label names.
var labelledOwners = []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet", "ReplicationController"}

func annotations(in input, s podSettings) map[string]string {
	out := map[string]string{
		contract.AnnotationCreatedBy:    "linkerd/proxy-injector " + contract.Version,
		contract.AnnotationProxyVersion: contract.Version,
		contract.AnnotationTrustRoot:    fmt.Sprintf("%x", sha256.Sum256([]byte(in.anchors))),
	}
	// The pod keeps what its namespace said when it was made; the destination
	// service reads it there.
	for key, value := range in.inherited {
		if !strings.HasPrefix(key, "config.linkerd.io/") && !strings.HasPrefix(key, "config.alpha.linkerd.io/") {
			continue
		}
		if _, own := in.pod.Annotations[key]; !own {
			out[key] = value
		}
	}
	if _, own := in.pod.Annotations[contract.AnnotationSkipInbound]; !own && s.skipInbound != "" {
		out[contract.AnnotationSkipInbound] = s.skipInbound
	}
	if opaque := opaqueOfPod(in.config, in.pod, in.inherited); opaque != "" {
		out[contract.AnnotationOpaquePorts] = opaque
	}
	return out
}

func volumes() []corev1.Volume {
	expiration := int64(contract.TokenExpiration)
	return []corev1.Volume{
		{Name: contract.VolumeXtables, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: contract.VolumeEndEntity, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
		{Name: contract.VolumeToken, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: contract.TokenAudience, ExpirationSeconds: &expiration, Path: contract.TokenFileName,
			}}},
		}}},
	}
}
