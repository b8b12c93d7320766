package loopmesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy"
)

// Pod is what one proxy is told.
type Pod struct {
	Name   string     // of its service account
	IP     netip.Addr // its proxy listens there, on the ports of the contract
	Policy policy.Default
	Cores  int // that the proxy uses at a time; 0 is all
	// App is where redirected connections were going when they come in.
	App netip.AddrPort
	// Dials are where they were going when they go out, by the address that the
	// application dials from.
	Dials map[netip.Addr]netip.AddrPort
}

// redirection is a Pod's in the environment of its proxy.
type redirection struct {
	IP    netip.Addr
	App   netip.AddrPort
	Dials map[netip.Addr]netip.AddrPort
}

const envRedirection = "LOOPMESH_REDIRECTION"

// Environment is what an injector would write for the pod, and its redirection.
func (m *Mesh) Environment(p Pod) (map[string]string, error) {
	token := filepath.Join(m.o.Dir, "token-"+p.Name)
	if err := os.WriteFile(token, []byte(p.Name), 0o600); err != nil {
		return nil, fmt.Errorf("write the token of %s: %w", p.Name, err)
	}
	text, err := json.Marshal(redirection{p.IP, p.App, p.Dials})
	if err != nil {
		return nil, fmt.Errorf("write the redirection of %s: %w", p.Name, err)
	}
	return map[string]string{
		contract.EnvLog:             "warn",
		contract.EnvPodNamespace:    Namespace,
		contract.EnvPodName:         p.Name,
		contract.EnvLocalName:       IdentityOf(p.Name),
		contract.EnvTokenFile:       token,
		contract.EnvTrustAnchors:    string(m.Anchor()),
		contract.EnvTrustDomain:     trustDomain,
		contract.EnvIdentityAddr:    m.ids,
		contract.EnvIdentityName:    IdentityOf("identity"),
		contract.EnvDestinationAddr: m.dsts,
		contract.EnvDestinationName: IdentityOf("destination"),
		contract.EnvPolicyAddr:      m.rules,
		contract.EnvPolicyName:      IdentityOf("policy"),
		contract.EnvDefaultPolicy:   string(p.Policy),
		contract.EnvClusterNetworks: networks,
		contract.EnvGracePeriod:     "10s",
		// Applications share their cores with every proxy, and often the race detector.
		contract.EnvInboundConnTimeout: "1s",
		contract.EnvCores:              strconv.Itoa(p.Cores),
		envRedirection:                 string(text),
	}, nil
}

// Config reads what Environment wrote.
func Config(get func(string) string) (proxy.Config, error) {
	c, err := proxy.FromEnv(get)
	if err != nil {
		return proxy.Config{}, fmt.Errorf("read the proxy's environment: %w", err)
	}
	var r redirection
	if err := json.Unmarshal([]byte(get(envRedirection)), &r); err != nil {
		return proxy.Config{}, fmt.Errorf("read the redirection: %w", err)
	}
	p := Pod{IP: r.IP}
	c.InboundListen, c.OutboundListen, c.AdminListen = p.Inbound().String(), p.Outbound().String(), p.Admin().String()
	c.OriginalDst = r.original
	return c, nil
}

// original is what the kernel would tell of a connection that it redirected.
func (r redirection) original(c net.Conn) (netip.AddrPort, error) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, errors.New("not a TCP connection")
	}
	if local.Port == contract.PortInbound {
		return r.App, nil
	}
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, errors.New("not a TCP connection")
	}
	from := remote.AddrPort().Addr().Unmap()
	dst, ok := r.Dials[from]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%s dials nothing: want one of %v", from, slices.Collect(maps.Keys(r.Dials)))
	}
	return dst, nil
}

// Inbound is where others' connections are redirected to.
func (p Pod) Inbound() netip.AddrPort { return netip.AddrPortFrom(p.IP, contract.PortInbound) }

// Outbound is where the application's connections are redirected to.
func (p Pod) Outbound() netip.AddrPort { return netip.AddrPortFrom(p.IP, contract.PortOutbound) }

// Admin is where the proxy tells of itself.
func (p Pod) Admin() netip.AddrPort { return netip.AddrPortFrom(p.IP, contract.PortAdmin) }

// Endpoint is the pod as the destination service tells of it. Dialled there, a
// connection meets the proxy.
func (p Pod) Endpoint() *meshapi.Endpoint {
	return &meshapi.Endpoint{
		Ip: p.IP.String(), Port: contract.PortInbound, Identity: IdentityOf(p.Name),
		Pod: p.Name + "-" + p.IP.String(), Namespace: Namespace, ServiceAccount: p.Name,
		OwnerKind: "deployment", OwnerName: p.Name,
	}
}

// OpaqueEndpoint is the pod's port as one whose bytes are not looked at.
func (p Pod) OpaqueEndpoint(port uint16) *meshapi.Endpoint {
	e := p.Endpoint()
	e.Port, e.Opaque = uint32(port), true
	return e
}

// Dial is the application at from dialling what Dials has for it.
func (p Pod) Dial(ctx context.Context, from netip.Addr) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	return d.DialContext(ctx, "tcp4", p.Outbound().String())
}

// Drain does what the proxy's preStop hook does first.
func (p Pod) Drain(ctx context.Context) error { return p.call(ctx, http.MethodPost, "/drain") }

func (p Pod) get(ctx context.Context, path string) error { return p.call(ctx, http.MethodGet, path) }

func (p Pod) call(ctx context.Context, method, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.Admin().String()+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, res.Status)
	}
	return nil
}

// AwaitReady returns when the proxy of a pod has its certificate.
func (p Pod) AwaitReady(ctx context.Context) error {
	for {
		err := p.get(ctx, "/ready")
		if err == nil {
			return nil
		}
		if pause.For(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("wait for the proxy of %s: %w", p.Name, err)
		}
	}
}
