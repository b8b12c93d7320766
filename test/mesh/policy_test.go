//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"meshsim.dev/meshsim/harness/agent/call"
)

// policyScenes are the failure modes of authorisation by default policies,
// namespaces and probes.
func policyScenes() []scene {
	return []scene{
		{name: "policies", rows: []row{{
			id: "PD1", says: "default-inbound-policy has five values",
			expected: "all-unauthenticated and cluster-unauthenticated let all in; all-authenticated and cluster-authenticated the meshed; deny nobody; httpGet probes pass under each",
			within:   5 * time.Minute, check: defaultPolicies,
		}}},
		{name: "p1", rows: []row{{
			id: "P1", says: "An unmeshed client is denied after the flip to all-authenticated",
			expected: "HTTP 403, grpc-status 7, opaque TCP cut; deny counters with tls=no_identity; the meshed client is answered",
			check:    strangersDenied,
		}}},
		{name: "p2", rows: []row{{
			id: "P2", says: "A namespace annotation does nothing until pods are created again",
			expected: "15 s after annotating still answered and srv_name unchanged; denied after a restart", within: 3 * time.Minute, check: annotationNeedsRestart,
		}}},
		{name: "p3", rows: []row{{
			id: "P3", says: "A native gRPC probe is refused under an authenticated policy",
			expected: "never ready, deny counter; ready once a NetworkAuthentication lets the kubelet in", within: 4 * time.Minute, check: grpcProbes,
		}}},
		{name: "p4", rows: []row{{
			id: "P4", says: "An inbound HTTPRoute on a Server takes the default probe route away",
			expected: "ready with the Server alone; not ready with one route attached, unmatched paths 404 and counted; ready again with a route and policy for probes",
			within:   4 * time.Minute, check: probeRoutes,
		}}},
		{name: "p8", rows: []row{{
			id: "P8", says: "Under deny, scrapes of 4191 get 403",
			expected: "403 for /metrics from outside the pod, which stays ready; 200 once an AuthorizationPolicy lets the scraper in", within: 3 * time.Minute, check: scrapesDenied,
		}}},
	}
}

func defaultPolicies(ctx context.Context, l *lab) (string, error) {
	policies := []struct {
		name             string
		caller, stranger outcome
	}{
		{unauthenticated, answered, answered}, {"cluster-unauthenticated", answered, answered},
		{authenticated, answered, denied}, {"cluster-authenticated", answered, denied},
		{"deny", denied, denied},
	}
	if err := l.up(ctx, l.client("caller", meshed), l.client("stranger")); err != nil {
		return "", err
	}
	var seen []string
	for _, p := range policies {
		// Ready means that the kubelet's httpGet probe got through.
		if err := l.up(ctx, l.server(p.name, guarded(p.name))); err != nil {
			return strings.Join(seen, "; "), err
		}
		to := at("http", p.name, portHTTP, "/")
		if text, err := l.matrix(ctx, edge{"caller", to, p.caller}, edge{"stranger", to, p.stranger}); err != nil {
			return strings.Join(append(seen, text), "; "), err
		}
		seen = append(seen, fmt.Sprintf("%s: ready, meshed %s, unmeshed %s", p.name, p.caller.name, p.stranger.name))
	}
	return strings.Join(seen, "; "), nil
}

func strangersDenied(ctx context.Context, l *lab) (string, error) {
	opaque := annotate(annotationOpaque, fmt.Sprint(portTCP))
	if err := l.up(ctx, l.server("web", guarded(authenticated), opaque), l.client("caller", meshed), l.client("stranger")); err != nil {
		return "", err
	}
	http, grpc, tcp := at("http", "web", portHTTP, "/"), at("grpc", "web", portGRPC), at("tcp", "web", portTCP)
	seen, err := l.matrix(ctx,
		edge{"stranger", http, denied}, edge{"stranger", grpc, denied}, edge{"stranger", tcp, failing},
		edge{"caller", http, answered}, edge{"caller", grpc, answered}, edge{"caller", tcp, answered},
	)
	if err != nil {
		return seen, err
	}
	text, err := l.demands(ctx,
		demand{"web", "inbound_http_authz_deny_total", []string{"tls=no_identity", fmt.Sprintf("target_port=%d", portHTTP)}},
		demand{"web", "inbound_http_authz_deny_total", []string{"tls=no_identity", fmt.Sprintf("target_port=%d", portGRPC)}},
		demand{"web", "inbound_tcp_authz_deny_total", []string{"tls=no_identity", fmt.Sprintf("target_port=%d", portTCP)}},
	)
	return seen + "; " + text, err
}

