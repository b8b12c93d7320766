//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"meshsim.dev/meshsim/harness/agent/call"
	"meshsim.dev/meshsim/harness/agent/sockets"
)

// proxyScenes look at what the proxies do with traffic.
func proxyScenes() []scene {
	return []scene{{
		name: "proxy",
		prepare: func(ctx context.Context, l *lab) error {
			return l.up(ctx, l.server("web", meshed, annotate(annotationOpaque, fmt.Sprint(portTCP))),
				l.client("caller", meshed), l.client("stranger"))
		},
		rows: []row{
			{
				id: "PX1", says: "HTTP/1.1 passes through mTLS with its headers untouched",
				expected: "answered; the server sees what was sent and at most l5d-* besides", check: proxyHTTP,
			},
			{
				id: "PX2", says: "gRPC passes: unary calls, streams, trailers",
				expected: "answered; a stream lives on; the trailers are there", check: proxyGRPC,
			},
			{
				id: "PX3", says: "A WebSocket is upgraded and goes on", expected: "messages come back for 2 s", check: proxyWebSocket,
			},
			{
				id: "PX4", says: "Bodies of any size pass", expected: "16 MiB arrive whole", check: proxyBodies,
			},
			{
				id: "PX5", says: "An opaque port carries mTLS and goes to the proxy's own port 4143",
				expected: "tcp_open_total{direction=inbound, tls=true}; the client's proxy is connected to 4143", check: proxyOpaque,
			},
			{
				id: "PX6", says: "The proxy listens where the contract says",
				expected: "4140 on 127.0.0.1; 4143 and 4191 on all addresses; all of UID 2102", check: proxyListens,
			},
			{
				id: "PX7", says: "The admin paths answer; /shutdown is refused from outside the pod",
				expected: "/metrics, /ready, /live 200; POST /shutdown 403 and the proxy goes on", check: proxyAdmin,
			},
			{
				id: "PX8", says: "Without an endpoint a call fails fast",
				expected: "503 or 504 within 5 s; outbound_http_errors_total{error=failfast}", check: proxyFailFast,
			},
			{
				id: "PX9", says: "skip-inbound-ports keeps the proxy out of it",
				expected: "an unmeshed client is answered even under deny; the proxy counts nothing on that port", check: proxySkipInbound,
			},
			{
				id: "PX10", says: "shutdown-grace-period cuts what has not ended when the pod does",
				expected: "a held connection lasts about 3 s of a pod that takes 20 s", check: proxyGracePeriod,
			},
			{
				id: "PX11", says: "An HTTPRoute on a Service splits its calls by weight",
				expected: "at 90:10 of 200 calls the smaller backend gets 5 to 40", check: proxySplit,
			},
		},
	}}
}

func proxyHTTP(ctx context.Context, l *lab) (string, error) {
	sent := map[string]string{"X-Order": "o-1", "Accept": "text/x-odd; q=0.5", "X-Forwarded-For": "203.0.113.7"}
	got, err := l.expect(ctx, "caller", call.Options{Target: at("http", "web", portHTTP, "/a?b=c"), Headers: sent, Show: true}, answered)
	if err != nil {
		return got.String(), err
	}
	// Go's own client adds these two.
	known := []string{"User-Agent", "Accept-Encoding"}
	var added []string
	for name := range got[0].Headers {
		if sent[name] == "" && !slices.Contains(known, name) {
			added = append(added, name)
		}
	}
	seen := fmt.Sprintf("%s; headers added: %v", got, added)
	for name, value := range sent {
		if got[0].Headers.Get(name) != value {
			return seen, fmt.Errorf("header %s arrived as %q", name, got[0].Headers.Get(name))
		}
	}
	if slices.ContainsFunc(added, func(name string) bool { return !strings.HasPrefix(strings.ToLower(name), "l5d-") }) {
		return seen, errors.New("headers of other names were added")
	}
	text, err := l.metric(ctx, "web", 1, "request_total", "direction=inbound", "tls=true", fmt.Sprintf("target_port=%d", portHTTP))
	return seen + "; " + text, err
}

func proxyGRPC(ctx context.Context, l *lab) (string, error) {
	unary, err := l.expect(ctx, "caller", call.Options{Target: at("grpc", "web", portGRPC), Show: true, Bytes: 4096}, answered)
	if err != nil {
		return unary.String(), err
	}
	if got := unary[0].Received["x-echo-name"]; len(got) != 1 || got[0] != unary[0].Server {
		return unary.String(), fmt.Errorf("the trailer x-echo-name is %q", got)
	}
	stream, err := l.call(ctx, "caller", call.Options{Target: at("grpc", "web", portGRPC), Hold: 3 * time.Second})
	if err == nil {
		err = stream.all(answered)
	}
	return fmt.Sprintf("unary: %s, with its trailer; stream: %d messages", unary, pingsOf(stream)), err
}

