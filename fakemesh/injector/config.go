// Package injector adds the proxy to pods when they are created.
package injector

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/ports"
)

// Config is what the chart says of proxies: the part of the ConfigMap
// linkerd-config, key values, that the injector uses.
type Config struct {
	ClusterDomain       string `json:"clusterDomain"`
	IdentityTrustDomain string `json:"identityTrustDomain"`
	ClusterNetworks     string `json:"clusterNetworks"`
	Image               Image  `json:"image"`
	Proxy               Proxy  `json:"proxy"`
	ProxyInit           struct {
		IptablesMode        string       `json:"iptablesMode"`
		IgnoreInboundPorts  string       `json:"ignoreInboundPorts"`
		IgnoreOutboundPorts string       `json:"ignoreOutboundPorts"`
		Resources           ResourcePair `json:"resources"`
	} `json:"proxyInit"`
}

// Image is where the stand-in's one program comes from.
type Image struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	PullPolicy string `json:"pullPolicy"`
}

// Proxy are the defaults that annotations override.
type Proxy struct {
	Await                       bool         `json:"await"`
	DefaultInboundPolicy        string       `json:"defaultInboundPolicy"`
	LogLevel                    string       `json:"logLevel"`
	OpaquePorts                 string       `json:"opaquePorts"`
	WaitBeforeExitSeconds       int          `json:"waitBeforeExitSeconds"`
	ShutdownGracePeriod         string       `json:"shutdownGracePeriod"`
	InboundConnectTimeout       string       `json:"inboundConnectTimeout"`
	OutboundConnectTimeout      string       `json:"outboundConnectTimeout"`
	Cores                       int          `json:"cores"` // 0 is as many as the node has
	Resources                   ResourcePair `json:"resources"`
	ReadinessInitialDelaySecond int32        `json:"readinessInitialDelaySeconds"`
}

// ResourcePair are requests and limits as Linkerd's chart writes them; "" is none.
type ResourcePair struct {
	CPU    ResourceAmount `json:"cpu"`
	Memory ResourceAmount `json:"memory"`
}

// ResourceAmount is a request and a limit.
type ResourceAmount struct {
	Request string `json:"request"`
	Limit   string `json:"limit"`
}

// ParseConfig reads the values of linkerd-config. Keys of other parts of the
// chart are passed over.
func ParseConfig(text []byte) (*Config, error) {
	c := &Config{}
	if err := yaml.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("read the mesh's values: %w", err)
	}
	if c.Image.Repository == "" || c.ClusterDomain == "" {
		return nil, fmt.Errorf("the mesh's values name no image or no cluster domain")
	}
	if c.IdentityTrustDomain == "" {
		c.IdentityTrustDomain = c.ClusterDomain
	}
	return c, nil
}

// podSettings are the defaults with a pod's and its namespace's overrides.
type podSettings struct {
	policy         string
	opaque         string
	skipInbound    string
	skipOutbound   string
	await          bool
	grace          string
	waitBeforeExit int
	logLevel       string
	resources      corev1.ResourceRequirements
}

// settingsFor reads the overrides. Those on the pod win over the namespace's.
// A value that says nothing sensible is an error: a pod that runs otherwise
// than its annotation says is worse than one that does not start.
func settingsFor(c *Config, pod, namespace map[string]string) (podSettings, error) {
	get := func(key, fallback string) string {
		if v, ok := pod[key]; ok {
			return v
		}
		if v, ok := namespace[key]; ok {
			return v
		}
		return fallback
	}
	s := podSettings{
		policy:       get(contract.AnnotationDefaultPolicy, c.Proxy.DefaultInboundPolicy),
		opaque:       get(contract.AnnotationOpaquePorts, c.Proxy.OpaquePorts),
		skipInbound:  get(contract.AnnotationSkipInbound, c.ProxyInit.IgnoreInboundPorts),
		skipOutbound: get(contract.AnnotationSkipOutbound, c.ProxyInit.IgnoreOutboundPorts),
		grace:        get(contract.AnnotationGracePeriod, c.Proxy.ShutdownGracePeriod),
		logLevel:     get(contract.AnnotationLogLevel, c.Proxy.LogLevel),
	}
	if _, err := policy.ParseDefault(s.policy); err != nil {
		return s, fmt.Errorf("annotation %s: %w", contract.AnnotationDefaultPolicy, err)
	}
	for key, text := range map[string]string{
		contract.AnnotationOpaquePorts: s.opaque,
		contract.AnnotationSkipInbound: s.skipInbound, contract.AnnotationSkipOutbound: s.skipOutbound,
	} {
		if _, err := ports.Parse(text); err != nil {
			return s, fmt.Errorf("annotation %s: %w", key, err)
		}
	}
	if d, err := time.ParseDuration(s.grace); err != nil || d < 0 {
		return s, fmt.Errorf("annotation %s: %q is no duration", contract.AnnotationGracePeriod, s.grace)
	}
	if err := s.readAwait(get, c); err != nil {
		return s, err
	}
	return s, s.readResources(get, c)
}

func (s *podSettings) readAwait(get func(key, fallback string) string, c *Config) error {
	fallback := contract.InjectDisabled
	if c.Proxy.Await {
		fallback = contract.InjectEnabled
	}
	await := get(contract.AnnotationProxyAwait, fallback)
	if !slices.Contains([]string{contract.InjectEnabled, contract.InjectDisabled}, await) {
		return fmt.Errorf("annotation %s: %q is neither enabled nor disabled", contract.AnnotationProxyAwait, await)
	}
	s.await = await == contract.InjectEnabled
	wait := get(contract.AnnotationAlphaWaitSeconds, strconv.Itoa(c.Proxy.WaitBeforeExitSeconds))
	n, err := strconv.Atoi(wait)
	if err != nil || n < 0 {
		return fmt.Errorf("annotation %s: %q is no number of seconds", contract.AnnotationAlphaWaitSeconds, wait)
	}
	s.waitBeforeExit = n
	return nil
}

func (s *podSettings) readResources(get func(key, fallback string) string, c *Config) error {
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
		text := get(r.key, r.fallback)
		if text == "" {
			continue
		}
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return fmt.Errorf("annotation %s: %q is no quantity", r.key, text)
		}
		r.into[r.name] = q
	}
	return nil
}
