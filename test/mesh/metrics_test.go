//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meshsim.dev/meshsim/harness/agent/call"
	"meshsim.dev/meshsim/test/mesh/scrape"
)

// metricScenes send a little of everything between a meshed client, a meshed
// server, one without a proxy, and a client without one; then the rows read
// what the proxies say of it.
func metricScenes() []scene {
	return []scene{{
		name: "metrics",
		prepare: func(ctx context.Context, l *lab) error {
			opaque := annotate(annotationOpaque, fmt.Sprint(portGreeting))
			if err := l.up(ctx, l.server("web", meshed, opaque), l.server("bare"), l.client("caller", meshed), l.client("stranger")); err != nil {
				return err
			}
			return l.sendOfEverything(ctx)
		},
		rows: []row{
			{
				id: "MX1", says: "Requests, responses and latencies have their names and labels, on both sides",
				expected: "request_total, response_total, response_latency_ms_{bucket,count,sum} with direction, authority, target_addr, target_ip, target_port, tls=true",
				check:    metricsOfRequests,
			},
			{
				id: "MX2", says: "Inbound tells calls without mTLS apart, and why",
				expected: "tls=no_identity, no_tls_reason=no_tls_from_remote for an unmeshed client; tls=opaque for TLS that is not the mesh's",
				check:    metricsOfStrangers,
			},
			{
				id: "MX3", says: "Outbound tells why a call had no mTLS",
				expected: "tls=no_identity, no_tls_reason=not_provided_by_service_discovery to a server without a proxy", check: metricsOfBareServers,
			},
			{
				id: "MX4", says: "Each side names the other",
				expected: "inbound client_id, outbound server_id and dst_* are the workloads'", check: metricsOfPeers,
			},
			{
				id: "MX5", says: "Inbound names the policy that let a call in",
				expected: "srv_kind=default and srv_name=all-unauthenticated, route_*, authz_* on inbound metrics", check: metricsOfPolicy,
			},
			{
				id: "MX6", says: "status_code is on responses and latencies; classification, grpc_status and error on response_total alone",
				expected: "200 success, 503 failure; gRPC 2, 4, 7, 13, 14, 15 failure, others success", check: metricsOfResponses,
			},
			{
				id: "MX7", says: "What policy lets in is counted",
				expected: "inbound_http_authz_allow_total and inbound_tcp_authz_allow_total", check: metricsOfAuthz,
			},
			{
				id: "MX8", says: "Connections and their bytes are counted",
				expected: "tcp_open_total, tcp_close_total, tcp_open_connections, tcp_read_bytes_total, tcp_write_bytes_total, in both directions", check: metricsOfTCP,
			},
			{
				id: "MX9", says: "A client's proxy tells of its balancers and backends",
				expected: "outbound_http_balancer_endpoints{endpoint_state=ready}; outbound_{http,grpc}_route_backend_requests_total count calls of both protocols",
				check:    metricsOfBackends,
			},
			{
				id: "MX10", says: "The proxy tells of itself and of its control plane",
				expected: "identity_cert_expiration_timestamp_seconds, identity_cert_refresh_count, proxy_build_info, process_start_time_seconds, control_*",
				check:    metricsOfTheProxy,
			},
		},
	}}
}

// codesAsked are the gRPC codes that calls of the scene fail with.
var codesAsked = []int{0, 2, 3, 4, 5, 7, 8, 13, 14, 15}

// failures are those of them that the proxy is to count as one.
var failures = []string{"2", "4", "7", "13", "14", "15"}

func (l *lab) sendOfEverything(ctx context.Context) error {
	web := func(protocol string, port int, path ...string) string { return at(protocol, "web", port, path...) }
	for _, c := range []struct {
		from   string
		target string
	}{
		{"caller", web("http", portHTTP, "/")}, {"caller", web("http", portHTTP, "/status/503")},
		{"caller", web("grpc", portGRPC)}, {"caller", web("greeting", portGreeting)},
		{"stranger", web("grpc", portGRPC)}, {"caller", at("http", "bare", portHTTP, "/")},
	} {
		if _, err := l.call(ctx, c.from, call.Options{Target: c.target, Count: 5, Rate: 20}); err != nil {
			return err
		}
	}
	for _, code := range codesAsked {
		if _, err := l.call(ctx, "caller", call.Options{Target: web("grpc", portGRPC, fmt.Sprintf("/%d", code))}); err != nil {
			return err
		}
	}
	// TLS of the application's own: the mesh knows it by the name that is asked for.
	if _, err := l.agent(ctx, "stranger", "leaf", fmt.Sprintf("--target=web:%d", portTCP), "--name=web.example.org", "--timeout=3s"); err == nil {
		return errors.New("an echo server shook hands")
	}
	return nil
}

