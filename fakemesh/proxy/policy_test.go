package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"meshsim.dev/meshsim/fakemesh/meshapi"
	"meshsim.dev/meshsim/fakemesh/policy"
	"meshsim.dev/meshsim/fakemesh/ports"
	"meshsim.dev/meshsim/fakemesh/proxy/metrics"
	"meshsim.dev/meshsim/fakemesh/proxy/outbound"
)

// outside is a client that comes from nowhere near.
var outside = netip.MustParseAddr("172.20.0.9")

// obey has a pod go by a Server on its application's port.
func (p *pod) obey(rules *meshapi.PortRules) {
	p.w.t.Helper()
	rules.Server = &meshapi.Resource{Group: "policy.linkerd.io", Kind: "server", Name: "web"}
	all := policy.Defaults{Policy: policy.AllUnauthenticated}.Rules()
	all.Ports[uint32(p.app.Port())] = rules
	in, err := policy.Compile(all)
	require.NoError(p.w.t, err)
	p.in.SetPolicy(in)
}

// lets is an AuthorizationPolicy for clients by their names; "*" is any.
func lets(name string, clients ...string) *meshapi.Authorization {
	a := &meshapi.Authorization{
		Resource: &meshapi.Resource{Group: "policy.linkerd.io", Kind: "authorizationpolicy", Name: name},
		Networks: policy.Networks(policy.Everywhere()),
	}
	for _, c := range clients {
		if c != "*" {
			c = identityOf(c)
		}
		a.Identities = append(a.Identities, c)
	}
	return a
}

func anyRequest() []*meshapi.Route { return policy.Defaults{}.Routes(0) }

// series writes the wanted labels of each series of a counter with its value.
func series(t *testing.T, r *metrics.Registry, name string, labels ...string) map[string]float64 {
	t.Helper()
	all, err := r.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			values := map[string]string{}
			for _, l := range m.Label {
				values[l.GetName()] = l.GetValue()
			}
			var parts []string
			for _, l := range labels {
				parts = append(parts, values[l])
			}
			out[strings.Join(parts, " ")] += m.GetCounter().GetValue()
		}
	}
	return out
}

func answerIn(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "in "+r.URL.Path) }

// get asks with a new connection.
func get(t *testing.T, c *http.Client, url string) *http.Response {
	t.Helper()
	res, err := c.Get(url)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

func TestAServerDeniesAllWhomNothingLetsIn(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, remote: outside, serve: web(http.HandlerFunc(answerIn)), probes: []policy.Probe{{Path: "/healthz"}}})
	vip, _ := w.service("10.96.0.1:80", p)
	c := httpClient(t, w.sidecar("client"), vip, false)
	require.Equal(t, http.StatusOK, get(t, c, "http://x/").StatusCode, "the default lets in everybody")
	p.obey(&meshapi.PortRules{Routes: anyRequest()})
	require.Equal(t, http.StatusForbidden, get(t, c, "http://x/").StatusCode, "the same connection, judged anew")
	p.obey(&meshapi.PortRules{Routes: anyRequest(), Authorizations: []*meshapi.Authorization{lets("shop", "client")}})
	require.Equal(t, http.StatusOK, get(t, c, "http://x/").StatusCode)
	require.Equal(t, http.StatusForbidden, get(t, httpClient(t, w.sidecar("other"), vip, false), "http://x/").StatusCode)

	labels := []string{"srv_group", "srv_kind", "srv_name", "route_kind", "route_name", "authz_kind", "authz_name"}
	require.Equal(t, map[string]float64{
		" default all-unauthenticated default default default all-unauthenticated": 1,
		"policy.linkerd.io server web default default authorizationpolicy shop":    1,
	}, series(t, p.metrics, "inbound_http_authz_allow_total", labels...))
	require.Equal(t, map[string]float64{"policy.linkerd.io server web default default  ": 2},
		series(t, p.metrics, "inbound_http_authz_deny_total", labels...))
	require.Equal(t, map[string]float64{"policy.linkerd.io server web default default authorizationpolicy shop 200": 1},
		keep(series(t, p.metrics, "response_total", append(labels, "status_code")...), "shop"))
}

func keep(m map[string]float64, part string) map[string]float64 {
	for k := range m {
		if !strings.Contains(k, part) {
			delete(m, k)
		}
	}
	return m
}

func route(name string, m *meshapi.Match, authz ...*meshapi.Authorization) *meshapi.Route {
	return &meshapi.Route{
		Resource: &meshapi.Resource{Group: "policy.linkerd.io", Kind: "HTTPRoute", Namespace: "prod-app", Name: name}, Authorizations: authz,
		Rules: []*meshapi.Rule{{Matches: []*meshapi.Match{m}}},
	}
}

