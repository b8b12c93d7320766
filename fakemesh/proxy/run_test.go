package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/fakemesh/contract"
	"meshsim.dev/meshsim/fakemesh/identity"
	"meshsim.dev/meshsim/fakemesh/meshapi"
)

func TestAProxyIsReadyOnceItHasAnIdentityAndLiveBefore(t *testing.T) {
	cp := startControlPlane(t)
	cp.open.Store(false)
	var told atomic.Int32
	w := startWhole(t, cp, application(t, hello), netip.AddrPort{}, func(c *Config) { c.OnReady = func(context.Context) { told.Add(1) } })
	require.Eventually(t, func() bool {
		status, _ := w.admin(http.MethodGet, "/live")
		return status == http.StatusOK
	}, 5*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "no new certificate") }, 5*time.Second, 10*time.Millisecond)
	require.False(t, w.ready())
	require.Zero(t, told.Load())
	cp.open.Store(true)
	w.awaitReady()
	require.Eventually(t, func() bool { return told.Load() == 1 }, 5*time.Second, time.Millisecond)
}

func TestAProxyStaysReadyWhenItsCertificateHasExpired(t *testing.T) {
	cp := startControlPlaneWith(t, identity.Validity{Lifetime: 3 * time.Second})
	w := startWhole(t, cp, application(t, hello), netip.AddrPort{}, nil)
	w.awaitReady()
	cp.open.Store(false)
	expired := func() bool {
		_, text := w.admin(http.MethodGet, "/metrics")
		_, rest, ok := strings.Cut(text, "\nidentity_cert_expiration_timestamp_seconds ")
		line, _, _ := strings.Cut(rest, "\n")
		at, err := strconv.ParseFloat(line, 64)
		return ok && err == nil && time.Now().After(time.Unix(int64(at), 0))
	}
	require.Eventually(t, expired, time.Minute, 50*time.Millisecond)
	require.True(t, w.ready())
	res, err := http.Get("http://" + w.c.InboundListen + "/")
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode, "calls in the clear go on")
}

func TestOnSIGTERMRequestsEndAndNothingNewIsTaken(t *testing.T) {
	cp := startControlPlane(t)
	entered, release := make(chan struct{}, 3), make(chan struct{})
	app := application(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "done")
	})
	w := startWhole(t, cp, app, netip.AddrPort{}, nil)
	w.awaitReady()
	var wg sync.WaitGroup
	bodies := make(chan string, 2)
	ask := func(isHTTP2 bool) {
		tr := &http.Transport{Protocols: &http.Protocols{}}
		tr.Protocols.SetHTTP1(!isHTTP2)
		tr.Protocols.SetUnencryptedHTTP2(isHTTP2)
		defer tr.CloseIdleConnections()
		res, err := (&http.Client{Transport: tr}).Get("http://" + w.c.InboundListen + "/")
		if err != nil {
			bodies <- err.Error()
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		bodies <- fmt.Sprint(string(body), err)
	}
	for _, isHTTP2 := range []bool{false, true} {
		wg.Go(func() { ask(isHTTP2) })
		<-entered
		// What began before the clients were told to come back elsewhere has
		// its time as well.
		status, _ := w.admin(http.MethodPost, "/drain")
		require.Equal(t, http.StatusOK, status)
	}
	w.end()
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp4", w.c.InboundListen)
		if err == nil {
			c.Close()
		}
		return err != nil
	}, 5*time.Second, 5*time.Millisecond, "connections are still taken")
	status, _ := w.admin(http.MethodGet, "/live")
	require.Equal(t, http.StatusOK, status, "it lives while it drains")
	close(release)
	wg.Wait()
	require.Equal(t, "done<nil>", <-bodies)
	require.Equal(t, "done<nil>", <-bodies)
	w.over()
	require.NotContains(t, w.log.String(), "were cut")
}