// demand wants each of several samples to be there.
type demand struct {
	app    string // caller, or a server
	name   string
	labels []string
}

// demands checks each, and tells what there is.
func (l *lab) demands(ctx context.Context, all ...demand) (string, error) {
	var seen []string
	for _, d := range all {
		text, err := l.metric(ctx, d.app, 1, d.name, d.labels...)
		if err != nil {
			return strings.Join(seen, "; "), err
		}
		seen = append(seen, d.app+": "+text)
	}
	return strings.Join(seen, "; "), nil
}

func metricsOfRequests(ctx context.Context, l *lab) (string, error) {
	labels := func(direction string) []string {
		return []string{"direction=" + direction, "authority", "target_addr", "target_ip", fmt.Sprintf("target_port=%d", portHTTP), "tls=true"}
	}
	var all []demand
	for app, direction := range map[string]string{"web": "inbound", "caller": "outbound"} {
		for _, name := range []string{"request_total", "response_total", "response_latency_ms_bucket", "response_latency_ms_count", "response_latency_ms_sum"} {
			all = append(all, demand{app, name, labels(direction)})
		}
	}
	if seen, err := l.demands(ctx, all...); err != nil {
		return seen, err
	}
	m, err := l.scrapeApp(ctx, "web")
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("all five names on both sides; inbound authority %v, target_addr %v",
		m.Match("request_total", "tls=true").Values("authority"), m.Match("request_total", "tls=true").Values("target_addr")), nil
}

func metricsOfStrangers(ctx context.Context, l *lab) (string, error) {
	return l.demands(ctx,
		// The port of gRPC, which the kubelet does not probe.
		demand{"web", "request_total", []string{"direction=inbound", "tls=no_identity", "no_tls_reason=no_tls_from_remote", fmt.Sprintf("target_port=%d", portGRPC)}},
		demand{"web", "tcp_open_total", []string{"direction=inbound", "tls=opaque"}},
	)
}

func metricsOfBareServers(ctx context.Context, l *lab) (string, error) {
	return l.demands(ctx, demand{"caller", "request_total",
		[]string{"direction=outbound", "tls=no_identity", "no_tls_reason=not_provided_by_service_discovery", fmt.Sprintf("target_port=%d", portHTTP)}})
}

func metricsOfPeers(ctx context.Context, l *lab) (string, error) {
	return l.demands(ctx,
		demand{"web", "request_total", []string{"direction=inbound", "client_id=" + l.identity("caller")}},
		demand{"caller", "request_total", []string{"direction=outbound", "server_id=" + l.identity("web"), "dst_namespace=" + l.ns, "dst_service=web", "dst_deployment=web", "dst_pod", "dst_serviceaccount=web"}},
	)
}

func metricsOfPolicy(ctx context.Context, l *lab) (string, error) {
	labels := []string{"direction=inbound", "srv_kind=default", "srv_name=" + unauthenticated, "authz_kind=default", "authz_name", "route_kind", "route_name"}
	return l.demands(ctx, demand{"web", "request_total", labels}, demand{"web", "response_total", labels})
}