func annotationNeedsRestart(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("web", meshed), l.client("stranger")); err != nil {
		return "", err
	}
	to := call.Options{Target: at("http", "web", portHTTP, "/"), Fresh: true}
	if got, err := l.expect(ctx, "stranger", to, answered); err != nil {
		return got.String(), err
	}
	if err := l.annotateNamespace(ctx, map[string]string{annotationPolicy: authenticated}); err != nil {
		return "", err
	}
	to.Count, to.Rate = 30, 2
	before, err := l.call(ctx, "stranger", to)
	if err != nil {
		return "", err
	}
	m, err := l.scrapeApp(ctx, "web")
	if err != nil {
		return "", err
	}
	servers := m.Match("request_total", "direction=inbound", fmt.Sprintf("target_port=%d", portHTTP)).Values("srv_name")
	seen := fmt.Sprintf("annotated: %s, srv_name %v", before, servers)
	if err := before.all(answered); err != nil {
		return seen, err
	}
	if len(servers) != 1 || servers[0] != unauthenticated {
		return seen, errors.New("srv_name changed without a restart")
	}
	if err := l.restart(ctx, "web"); err != nil {
		return seen, err
	}
	to.Count = 3
	after, err := l.expect(ctx, "stranger", to, denied)
	return seen + fmt.Sprintf("; restarted: %s", after), err
}

// grpcProbe is the kubelet's own gRPC probe.
func grpcProbe() *corev1.Probe {
	return &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 3, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: portGRPC}}}
}

func grpcProbes(ctx context.Context, l *lab) (string, error) {
	web := l.server("web", guarded(authenticated), probed(grpcProbe()))
	if err := l.create(ctx, web); err != nil {
		return "", err
	}
	if err := l.awaitProxy(ctx, "web"); err != nil {
		return "", err
	}
	seen, err := l.metric(ctx, "web", 3, "inbound_http_authz_deny_total", "tls=no_identity", fmt.Sprintf("target_port=%d", portGRPC))
	if err != nil {
		return seen, err
	}
	if pod, err := l.pod(ctx, "web"); err != nil || podReady(pod) == nil {
		return seen, errors.Join(err, errors.New("the pod is ready all the same"))
	}
	seen += "; not ready"
	rules := serverYAML("web-grpc", "web", portGRPC, "gRPC") + networkYAML("anyone", "0.0.0.0/0") +
		policyYAML("probes", "Server", "web-grpc", "NetworkAuthentication", "anyone")
	if err := l.apply(ctx, rules); err != nil {
		return seen, err
	}
	if err := l.awaitReady(ctx, "web", true); err != nil {
		return seen, err
	}
	return seen + "; with a NetworkAuthentication: ready", nil
}

// awaitProxy waits until a workload's proxy runs and is ready itself, whatever
// its application is.
func (l *lab) awaitProxy(ctx context.Context, app string) error {
	return eventually(ctx, time.Minute, func(ctx context.Context) error {
		pod, err := l.pod(ctx, app)
		if err != nil {
			return err
		}
		if s := containerStatus(pod, proxyName); s == nil || !s.Ready {
			return fmt.Errorf("the proxy of %s is not ready", app)
		}
		return nil
	})
}