func pingsOf(c calls) int {
	n := 0
	for _, r := range c {
		n += r.Pings
	}
	return n
}

func proxyWebSocket(ctx context.Context, l *lab) (string, error) {
	got, err := l.expect(ctx, "caller", call.Options{Target: at("ws", "web", portHTTP, "/ws"), Hold: 2 * time.Second}, answered)
	return fmt.Sprintf("%s, %d messages came back", got, pingsOf(got)), err
}

func proxyBodies(ctx context.Context, l *lab) (string, error) {
	got, err := l.expect(ctx, "caller", call.Options{Target: at("http", "web", portHTTP, "/"), Bytes: 16 << 20, Timeout: 30 * time.Second}, answered)
	return got.String(), err
}

func proxyOpaque(ctx context.Context, l *lab) (string, error) {
	held := l.startCalls(ctx, "caller", call.Options{Target: at("tcp", "web", portTCP), Hold: 8 * time.Second})
	seen, err := l.metric(ctx, "web", 1, "tcp_open_total", "direction=inbound", "tls=true", fmt.Sprintf("target_port=%d", portTCP))
	if err == nil {
		var to string
		to, err = l.proxyConnectedTo(ctx, "caller", "web")
		seen += "; " + to
	}
	got, callErr := held.wait()
	return seen, errors.Join(err, callErr, got.all(answered))
}

// proxyConnectedTo looks among the sockets of a client's pod for its proxy's
// connection to port 4143 of a server.
func (l *lab) proxyConnectedTo(ctx context.Context, client, app string) (string, error) {
	pod, err := l.pod(ctx, app)
	if err != nil {
		return "", err
	}
	var all []sockets.Socket
	if err := l.agentJSON(ctx, &all, client, "sockets"); err != nil {
		return "", err
	}
	var ports []uint16
	for _, s := range all {
		if s.State == "established" && s.UID == 2102 && s.Remote.Addr().String() == pod.Status.PodIP {
			ports = append(ports, s.Remote.Port())
		}
	}
	seen := fmt.Sprintf("the client's proxy is connected to %s's ports %v", app, ports)
	if !slices.Contains(ports, 4143) {
		return seen, errors.New("it is not connected to 4143")
	}
	return seen, nil
}

func proxyListens(ctx context.Context, l *lab) (string, error) {
	var all []sockets.Socket
	if err := l.agentJSON(ctx, &all, "caller", "sockets"); err != nil {
		return "", err
	}
	listening := map[uint16]sockets.Socket{}
	var seen []string
	for _, s := range all {
		if s.State == "listen" {
			listening[s.Local.Port()] = s
			seen = append(seen, fmt.Sprintf("%s (UID %d)", s.Local, s.UID))
		}
	}
	text := strings.Join(seen, ", ")
	for port, loopback := range map[uint16]bool{4140: true, 4143: false, 4191: false} {
		s, ok := listening[port]
		if !ok || s.UID != 2102 || s.Local.Addr().IsLoopback() != loopback || !loopback && !s.Local.Addr().IsUnspecified() {
			return text, fmt.Errorf("port %d is listened on otherwise", port)
		}
	}
	return text, nil
}

func proxyAdmin(ctx context.Context, l *lab) (string, error) {
	pod, err := l.pod(ctx, "web")
	if err != nil {
		return "", err
	}
	admin := fmt.Sprintf("http://%s:4191", pod.Status.PodIP)
	for _, path := range []string{"/metrics", "/ready", "/live"} {
		if got, err := l.expect(ctx, "stranger", call.Options{Target: admin + path}, answered); err != nil {
			return got.String(), err
		}
	}
	got, err := l.call(ctx, "stranger", call.Options{Target: admin + "/shutdown", Method: http.MethodPost})
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("/metrics, /ready, /live 200; POST /shutdown %d", got[0].Status)
	if got[0].Status != http.StatusForbidden {
		return seen, errors.New("it was not refused")
	}
	again, err := l.expect(ctx, "caller", call.Options{Target: at("http", "web", portHTTP, "/")}, answered)
	return seen + "; afterwards " + again.String(), err
}

