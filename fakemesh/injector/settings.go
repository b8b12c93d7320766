package injector

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/ports"
)

// podSettings are the defaults with a pod's and its namespace's overrides.
type podSettings struct {
	policy          string
	opaque          string
	skipInbound     string
	skipOutbound    string
	await           bool
	ingress         bool
	grace           string
	waitBeforeExit  int
	logLevel        string
	inboundConnect  string
	outboundConnect string
	resources       corev1.ResourceRequirements
}

// overrides reads annotations, the pod's before its namespace's. As in Linkerd,
// a value that says nothing sensible is told of in the log and the default
// stays: the pod runs otherwise than its annotation says, and a rehearsal is to
// find that out here.
type overrides struct {
	pod, namespace map[string]string
	ignored        []string
}

func (o *overrides) find(key string) (value string, ok bool) {
	if v, ok := o.pod[key]; ok {
		return v, true
	}
	v, ok := o.namespace[key]
	return v, ok
}

// get is the override when check likes it, else the fallback.
func (o *overrides) get(key, fallback string, check func(string) error) string {
	v, ok := o.find(key)
	if !ok {
		return fallback
	}
	if err := check(v); err != nil {
		o.ignored = append(o.ignored, fmt.Sprintf("annotation %s: %v", key, err))
		return fallback
	}
	return v
}

// settingsFor reads the overrides; ignored are those that make no sense.
func settingsFor(c *Config, pod, namespace map[string]string) (s podSettings, ignored []string) {
	o := &overrides{pod: pod, namespace: namespace}
	inject, _ := o.find(contract.AnnotationInject)
	s = podSettings{
		ingress:         inject == contract.InjectIngress,
		policy:          o.get(contract.AnnotationDefaultPolicy, c.Proxy.DefaultInboundPolicy, isPolicy),
		opaque:          o.get(contract.AnnotationOpaquePorts, c.Proxy.OpaquePorts, isPorts),
		grace:           o.get(contract.AnnotationGracePeriod, c.Proxy.ShutdownGracePeriod, isDuration),
		inboundConnect:  o.get(contract.AnnotationInboundConnect, c.Proxy.InboundConnectTimeout, isDuration),
		outboundConnect: o.get(contract.AnnotationOutboundConnect, c.Proxy.OutboundConnectTimeout, isDuration),
		// These three go to who reads them as they are: redirection is not set
		// with ports that make no sense, and the pod does not start.
		skipInbound:  o.get(contract.AnnotationSkipInbound, c.ProxyInit.IgnoreInboundPorts, asItIs),
		skipOutbound: o.get(contract.AnnotationSkipOutbound, c.ProxyInit.IgnoreOutboundPorts, asItIs),
		logLevel:     o.get(contract.AnnotationLogLevel, c.Proxy.LogLevel, asItIs),
	}
	await := contract.InjectDisabled
	if c.Proxy.Await {
		await = contract.InjectEnabled
	}
	s.await = o.get(contract.AnnotationProxyAwait, await, isSwitch) == contract.InjectEnabled
	// A number is what it was checked to be.
	s.waitBeforeExit, _ = strconv.Atoi(o.get(contract.AnnotationAlphaWaitSeconds, strconv.Itoa(c.Proxy.WaitBeforeExitSeconds), isSeconds))
	s.readResources(o, c)
	return s, o.ignored
}

func (s *podSettings) readResources(o *overrides, c *Config) {
	s.resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for _, r := range []struct {
		key, fallback string
		into          corev1.ResourceList
		name          corev1.ResourceName
	}{
		{contract.AnnotationCPURequest, c.Proxy.Resources.CPU.Request, s.resources.Requests, corev1.ResourceCPU},
		{contract.AnnotationCPULimit, c.Proxy.Resources.CPU.Limit, s.resources.Limits, corev1.ResourceCPU},
		{contract.AnnotationMemoryRequest, c.Proxy.Resources.Memory.Request, s.resources.Requests, corev1.ResourceMemory},
		{contract.AnnotationMemoryLimit, c.Proxy.Resources.Memory.Limit, s.resources.Limits, corev1.ResourceMemory},
	} {
		if q, err := resource.ParseQuantity(o.get(r.key, r.fallback, isQuantity)); err == nil {
			r.into[r.name] = q
		}
	}
}

func asItIs(string) error { return nil }

func isPolicy(v string) error {
	_, err := policy.ParseDefault(v)
	return err
}

func isPorts(v string) error {
	_, err := ports.Parse(v)
	return err
}

func isDuration(v string) error {
	if d, err := time.ParseDuration(v); err != nil || d < 0 {
		return fmt.Errorf("%q is no duration", v)
	}
	return nil
}

func isSwitch(v string) error {
	if v != contract.InjectEnabled && v != contract.InjectDisabled {
		return fmt.Errorf("%q is neither enabled nor disabled", v)
	}
	return nil
}

func isSeconds(v string) error {
	if n, err := strconv.Atoi(v); err != nil || n < 0 {
		return fmt.Errorf("%q is no number of seconds", v)
	}
	return nil
}

func isQuantity(v string) error {
	if _, err := resource.ParseQuantity(v); err != nil {
		return fmt.Errorf("%q is no quantity", v)
	}
	return nil
}