// awaitReady waits until a workload's newest pod is ready, or is not.
func (l *lab) awaitReady(ctx context.Context, app string, want bool) error {
	return eventually(ctx, time.Minute, func(ctx context.Context) error {
		pod, err := l.pod(ctx, app)
		if err != nil {
			return err
		}
		state := podReady(pod)
		if want || state != nil {
			if !want {
				return nil
			}
			return state
		}
		return fmt.Errorf("pod %s is still ready", pod.Name)
	})
}

func probeRoutes(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("web", guarded(authenticated)), l.client("caller", meshed), l.client("stranger")); err != nil {
		return "", err
	}
	if err := l.apply(ctx, serverYAML("web-http", "web", portHTTP, "HTTP/1")+meshTLSYAML("mesh", "*")+
		policyYAML("mesh-only", "Server", "web-http", "MeshTLSAuthentication", "mesh")); err != nil {
		return "", err
	}
	if text, err := l.matrix(ctx, edge{"stranger", at("http", "web", portHTTP, "/"), denied}, edge{"caller", at("http", "web", portHTTP, "/"), answered}); err != nil {
		return text, err
	}
	if err := l.awaitReady(ctx, "web", true); err != nil {
		return "", fmt.Errorf("with a Server alone: %w", err)
	}
	seen := "with a Server alone: ready"
	if err := l.apply(ctx, routeYAML("orders", "web-http", "/orders")); err != nil {
		return seen, err
	}
	if err := l.awaitReady(ctx, "web", false); err != nil {
		return seen, err
	}
	pod, err := l.pod(ctx, "web")
	if err != nil {
		return seen, err
	}
	// By address, for a pod that is not ready has left its Service.
	there := func(path string) string { return at("http", pod.Status.PodIP, portHTTP, path) }
	text, err := l.matrix(ctx, edge{"caller", there("/orders"), answered}, edge{"stranger", there("/orders"), denied}, edge{"caller", there("/healthz"), notFound})
	seen += "; with a route: not ready; " + text
	if err != nil {
		return seen, err
	}
	text, err = l.metric(ctx, "web", 1, "inbound_http_route_not_found_total", fmt.Sprintf("target_port=%d", portHTTP))
	seen += "; " + text
	if err != nil {
		return seen, err
	}
	if err := l.apply(ctx, routeYAML("probes", "web-http", "/healthz")+networkYAML("anyone", "0.0.0.0/0")+
		policyYAML("probes", "HTTPRoute", "probes", "NetworkAuthentication", "anyone")); err != nil {
		return seen, err
	}
	if err := l.awaitReady(ctx, "web", true); err != nil {
		return seen, err
	}
	return seen + "; with a route and policy for probes: ready", nil
}

func scrapesDenied(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("web", guarded("deny")), l.client("scraper", meshed)); err != nil {
		return "", err
	}
	pod, err := l.pod(ctx, "web")
	if err != nil {
		return "", err
	}
	_, err = l.kube.PodGet(ctx, l.ns, pod.Name+":4191", "/metrics")
	seen := fmt.Sprintf("/metrics by the API server's proxy: %s", apierrors.ReasonForError(err))
	if !apierrors.IsForbidden(err) {
		return seen, errors.Join(errors.New("it was not refused with 403"), err)
	}
	metrics := at("http", pod.Status.PodIP, 4191, "/metrics")
	if got, err := l.expect(ctx, "scraper", call.Options{Target: metrics}, denied); err != nil {
		return seen + "; " + got.String(), err
	}
	if pod, err = l.pod(ctx, "web"); err != nil || podReady(pod) != nil {
		return seen, errors.Join(err, podReady(pod))
	}
	seen += "; by a pod: 403; the pod is ready"
	// A Prometheus without a proxy has no identity: the network is all that a policy
	// can go by.
	if err := l.apply(ctx, serverYAML("admin", "web", "linkerd-admin", "HTTP/1")+networkYAML("anyone", "0.0.0.0/0")+
		policyYAML("scrapes", "Server", "admin", "NetworkAuthentication", "anyone")); err != nil {
		return seen, err
	}
	got, err := l.expect(ctx, "scraper", call.Options{Target: metrics}, answered)
	return seen + "; with an AuthorizationPolicy: " + got.String(), err
}