func metricsOfResponses(ctx context.Context, l *lab) (string, error) {
	m, err := l.scrapeApp(ctx, "web")
	if err != nil {
		return "", err
	}
	inbound := func(labels ...string) scrape.Samples {
		return m.Match("response_total", append([]string{"direction=inbound"}, labels...)...)
	}
	for status, class := range map[string]string{"200": "success", "503": "failure"} {
		got := inbound("status_code="+status, fmt.Sprintf("target_port=%d", portHTTP), "tls=true")
		if got.Sum() < 5 || !slices.Equal(got.Values("classification"), []string{class}) {
			return "", fmt.Errorf("status %s was counted %g times, classified %v", status, got.Sum(), got.Values("classification"))
		}
	}
	var seen []string
	for _, code := range codesAsked {
		code := fmt.Sprint(code)
		want := "success"
		if slices.Contains(failures, code) {
			want = "failure"
		}
		got := inbound("grpc_status=" + code).Values("classification")
		seen = append(seen, fmt.Sprintf("%s %v", code, got))
		if !slices.Equal(got, []string{want}) {
			return strings.Join(seen, ", "), fmt.Errorf("grpc_status %s is classified %v, not %s", code, got, want)
		}
	}
	latency := m.Match("response_latency_ms_count", "status_code")
	for _, label := range []string{"classification", "grpc_status", "error"} {
		if len(latency) == 0 || len(latency.Values(label)) > 0 {
			return strings.Join(seen, ", "), fmt.Errorf("latencies lack status_code, or have %s", label)
		}
	}
	return "grpc_status " + strings.Join(seen, ", ") + "; status_code on latencies, nothing more", nil
}

func metricsOfAuthz(ctx context.Context, l *lab) (string, error) {
	return l.demands(ctx,
		demand{"web", "inbound_http_authz_allow_total", []string{"tls=true", "client_id=" + l.identity("caller"), "srv_kind", "authz_kind"}},
		demand{"web", "inbound_tcp_authz_allow_total", []string{fmt.Sprintf("target_port=%d", portGreeting), "srv_kind", "authz_kind"}},
	)
}

func metricsOfTCP(ctx context.Context, l *lab) (string, error) {
	held := l.startCalls(ctx, "caller", call.Options{Target: at("greeting", "web", portGreeting), Hold: 8 * time.Second})
	var all []demand
	for app, direction := range map[string]string{"web": "inbound", "caller": "outbound"} {
		for _, name := range []string{"tcp_open_connections", "tcp_open_total", "tcp_close_total", "tcp_read_bytes_total", "tcp_write_bytes_total"} {
			all = append(all, demand{app, name, []string{"direction=" + direction, "tls=true"}})
		}
	}
	seen, err := l.demands(ctx, all...)
	_, callErr := held.wait()
	return seen, errors.Join(err, callErr)
}

func metricsOfBackends(ctx context.Context, l *lab) (string, error) {
	seen, err := l.demands(ctx, demand{"caller", "outbound_http_balancer_endpoints", []string{"endpoint_state=ready"}})
	if err != nil {
		return seen, err
	}
	// Calls of gRPC count as the one or the other: without a route of its own
	// kind a proxy takes gRPC for HTTP.
	const http, grpc = "outbound_http_route_backend_requests_total", "outbound_grpc_route_backend_requests_total"
	m, err := l.scrapeApp(ctx, "caller")
	if err != nil {
		return seen, err
	}
	byHTTP, byGRPC := m.Match(http).Sum(), m.Match(grpc).Sum()
	seen += fmt.Sprintf("; %s = %g, %s = %g", http, byHTTP, grpc, byGRPC)
	if sent := float64(15 + len(codesAsked)); byHTTP < 1 || byHTTP+byGRPC < sent {
		return seen, fmt.Errorf("%g calls were sent to web", sent)
	}
	return seen, nil
}

func metricsOfTheProxy(ctx context.Context, l *lab) (string, error) {
	seen, err := l.demands(ctx,
		demand{"web", "identity_cert_expiration_timestamp_seconds", nil}, demand{"web", "identity_cert_refresh_count", nil},
		demand{"web", "proxy_build_info", nil}, demand{"web", "process_start_time_seconds", nil},
	)
	if err != nil {
		return seen, err
	}
	m, err := l.scrapeApp(ctx, "web")
	if err != nil {
		return seen, err
	}
	control := slices.DeleteFunc(m.Names(), func(n string) bool { return !strings.HasPrefix(n, "control_") })
	if len(control) == 0 {
		return seen, errors.New("there is no metric control_*")
	}
	return seen + "; " + strings.Join(control, ", "), nil
}
