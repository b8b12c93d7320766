package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/meshtest"
	"meshsim.dev/meshsim/fakemesh/meshtls"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/proxy/serve"
	"meshsim.dev/meshsim/fakemesh/proxy/tcp"
)

// own serves what the proxy says of itself; what it gives asks for a path from an
// address, by mutual TLS when there are credentials, and is 0 without an answer.
func (p *pod) own() (ask func(from, path string, as *meshtls.Credentials) int) {
	server := serve.New(serve.Options{Handler: p.in.Guard(http.HandlerFunc(answerIn)).ServeHTTP})
	l := listenOn(p.w.t, p.ip)
	var from atomic.Value
	acc := &tcp.Acceptor{Max: 100, Shed: func(int) {}, Handle: func(_ context.Context, c net.Conn) {
		addr, _ := from.Load().(netip.Addr)
		p.in.ServeOwn(remoteConn{c, addr}, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), 4191), server)
	}}
	go func() { _ = acc.Serve(context.Background(), l) }()
	p.w.t.Cleanup(func() {
		l.Close()
		acc.CloseAll()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx)
	})
	return func(addr, path string, as *meshtls.Credentials) int {
		from.Store(netip.MustParseAddr(addr))
		scheme, tr := "http", &http.Transport{DisableKeepAlives: true}
		if as != nil {
			scheme, tr.TLSClientConfig = "https", as.Client(identityOf(p.name))
		}
		res, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Get(scheme + "://" + l.Addr().String() + path)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
}

func TestTheProxysOwnServerObeysThePolicyToo(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, policy: policy.Deny, probes: []policy.Probe{{Port: 4191, Path: "/ready"}}})
	ask := p.own()
	prometheus := w.ca.Credentials(t, identityOf("prometheus"))
	require.Equal(t, http.StatusForbidden, ask("10.1.0.9", "/metrics", nil), "monitoring goes blind (P8)")
	require.Equal(t, http.StatusForbidden, ask("10.1.0.9", "/metrics", prometheus))
	require.Equal(t, http.StatusOK, ask("10.1.0.9", "/ready", nil))
	require.Equal(t, http.StatusOK, ask("127.0.0.1", "/metrics", nil))
	require.Equal(t, map[string]float64{
		"4191 no_identity no_tls_from_remote  default deny":        1,
		"4191 true  " + identityOf("prometheus") + " default deny": 1,
	}, series(t, p.metrics, "inbound_http_authz_deny_total", "target_port", "tls", "no_tls_reason", "client_id", "srv_kind", "srv_name"))

	p.letInto4191(&meshapi.Authorization{Unauthenticated: true, Networks: []*meshapi.Network{{Cidr: "10.1.0.0/16"}}})
	require.Equal(t, http.StatusOK, ask("10.1.0.9", "/metrics", nil))
	require.Equal(t, http.StatusForbidden, ask("10.2.0.9", "/metrics", nil))
}

// letInto4191 puts a Server on the proxy's own port.
func (p *pod) letInto4191(who *meshapi.Authorization) {
	rules := policy.Defaults{Policy: policy.Deny}.Rules()
	rules.Ports[4191] = &meshapi.PortRules{
		Server: &meshapi.Resource{Group: "policy.linkerd.io", Kind: "server", Name: "scrapes"}, Routes: anyRequest(),
		Authorizations: []*meshapi.Authorization{who},
	}
	in, err := policy.Compile(rules)
	require.NoError(p.w.t, err)
	p.in.SetPolicy(in)
}

func TestAMeshedPrometheusIsLetInByItsIdentity(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, policy: policy.Deny})
	ask := p.own()
	p.letInto4191(&meshapi.Authorization{Identities: []string{identityOf("prometheus")}, Networks: policy.Networks(policy.Everywhere())})
	require.Equal(t, http.StatusOK, ask("10.1.0.9", "/metrics", w.ca.Credentials(t, identityOf("prometheus"))))
	require.Equal(t, http.StatusForbidden, ask("10.1.0.9", "/metrics", w.ca.Credentials(t, identityOf("web"))))
	require.Equal(t, http.StatusForbidden, ask("10.1.0.9", "/metrics", nil))
	require.Zero(t, ask("10.1.0.9", "/metrics", meshtest.Root(t, "another").Credentials(t, identityOf("prometheus"))), "of another mesh")
}

func TestAProxyMakesItsCallToTheAdminPortOfAnotherByMutualTLS(t *testing.T) {
	cp := startControlPlane(t)
	other := startWhole(t, cp, application(t, hello), netip.AddrPort{}, nil)
	other.awaitReady()
	admin := netip.MustParseAddrPort(other.c.AdminListen)
	w := newWorld(t)
	w.ca = cp.root
	s := w.sidecar("prometheus")
	w.directory(admin).set(&meshapi.Destinations{Kind: meshapi.Destinations_POD, Namespace: "prod-app", Endpoints: []*meshapi.Endpoint{{
		Ip: admin.Addr().String(), Port: uint32(admin.Port()), Identity: identityOf("web"), Pod: "web-1", Namespace: "prod-app", ServiceAccount: "web",
	}}})
	for _, isHTTP2 := range []bool{false, true} {
		tr := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, admin) },
			Protocols:   &http.Protocols{},
		}
		tr.Protocols.SetHTTP1(!isHTTP2)
		tr.Protocols.SetUnencryptedHTTP2(isHTTP2)
		res, err := (&http.Client{Transport: tr}).Get("http://" + admin.String() + "/metrics")
		require.NoError(t, err)
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		tr.CloseIdleConnections()
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Regexp(t, `inbound_http_authz_allow_total\{.*tls="true",client_id="`+identityOf("prometheus")+`"`, string(text))
	}
}