func TestRoutesOfAServerLetInTheirOwn(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, remote: outside, serve: web(http.HandlerFunc(answerIn)), probes: []policy.Probe{{Path: "/healthz"}}})
	vip, _ := w.service("10.96.0.1:80", p)
	c := httpClient(t, w.sidecar("client"), vip, true)
	require.Equal(t, http.StatusOK, get(t, c, "http://x/healthz").StatusCode)
	p.obey(&meshapi.PortRules{Routes: []*meshapi.Route{
		route("read", &meshapi.Match{Path: &meshapi.PathMatch{Value: "/orders"}, Method: "GET"}, lets("readers", "client")),
		route("write", &meshapi.Match{Path: &meshapi.PathMatch{Value: "/orders"}}, lets("writers", "other")),
	}})
	require.Equal(t, http.StatusOK, get(t, c, "http://x/orders/1").StatusCode)
	res, err := c.Post("http://x/orders/1", "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusForbidden, res.StatusCode)
	require.Equal(t, http.StatusNotFound, get(t, c, "http://x/healthz").StatusCode, "a route takes the probe's place (P4)")
	require.Equal(t, map[string]float64{"server web": 1}, series(t, p.metrics, "inbound_http_route_not_found_total", "srv_kind", "srv_name"))
	require.Equal(t, map[string]float64{"HTTPRoute write": 1}, series(t, p.metrics, "inbound_http_authz_deny_total", "route_kind", "route_name"))
	require.Equal(t, float64(1), series(t, p.metrics, "inbound_http_authz_allow_total", "route_name", "authz_name")["read readers"])
}

func TestRequestsWithoutARouteAreNotFoundInGRPCToo(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, remote: outside, serve: web(http.HandlerFunc(answerIn))})
	p.obey(&meshapi.PortRules{Routes: []*meshapi.Route{route("x", &meshapi.Match{Path: &meshapi.PathMatch{Value: "/x"}})}})
	req, err := http.NewRequest(http.MethodPost, "http://"+p.front().String()+"/shop.v1.Orders/Place", nil)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, "200 5", res.Status[:3]+" "+res.Header.Get("Grpc-Status"))
}

func TestFiltersOfAServersRoutesChangeRequestsAndRedirect(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("web", podSpec{meshed: true, serve: web(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Tenant")+r.Header.Get("X-Secret"))
	}))})
	changed := route("a", &meshapi.Match{Path: &meshapi.PathMatch{Value: "/a"}})
	changed.Rules[0].Filters = &meshapi.Filters{Request: &meshapi.HeaderChange{Set: []*meshapi.Header{{Name: "x-tenant", Value: "shop"}}, Remove: []string{"x-secret"}}}
	moved := route("b", &meshapi.Match{Path: &meshapi.PathMatch{Value: "/b"}})
	moved.Rules[0].Filters = &meshapi.Filters{Redirect: &meshapi.Redirect{Path: "/c", ReplacePrefix: true, Status: 301}}
	p.obey(&meshapi.PortRules{Routes: []*meshapi.Route{changed, moved}})
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, _ := http.NewRequest(http.MethodGet, "http://"+p.front().String()+"/a", nil)
	req.Header.Set("X-Secret", "s")
	res, err := c.Do(req)
	require.NoError(t, err)
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	require.Equal(t, "shop", string(body))
	res = get(t, c, "http://"+p.front().String()+"/b/1")
	require.Equal(t, http.StatusMovedPermanently, res.StatusCode)
	require.Equal(t, "http://"+p.front().String()+"/c/1", res.Header.Get("Location"))
}

// talking is a connection to a greeter that has been greeted.
type talking struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func greeted(t *testing.T, c net.Conn, err error) *talking {
	t.Helper()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	x := &talking{t, c, bufio.NewReader(c)}
	line, err := x.r.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
	return x
}

func (x *talking) says(word string) {
	x.t.Helper()
	_, err := io.WriteString(x.c, word+"\n")
	require.NoError(x.t, err)
	line, err := x.r.ReadString('\n')
	require.NoError(x.t, err)
	require.Equal(x.t, "you said "+word+"\n", line)
}

func (x *talking) isCut() {
	x.t.Helper()
	_, err := x.r.ReadByte()
	require.Error(x.t, err)
	require.NotErrorIs(x.t, err, net.ErrClosed)
}