func TestTheGracePeriodIsTheLongestThatAnythingIsWaitedFor(t *testing.T) {
	cp := startControlPlane(t)
	entered := make(chan struct{}, 1)
	app := application(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})
	w := startWhole(t, cp, app, netip.AddrPort{}, func(c *Config) { c.GracePeriod = 200 * time.Millisecond })
	w.awaitReady()
	failed := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + w.c.InboundListen + "/")
		if err == nil {
			res.Body.Close()
		}
		failed <- err
	}()
	<-entered
	w.end()
	w.over()
	require.Error(t, <-failed)
	require.Contains(t, w.log.String(), "were cut")
}

func TestAnUpgradedConnectionEndsByItselfDuringAShutdown(t *testing.T) {
	cp := startControlPlane(t)
	w := startWhole(t, cp, application(t, echoUpgrade), netip.AddrPort{}, nil)
	w.awaitReady()
	c, err := net.Dial("tcp4", w.c.InboundListen)
	require.NoError(t, err)
	defer c.Close()
	r := upgrade(t, c)
	w.end()
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "shutting down") }, 5*time.Second, 5*time.Millisecond)
	time.Sleep(100 * time.Millisecond)
	for _, word := range []string{"still\n", "here\n"} {
		_, err := io.WriteString(c, word)
		require.NoError(t, err)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, word, line)
	}
	c.Close()
	w.over()
	require.NotContains(t, w.log.String(), "were cut")
}

// echoUpgrade switches to a protocol that says everything again.
func echoUpgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "echo" {
		http.Error(w, "no upgrade", http.StatusBadRequest)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_ = rw.Flush()
	_, _ = io.Copy(c, rw)
}

// upgrade asks for it, and gives what is to be read from then on.
func upgrade(t *testing.T, c net.Conn) *bufio.Reader {
	t.Helper()
	_, err := io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n")
	require.NoError(t, err)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	require.Equal(t, "echo", res.Header.Get("Upgrade"))
	return r
}

func TestAJobCanEndItsProxy(t *testing.T) {
	w := startWhole(t, startControlPlane(t), application(t, hello), netip.AddrPort{}, nil)
	w.awaitReady()
	status, _ := w.admin(http.MethodGet, "/shutdown")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	require.True(t, w.ready())
	status, _ = w.admin(http.MethodPost, "/shutdown")
	require.Equal(t, http.StatusOK, status)
	w.over()
}

func TestHealthAndMetricsAreAnsweredInAFloodOfConnections(t *testing.T) {
	w := startWhole(t, startControlPlane(t), application(t, hello), netip.AddrPort{}, nil)
	w.awaitReady()
	for range 3 * maxAdmin {
		c, err := net.Dial("tcp4", w.c.AdminListen)
		require.NoError(t, err)
		defer c.Close()
		_, _ = io.WriteString(c, "GET /metrics HT")
	}
	require.True(t, w.ready())
	status, text := w.admin(http.MethodGet, "/metrics")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "proxy_build_info")
}

