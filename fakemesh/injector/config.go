// Package injector adds the proxy to pods when they are created.
package injector

import (
	"errors"
	"fmt"

	"sigs.k8s.io/yaml"
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

// check refuses amounts that are no quantity: left out, they would leave every
// proxy without the limit that was meant. where is the values' key.
func (r ResourcePair) check(where string) error {
	var errs []error
	for _, a := range []struct{ key, text string }{
		{"cpu.request", r.CPU.Request}, {"cpu.limit", r.CPU.Limit},
		{"memory.request", r.Memory.Request}, {"memory.limit", r.Memory.Limit},
	} {
		if a.text == "" {
			continue
		}
		if err := isQuantity(a.text); err != nil {
			errs = append(errs, fmt.Errorf("%s.%s: %w", where, a.key, err))
		}
	}
	return errors.Join(errs...)
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
	if err := errors.Join(c.Proxy.Resources.check("proxy.resources"), c.ProxyInit.Resources.check("proxyInit.resources")); err != nil {
		return nil, fmt.Errorf("read the mesh's values: %w", err)
	}
	if c.IdentityTrustDomain == "" {
		c.IdentityTrustDomain = c.ClusterDomain
	}
	return c, nil
}
