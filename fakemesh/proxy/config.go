// Package proxy is the sidecar: it puts identity, discovery, inbound and
// outbound together.
package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/ports"
	"meshsim.dev/meshsim/fakemesh/proxy/detect"
)

// Config is all that a proxy is told.
type Config struct {
	LogLevel        slog.Level
	LogUnknown      []string // parts of the log filter that say nothing
	Pod             string   // namespace/name
	PodIP           netip.Addr
	LocalName       string
	Roots           *x509.CertPool
	TokenFile       string
	IdentityAddr    string
	IdentityName    string
	DestinationAddr string
	DestinationName string
	PolicyAddr      string // "": nobody changes Policy
	PolicyName      string
	Policy          policy.Defaults
	OpaquePorts     ports.Set
	Cores           int // that it may use at a time; 0 is all
	GracePeriod     time.Duration
	InboundConnect  time.Duration
	OutboundConnect time.Duration
	DetectTimeout   time.Duration
	Ingress         bool // the pod is an ingress

	InboundListen  string
	OutboundListen string
	AdminListen    string

	// OriginalDst tells where a redirected connection was going; nil asks the
	// kernel, which knows when redirection is the init container's.
	OriginalDst func(net.Conn) (netip.AddrPort, error)
	// OnReady is called once, when the first certificate is there. It may take
	// until ctx ends, with the proxy; nil is nothing.
	OnReady func(ctx context.Context)
}

// FromEnv reads the configuration that the injector wrote. All that is wrong
// is reported together.
func FromEnv(get func(string) string) (Config, error) {
	e := &env{get: get}
	c := Config{
		LogLevel:        e.level(contract.EnvLog),
		Pod:             get(contract.EnvPodNamespace) + "/" + get(contract.EnvPodName),
		LocalName:       e.needed(contract.EnvLocalName),
		TokenFile:       e.needed(contract.EnvTokenFile),
		IdentityAddr:    e.needed(contract.EnvIdentityAddr),
		IdentityName:    e.needed(contract.EnvIdentityName),
		DestinationAddr: e.needed(contract.EnvDestinationAddr),
		DestinationName: e.needed(contract.EnvDestinationName),
		PolicyAddr:      get(contract.EnvPolicyAddr),
		PolicyName:      get(contract.EnvPolicyName),
		OpaquePorts:     e.ports(contract.EnvOpaquePorts),
		Cores:           e.count(contract.EnvCores),
		GracePeriod:     e.duration(contract.EnvGracePeriod, 120*time.Second),
		InboundConnect:  e.duration(contract.EnvInboundConnTimeout, 100*time.Millisecond),
		OutboundConnect: e.duration(contract.EnvOutboundConnTimeout, time.Second),
		DetectTimeout:   detect.Timeout,
		Ingress:         e.flag(contract.EnvIngress),
		InboundListen:   fmt.Sprintf("0.0.0.0:%d", contract.PortInbound),
		OutboundListen:  fmt.Sprintf("127.0.0.1:%d", contract.PortOutbound),
		AdminListen:     fmt.Sprintf("0.0.0.0:%d", contract.PortAdmin),
	}
	if text := get(contract.EnvPodIP); text != "" {
		ip, err := netip.ParseAddr(text)
		e.note(contract.EnvPodIP, err)
		c.PodIP = ip
	}
	roots, err := meshtls.ParseAnchors([]byte(get(contract.EnvTrustAnchors)))
	e.note(contract.EnvTrustAnchors, err)
	c.Roots = roots
	c.Policy.Policy, err = policy.ParseDefault(get(contract.EnvDefaultPolicy))
	e.note(contract.EnvDefaultPolicy, err)
	c.Policy.Networks, err = policy.ParseNetworks(get(contract.EnvClusterNetworks))
	e.note(contract.EnvClusterNetworks, err)
	c.Policy.Probes, err = policy.ParseProbes(get(contract.EnvProbes))
	e.note(contract.EnvProbes, err)
	c.Policy.Probes = append(c.Policy.Probes, policy.Probe{Port: contract.PortAdmin, Path: "/live"}, policy.Probe{Port: contract.PortAdmin, Path: "/ready"})
	c.Policy.ProbeNetworks = policy.Everywhere()
	c.LogUnknown = e.unknown
	return c, errors.Join(e.errs...)
}

type env struct {
	get  func(string) string
	errs []error

	unknown []string // see Config.LogUnknown
}

func (e *env) note(name string, err error) {
	if err != nil {
		e.errs = append(e.errs, fmt.Errorf("%s: %w", name, err))
	}
}

func (e *env) needed(name string) string {
	v := e.get(name)
	if v == "" {
		e.note(name, errors.New("is not set"))
	}
	return v
}

// count is a number of 0 or more; nothing is 0.
func (e *env) count(name string) int {
	text := e.get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	e.note(name, err)
	return int(n)
}

func (e *env) flag(name string) bool {
	text := e.get(name)
	if text == "" {
		return false
	}
	v, err := strconv.ParseBool(text)
	e.note(name, err)
	return v
}

func (e *env) duration(name string, fallback time.Duration) time.Duration {
	text := e.get(name)
	if text == "" {
		return fallback
	}
	d, err := time.ParseDuration(text)
	e.note(name, err)
	return d
}

func (e *env) ports(name string) ports.Set {
	set, err := ports.Parse(e.get(name))
	e.note(name, err)
	return set
}

// level reads a log filter of Linkerd's, see parseLevel.
func (e *env) level(name string) slog.Level {
	level, unknown := parseLevel(e.get(name))
	e.unknown = append(e.unknown, unknown...)
	return level
}

// ownModule is what the stand-in's one module is called; linkerd2_proxy is the
// other name that filters of Linkerd's have for it.
const ownModule, otherModule = "linkerd", "linkerd2_proxy"

// parseLevel reads a log filter such as "warn,linkerd=info": levels for all
// modules and for single ones, of which the later counts. The level of the
// stand-in's own module counts before the general one, wherever it stands; a
// module without a level says everything. unknown are the parts that say nothing:
// words that are no level, on their own or of the own module. The levels of
// modules that only Linkerd has are passed over.
func parseLevel(text string) (level slog.Level, unknown []string) {
	all, own, hasOwn := slog.LevelInfo, slog.LevelInfo, false
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		module, word, named := strings.Cut(item, "=")
		ours := module == ownModule || module == otherModule
		if ours && !named {
			word = "trace"
		} else if !named {
			word = module
		}
		l, known := levels[strings.ToLower(word)]
		switch {
		case item == "", named && !ours && known:
		case !known:
			unknown = append(unknown, item)
		case ours:
			own, hasOwn = l, true
		default:
			all = l
		}
	}
	if hasOwn {
		return own, unknown
	}
	return all, unknown
}

// levels are the words of a log filter.
var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo,
	"warn": slog.LevelWarn, "error": slog.LevelError, "off": slog.LevelError,
}