func TestAProxyShowsEveryMetricOfTheContract(t *testing.T) {
	cp := startControlPlane(t)
	app := application(t, hello)
	vip := netip.MustParseAddrPort("10.96.0.1:80")
	cp.answers[vip.String()] = &meshapi.Destinations{Kind: meshapi.Destinations_SERVICE, Namespace: "prod-app", Service: "web", Endpoints: []*meshapi.Endpoint{{
		Ip: app.Addr().String(), Port: uint32(app.Port()), Pod: "web-1", Namespace: "prod-app", ServiceAccount: "web", OwnerKind: "deployment", OwnerName: "web",
	}}}
	w := startWhole(t, cp, app, vip, nil)
	w.awaitReady()
	for _, addr := range []string{w.c.InboundListen, w.c.OutboundListen} {
		res, err := http.Get("http://" + addr + "/")
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, http.StatusOK, res.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()
	for _, want := range [][]string{
		{"request_total", `direction="inbound"`, `authority="` + w.c.InboundListen + `"`, `srv_kind="default"`, `srv_name="all-unauthenticated"`, `route_name="default"`, `tls="no_identity"`, `no_tls_reason="loopback"`},
		{"request_total", `direction="outbound"`, `dst_namespace="prod-app"`, `dst_service="web"`, `dst_deployment="web"`, `no_tls_reason="not_provided_by_service_discovery"`},
		{"response_total", `direction="inbound"`, `status_code="200"`, `classification="success"`},
		{"response_latency_ms_bucket", `direction="outbound"`, `status_code="200"`, `le="50000"`},
		{"response_latency_ms_count", `direction="inbound"`}, {"response_latency_ms_sum", `direction="inbound"`},
		{"inbound_http_authz_allow_total", `authz_name="all-unauthenticated"`, `target_port="` + strconv.Itoa(int(app.Port())) + `"`},
		{"outbound_http_balancer_endpoints", `backend_name="web"`, `parent_port="80"`, `endpoint_state="ready"`},
		{"outbound_http_balancer_endpoints", `endpoint_state="pending"`},
		{"tcp_open_total", `direction="inbound"`, `peer="src"`, `no_tls_reason="loopback"`},
		{"tcp_open_total", `direction="inbound"`, `peer="dst"`, `target_addr="` + app.String() + `"`},
		{"tcp_open_total", `direction="outbound"`, `peer="src"`, `target_addr="10.96.0.1:80"`, `no_tls_reason="loopback"`},
		{"tcp_open_total", `direction="outbound"`, `peer="dst"`, `dst_deployment="web"`},
		{"tcp_open_connections", `peer="dst"`}, {"tcp_read_bytes_total", `peer="src"`}, {"tcp_write_bytes_total", `peer="dst"`},
		{"tcp_close_total", `direction="inbound"`, `peer="src"`},
		{"control_request_total", `addr="` + cp.identity + `"`, `server_id="` + identityOf("linkerd-identity") + `"`},
		{"control_response_total", `addr="` + cp.identity + `"`, `classification="success"`, `grpc_status="0"`},
		{"control_response_latency_ms_count", `addr="` + cp.identity + `"`},
		{"control_request_total", `addr="` + cp.dst + `"`, `server_id="` + identityOf("linkerd-destination") + `"`},
		{"identity_cert_refresh_count"}, {"identity_cert_expiration_timestamp_seconds"}, {"process_start_time_seconds"},
		{"proxy_build_info", `vendor="fakemesh"`, `version="` + contract.Version + `"`},
	} {
		// A client has its answer before the proxy has counted it.
		require.Eventuallyf(t, func() bool {
			_, text := w.admin(http.MethodGet, "/metrics")
			return shows(text, want)
		}, 5*time.Second, 10*time.Millisecond, "no line of %v", want)
	}
}

// shows says whether a text of metrics has a series of that name and labels.
func shows(text string, want []string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		name, labels, _ := strings.Cut(strings.TrimRight(strings.Split(line, " ")[0], "}"), "{")
		have := "," + labels + ","
		if name == want[0] && !slices.ContainsFunc(want[1:], func(l string) bool { return !strings.Contains(have, ","+l+",") }) {
			return true
		}
	}
	return false
}

func TestNoSecretStandsInLogOrMetrics(t *testing.T) {
	cp := startControlPlane(t)
	w := startWhole(t, cp, application(t, hello), netip.AddrPort{}, nil)
	w.awaitReady()
	res, err := http.Get("http://" + w.c.InboundListen + "/")
	require.NoError(t, err)
	res.Body.Close()
	_, text := w.admin(http.MethodGet, "/metrics")
	w.end()
	w.over()
	log := w.log.String()
	require.Contains(t, log, "certificate obtained")
	for _, secret := range []string{aToken, "PRIVATE KEY", "BEGIN", "Bearer"} {
		require.NotContains(t, log, secret)
		require.NotContains(t, text, secret)
	}
}

func TestLimitsFollowTheMemoryThatThereIs(t *testing.T) {
	unlimited := limitsFor(1 << 62)
	require.Equal(t, limits{connections: maxConnections, fresh: maxConnections / 2, requests: maxRequests}, unlimited)
	small := limitsFor(225 << 20)
	require.Less(t, small.connections, 1000)
	require.Less(t, small.requests, small.connections)
	worst := int64(2*small.connections*connectionBytes + 2*small.requests*requestBytes)
	require.LessOrEqual(t, worst, int64(225<<20)*2/3)
	require.Equal(t, limits{connections: minLimit, fresh: minLimit / 2, requests: minLimit * 3 / 4}, limitsFor(1<<20))
}
