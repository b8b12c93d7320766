package injector

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/proxy/process"
)

func ptr[T any](v T) *T { return &v }

func (i Image) ref() string { return i.Repository + ":" + i.Tag }

func (i Image) policy() corev1.PullPolicy {
	if i.PullPolicy == "" {
		return corev1.PullIfNotPresent
	}
	return corev1.PullPolicy(i.PullPolicy)
}

// initContainer sets the redirection. Root because only root gets what
// capabilities.add gives; everything else is taken away.
func initContainer(in input, s podSettings) corev1.Container {
	args := []string{
		"init",
		"--incoming-proxy-port=" + strconv.Itoa(contract.PortInbound),
		"--outgoing-proxy-port=" + strconv.Itoa(contract.PortOutbound),
		"--proxy-uid=" + strconv.Itoa(contract.ProxyUID),
		fmt.Sprintf("--inbound-ports-to-ignore=%s", join(fmt.Sprintf("%d,%d", contract.PortControl, contract.PortAdmin), s.skipInbound)),
	}
	if s.skipOutbound != "" {
		args = append(args, "--outbound-ports-to-ignore="+s.skipOutbound)
	}
	return corev1.Container{
		Name: contract.ContainerInit, Image: in.config.Image.ref(), ImagePullPolicy: in.config.Image.policy(),
		Args:      args,
		Resources: fixed(in.config.ProxyInit.Resources),
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr(false), Privileged: ptr(false), ReadOnlyRootFilesystem: ptr(true),
			RunAsNonRoot: ptr(false), RunAsUser: ptr(int64(0)),
			Capabilities: &corev1.Capabilities{
				Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"},
			},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts:             []corev1.VolumeMount{{Name: contract.VolumeXtables, MountPath: "/run"}},
	}
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "," + b
}

// fixed reads amounts of a Config; one that is not there is left out.
func fixed(r ResourcePair) corev1.ResourceRequirements {
	out := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for _, a := range []struct {
		text string
		into corev1.ResourceList
		name corev1.ResourceName
	}{
		{r.CPU.Request, out.Requests, corev1.ResourceCPU}, {r.CPU.Limit, out.Limits, corev1.ResourceCPU},
		{r.Memory.Request, out.Requests, corev1.ResourceMemory}, {r.Memory.Limit, out.Limits, corev1.ResourceMemory},
	} {
		if q, err := resource.ParseQuantity(a.text); err == nil {
			a.into[a.name] = q
		}
	}
	return out
}

func proxyContainer(in input, s podSettings) corev1.Container {
	c := corev1.Container{
		Name: contract.ContainerProxy, Image: in.config.Image.ref(), ImagePullPolicy: in.config.Image.policy(),
		Args: []string{"proxy"},
		Env:  proxyEnv(in, s),
		Ports: []corev1.ContainerPort{
			{Name: contract.PortNameProxy, ContainerPort: contract.PortInbound},
			{Name: contract.PortNameAdmin, ContainerPort: contract.PortAdmin},
		},
		LivenessProbe:  httpProbe("/live", 10, 1),
		ReadinessProbe: httpProbe("/ready", in.config.Proxy.ReadinessInitialDelaySecond, 1),
		Resources:      s.resources,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr(false), ReadOnlyRootFilesystem: ptr(true),
			RunAsNonRoot: ptr(true), RunAsUser: ptr(int64(contract.ProxyUID)), RunAsGroup: ptr(int64(contract.ProxyUID)),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		VolumeMounts: []corev1.VolumeMount{
			{Name: contract.VolumeEndEntity, MountPath: contract.MountEndEntity},
			{Name: contract.VolumeToken, MountPath: contract.MountToken},
		},
	}
	c.Lifecycle = lifecycle(s)
	return c
}

func httpProbe(path string, delay, timeout int32) *corev1.Probe {
	return &corev1.Probe{
		InitialDelaySeconds: delay, TimeoutSeconds: timeout,
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromInt32(contract.PortAdmin),
		}},
	}
}

func lifecycle(s podSettings) *corev1.Lifecycle {
	exec := func(args ...string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: append([]string{"/fakemesh"}, args...)}}
	}
	var l corev1.Lifecycle
	if s.await {
		l.PostStart = exec("await", "--timeout=2m", "--port="+strconv.Itoa(contract.PortAdmin))
	}
	if s.waitBeforeExit > 0 {
		l.PreStop = exec("sleep", strconv.Itoa(s.waitBeforeExit))
	}
	if l.PostStart == nil && l.PreStop == nil {
		return nil
	}
	return &l
}

func proxyEnv(in input, s podSettings) []corev1.EnvVar {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	domain, trust := in.config.ClusterDomain, in.config.IdentityTrustDomain
	host := func(service string) string {
		return service + "." + in.mesh + ".svc." + domain
	}
	mesh := meshid.Mesh{Namespace: in.mesh, TrustDomain: trust}
	identity := func(account string) string {
		return meshid.ID{ServiceAccount: account, Namespace: in.mesh}.Name(mesh)
	}
	env := []corev1.EnvVar{
		field(contract.EnvPodName, "metadata.name"),
		field(contract.EnvPodNamespace, "metadata.namespace"),
		field(contract.EnvPodIP, "status.podIP"),
		field(contract.EnvPodSA, "spec.serviceAccountName"),
		field(contract.EnvPodNode, "spec.nodeName"),
		{Name: contract.EnvLog, Value: s.logLevel},
		{Name: contract.EnvIdentityAddr, Value: host("linkerd-identity-headless") + ":8080"},
		{Name: contract.EnvIdentityName, Value: identity("linkerd-identity")},
		{Name: contract.EnvDestinationAddr, Value: host("linkerd-dst-headless") + ":8086"},
		{Name: contract.EnvDestinationName, Value: identity("linkerd-destination")},
		{Name: contract.EnvPolicyAddr, Value: host("linkerd-policy") + ":8090"},
		{Name: contract.EnvPolicyName, Value: identity("linkerd-destination")},
		{Name: contract.EnvTrustAnchors, Value: in.anchors},
		{Name: contract.EnvTrustDomain, Value: trust},
		{Name: contract.EnvLocalName, Value: meshid.ID{ServiceAccount: "$(" + contract.EnvPodSA + ")", Namespace: "$(" + contract.EnvPodNamespace + ")"}.Name(mesh)},
		{Name: contract.EnvTokenFile, Value: contract.TokenFile},
		{Name: contract.EnvDefaultPolicy, Value: s.policy},
		{Name: contract.EnvClusterNetworks, Value: in.config.ClusterNetworks},
		{Name: contract.EnvOpaquePorts, Value: s.opaque},
		{Name: contract.EnvProbes, Value: probesOf(in.pod)},
		{Name: contract.EnvGracePeriod, Value: s.grace},
		{Name: contract.EnvInboundConnTimeout, Value: s.inboundConnect},
		{Name: contract.EnvOutboundConnTimeout, Value: s.outboundConnect},
	}
	env = append(env, corev1.EnvVar{Name: "GODEBUG", Value: process.GoDebug})
	if s.ingress {
		env = append(env, corev1.EnvVar{Name: contract.EnvIngress, Value: "true"})
	}
	if cores := in.config.Proxy.Cores; cores > 0 {
		env = append(env, corev1.EnvVar{Name: contract.EnvCores, Value: strconv.Itoa(cores)})
	}
	if limit, ok := s.resources.Limits[corev1.ResourceMemory]; ok {
		// The garbage collector works harder before the limit is met.
		env = append(env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit.Value()*9/10, 10)})
	}
	return env
}