func TestAChangeOfPolicyCutsWhomItNoLongerLetsInAndNobodyElse(t *testing.T) {
	w := newWorld(t)
	p := w.startPod("db", podSpec{meshed: true, remote: outside, serve: greeter})
	vip, d := w.service("10.96.0.1:5432")
	d.set(&meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Opaque: true, Endpoints: []*meshapi.Endpoint{{
		Ip: p.ip, Port: uint32(p.app.Port()), Identity: identityOf("db"), Opaque: true,
	}}})
	client := func(name string) *talking {
		s := w.sidecarWith(name, func(o *outbound.Options) { o.InboundPort = addrOf(p.proxyL).Port() })
		c, err := s.dial(short(t), vip)
		return greeted(t, c, err)
	}
	both := &meshapi.PortRules{Authorizations: []*meshapi.Authorization{lets("both", "orders", "stock")}}
	p.obey(both)
	orders, stock := client("orders"), client("stock")
	orders.says("a")
	stock.says("b")

	p.obey(&meshapi.PortRules{Authorizations: []*meshapi.Authorization{lets("orders", "orders")}, Protocol: meshapi.PortRules_OPAQUE})
	stock.isCut()
	orders.says("still here")
	labels := []string{"srv_kind", "srv_name", "tls", "client_id"}
	require.Equal(t, map[string]float64{"server web true " + identityOf("stock"): 1}, series(t, p.metrics, "inbound_tcp_authz_terminate_total", labels...))
	require.Equal(t, float64(2), sum(series(t, p.metrics, "inbound_tcp_authz_allow_total", "srv_name")))

	p.obey(both)
	client("stock").says("back again")
	orders.says("and again")
	require.Empty(t, series(t, p.metrics, "inbound_tcp_authz_deny_total", labels...))

	p.obey(&meshapi.PortRules{})
	orders.isCut()
	require.Equal(t, float64(3), sum(series(t, p.metrics, "inbound_tcp_authz_terminate_total", "srv_name")))
}

func sum(m map[string]float64) (total float64) {
	for _, v := range m {
		total += v
	}
	return total
}

func TestAStreamOutlivesEveryChangeOfPolicy(t *testing.T) {
	client, p, _ := pair(t, true)
	stream, err := client.FullDuplexCall(short(t))
	require.NoError(t, err)
	exchange := func() {
		t.Helper()
		require.NoError(t, stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 10}}}))
		_, err := stream.Recv()
		require.NoError(t, err)
	}
	exchange()
	for range 20 {
		p.obey(&meshapi.PortRules{Routes: anyRequest(), Authorizations: []*meshapi.Authorization{lets("a", "client")}})
		exchange()
		p.obey(&meshapi.PortRules{Protocol: meshapi.PortRules_GRPC, Routes: anyRequest(), Authorizations: []*meshapi.Authorization{lets("b", "*")}})
		exchange()
	}
	require.NoError(t, stream.CloseSend())
}

func TestAServersProtocolIsTakenForGranted(t *testing.T) {
	serve := func(t *testing.T, protocol meshapi.PortRules_Protocol, app func(net.Listener) func()) *pod {
		p := newWorld(t).startPod("db", podSpec{meshed: true, remote: outside, serve: app, opaque: ports.Set{{First: 1, Last: 65535}}})
		all := lets("all")
		all.Unauthenticated = true
		p.obey(&meshapi.PortRules{Protocol: protocol, Routes: anyRequest(), Authorizations: []*meshapi.Authorization{all}})
		return p
	}
	t.Run("opaque: the server may speak first", func(t *testing.T) {
		p := serve(t, meshapi.PortRules_OPAQUE, greeter)
		begin := time.Now()
		c, err := net.Dial("tcp4", p.front().String())
		greeted(t, c, err).says("a")
		require.Less(t, time.Since(begin), 900*time.Millisecond)
	})
	t.Run("unknown: looked at, whatever the annotation says", func(t *testing.T) {
		p := serve(t, meshapi.PortRules_DETECT, web(http.HandlerFunc(answerIn)))
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		require.Equal(t, http.StatusOK, get(t, c, "http://"+p.front().String()+"/").StatusCode)
		require.NotEmpty(t, series(t, p.metrics, "request_total", "srv_name"))
	})
	t.Run("TLS: HTTP is bytes like others", func(t *testing.T) {
		p := serve(t, meshapi.PortRules_TLS, web(http.HandlerFunc(answerIn)))
		c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		require.Equal(t, http.StatusOK, get(t, c, "http://"+p.front().String()+"/").StatusCode)
		require.Empty(t, series(t, p.metrics, "request_total", "srv_name"))
		require.Equal(t, float64(1), sum(series(t, p.metrics, "inbound_tcp_authz_allow_total", "srv_name")))
	})
	t.Run("HTTP: what is none gets an answer of HTTP", func(t *testing.T) {
		p := serve(t, meshapi.PortRules_HTTP1, web(http.HandlerFunc(answerIn)))
		c, err := net.Dial("tcp4", p.front().String())
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, "hello there\r\n\r\n")
		require.NoError(t, err)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusBadRequest, res.StatusCode)
	})
}