func proxyFailFast(ctx context.Context, l *lab) (string, error) {
	none := l.server("none", meshed)
	zero := int32(0)
	none.Spec.Replicas = &zero
	if err := l.up(ctx, none); err != nil {
		return "", err
	}
	got, err := l.call(ctx, "caller", call.Options{Target: at("http", "none", portHTTP, "/"), Timeout: 15 * time.Second})
	if err != nil {
		return "", err
	}
	took := got[0].Done - got[0].Sent
	seen := fmt.Sprintf("%d after %.1f s", got[0].Status, took/1000)
	if s := got[0].Status; s != http.StatusServiceUnavailable && s != http.StatusGatewayTimeout || took > 5000 {
		return seen, errors.New(got.String())
	}
	text, err := l.metric(ctx, "caller", 1, "outbound_http_errors_total", "error=failfast")
	return seen + "; " + text, err
}

func proxySkipInbound(ctx context.Context, l *lab) (string, error) {
	skipping := l.server("skipping", guarded("deny"), annotate("config.linkerd.io/skip-inbound-ports", fmt.Sprint(portHTTP)))
	if err := l.up(ctx, skipping); err != nil {
		return "", err
	}
	got, err := l.expect(ctx, "stranger", call.Options{Target: at("http", "skipping", portHTTP, "/"), Count: 3}, answered)
	if err != nil {
		return got.String(), err
	}
	m, err := l.scrapeApp(ctx, "skipping")
	if err != nil {
		return "", err
	}
	counted := m.Match("request_total", "direction=inbound", fmt.Sprintf("target_port=%d", portHTTP)).Sum()
	seen := fmt.Sprintf("%s; the proxy counts %g of them", got, counted)
	if counted > 0 {
		return seen, errors.New("the calls went through the proxy")
	}
	return seen, nil
}

func proxyGracePeriod(ctx context.Context, l *lab) (string, error) {
	// The application goes on for 20 s, so that only the proxy can be what cuts.
	brief := l.server("brief", meshed, annotate("config.linkerd.io/shutdown-grace-period", "3s"),
		annotate(annotationOpaque, fmt.Sprint(portTCP)), grace(25, 20*time.Second))
	if err := l.up(ctx, brief); err != nil {
		return "", err
	}
	held := l.startCalls(ctx, "caller", call.Options{Target: at("tcp", "brief", portTCP), Hold: 40 * time.Second})
	if _, err := l.metric(ctx, "brief", 1, "tcp_open_connections", "direction=inbound", fmt.Sprintf("target_port=%d", portTCP)); err != nil {
		return "", err
	}
	begun := time.Now()
	if err := l.scale(ctx, l.ns, "brief", 0); err != nil {
		return "", err
	}
	got, err := held.wait()
	if err != nil {
		return "", err
	}
	lasted := time.Since(begun)
	seen := fmt.Sprintf("cut %.1f s after the pod was told to end: %s", lasted.Seconds(), got[0].Error)
	if got[0].OK || lasted < 1500*time.Millisecond || lasted > 12*time.Second {
		return seen, errors.New("that is not about 3 s")
	}
	return seen, nil
}

func proxySplit(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("stable", meshed), l.server("canary", meshed), l.server("shop", meshed, named("stable"))); err != nil {
		return "", err
	}
	err := l.apply(ctx, fmt.Sprintf(`apiVersion: policy.linkerd.io/v1beta3
kind: HTTPRoute
metadata: {name: shop-split}
spec:
  parentRefs: [{name: shop, kind: Service, group: core, port: %[1]d}]
  rules:
  - backendRefs:
    - {name: stable, port: %[1]d, weight: 90}
    - {name: canary, port: %[1]d, weight: 10}
`, portHTTP))
	if err != nil {
		return "", err
	}
	var got calls
	err = eventually(ctx, time.Minute, func(ctx context.Context) error {
		var err error
		if got, err = l.call(ctx, "caller", call.Options{Target: at("http", "shop", portHTTP, "/"), Count: 200, Rate: 20}); err != nil {
			return err
		}
		if err := got.all(answered); err != nil {
			return err
		}
		if n := countServers(got, "canary"); n < 5 || n > 40 {
			return fmt.Errorf("the canary got %d of 200", n)
		}
		return nil
	})
	return fmt.Sprintf("%s; stable %d, canary %d", got, countServers(got, "stable"), countServers(got, "canary")), err
}

// named has a server call itself so, in place of its pod's name.
func named(name string) edit {
	return func(p *corev1.PodTemplateSpec) {
		p.Spec.Containers[0].Args = append(p.Spec.Containers[0].Args, "--name="+name)
	}
}

// countServers counts answers of servers whose name begins so.
func countServers(c calls, prefix string) int {
	n := 0
	for name, count := range c.servers() {
		if strings.HasPrefix(name, prefix) {
			n += count
		}
	}
	return n
}
