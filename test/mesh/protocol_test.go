//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/harness/agent/call"
)

// protocolScenes are the failure modes of protocols, ports and balancing.
func protocolScenes() []scene {
	return []scene{
		{name: "r10", rows: []row{{
			id: "R10", says: "A silent or server-first connection stalls for 10 s unless its port is opaque",
			expected: "the greeting comes after ≥ 9 s, and the log says that detection timed out after 10s; on an opaque port within 2 s",
			check:    detectionStalls,
		}}},
		{name: "r11", rows: []row{{
			id: "R11", says: "A port that a client skips carries no mTLS: an authenticated server denies it",
			expected: "denied; inbound_http_authz_deny_total{tls=no_identity}; without the skip, answered", check: skippedOutbound,
		}}},
		{name: "r12", rows: []row{{
			id: "R12", says: "Calls by pod name bypass balancing; a part-meshed StatefulSet under all-authenticated is split",
			expected: "by pod name always the same pod, by mTLS; unmeshed peer → meshed one denied, meshed → unmeshed answered",
			within:   4 * time.Minute, check: headlessPeers,
		}}},
		{name: "r13", rows: []row{{
			id: "R13", says: "gRPC moves from one pinned pod to per-request balancing; a long stream never rebalances",
			expected: "one connection: without a proxy 1 pod of 2, with one both; an open stream stays with its pod when a third comes",
			within:   4 * time.Minute, check: balancedRequests,
		}}},
	}
}

var timedOut = regexp.MustCompile(`(?i)detection timed out after 10s`)

func detectionStalls(ctx context.Context, l *lab) (string, error) {
	opaque := annotate(annotationOpaque, fmt.Sprint(portGreeting))
	if err := l.up(ctx, l.server("slow", meshed), l.server("quick", meshed, opaque), l.client("caller", meshed)); err != nil {
		return "", err
	}
	greet := func(service string) (float64, error) {
		got, err := l.call(ctx, "caller", call.Options{Target: at("greeting", service, portGreeting), Timeout: 40 * time.Second})
		if err == nil {
			err = got.all(answered)
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", service, err)
		}
		return (got[0].Done - got[0].Sent) / 1000, nil
	}
	stalled, err := greet("slow")
	if err != nil {
		return "", err
	}
	opaqued, err := greet("quick")
	seen := fmt.Sprintf("greeted after %.1f s, on an opaque port after %.1f s", stalled, opaqued)
	switch {
	case err != nil:
		return seen, err
	case stalled < 9 || stalled > 30:
		return seen, errors.New("that is no stall of 10 s")
	case opaqued > 2:
		return seen, errors.New("the opaque port stalled as well")
	}
	logs, err := l.kube.Logs(ctx, l.ns, "caller", proxyName)
	if err != nil {
		return seen, err
	}
	line := timedOut.Find(logs)
	if line == nil {
		return seen, errors.New("the client's proxy does not log that detection timed out after 10s")
	}
	return seen + fmt.Sprintf("; log: %q", line), nil
}

func skippedOutbound(ctx context.Context, l *lab) (string, error) {
	skip := annotate("config.linkerd.io/skip-outbound-ports", fmt.Sprint(portHTTP))
	if err := l.up(ctx, l.server("web", guarded(authenticated)), l.client("skipper", meshed, skip), l.client("caller", meshed)); err != nil {
		return "", err
	}
	seen, err := l.matrix(ctx,
		edge{"skipper", at("http", "web", portHTTP, "/"), denied},
		edge{"skipper", at("grpc", "web", portGRPC), answered}, // not skipped
		edge{"caller", at("http", "web", portHTTP, "/"), answered},
	)
	if err != nil {
		return seen, err
	}
	text, err := l.metric(ctx, "web", 1, "inbound_http_authz_deny_total", "tls=no_identity", fmt.Sprintf("target_port=%d", portHTTP))
	return seen + "; " + text, err
}

// set is a StatefulSet of two echo servers, with its headless Service.
func (l *lab) set(ctx context.Context, name string, edits ...edit) error {
	d := l.server(name, edits...)
	two := int32(2)
	service := l.service(d)
	service.Spec.ClusterIP = corev1.ClusterIPNone
	if err := l.account(ctx, name); err != nil {
		return err
	}
	if err := l.resources.Create(ctx, service); err != nil {
		return err
	}
	return l.up(ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: l.ns},
		Spec:       appsv1.StatefulSetSpec{Replicas: &two, ServiceName: name, Selector: d.Spec.Selector, Template: d.Spec.Template},
	})
}

func headlessPeers(ctx context.Context, l *lab) (string, error) {
	if err := l.set(ctx, "peer"); err != nil {
		return "", err
	}
	if err := l.up(ctx, l.client("caller", meshed)); err != nil {
		return "", err
	}
	// Mesh peer-1 alone: a partition keeps peer-0 as it is.
	patch := fmt.Sprintf(`{"spec":{"updateStrategy":{"rollingUpdate":{"partition":1}},"template":{"metadata":{"annotations":{%q:"enabled",%q:%q}}}}}`,
		annotationInject, annotationPolicy, authenticated)
	if err := l.kube.PatchWorkload(ctx, "statefulset", l.ns, "peer", []byte(patch)); err != nil {
		return "", err
	}
	err := eventually(ctx, 2*time.Minute, func(ctx context.Context) error {
		pod, err := l.getPod(ctx, "peer-1")
		if err != nil {
			return err
		}
		if !hasContainer(pod, proxyName) {
			return errors.New("peer-1 is not meshed yet")
		}
		return podReady(pod)
	})
	if err != nil {
		return "", err
	}
	to := func(pod string) string { return at("http", pod+".peer", portHTTP, "/") }
	seen, err := l.matrix(ctx, edge{"peer-0", to("peer-1"), denied}, edge{"peer-1", to("peer-0"), answered})
	if err != nil {
		return seen, err
	}
	got, err := l.expect(ctx, "caller", call.Options{Target: to("peer-1"), Count: 10, Fresh: true}, answered)
	if err != nil {
		return seen, err
	}
	seen += fmt.Sprintf("; by pod name: %v", got.servers())
	if got.servers()["peer-1"] != 10 {
		return seen, errors.New("another pod answered")
	}
	m, err := l.scrape(ctx, "peer-1")
	if err != nil {
		return seen, err
	}
	mtls := m.Match("request_total", "direction=inbound", "tls=true", fmt.Sprintf("target_port=%d", portHTTP)).Sum()
	if mtls < 10 {
		return seen, fmt.Errorf("peer-1 counts %g calls by mTLS of 10", mtls)
	}
	return seen + fmt.Sprintf(", %g by mTLS", mtls), nil
}

func balancedRequests(ctx context.Context, l *lab) (string, error) {
	web := l.server("web", meshed)
	two := int32(2)
	web.Spec.Replicas = &two
	if err := l.up(ctx, web, l.client("caller", meshed), l.client("stranger")); err != nil {
		return "", err
	}
	o := call.Options{Target: at("grpc", "web", portGRPC), Count: 40, Rate: 20} // on one connection
	pinned, err := l.expect(ctx, "stranger", o, answered)
	if err != nil {
		return "", err
	}
	var balanced calls
	err = eventually(ctx, settleWithin, func(ctx context.Context) error {
		if balanced, err = l.expect(ctx, "caller", o, answered); err != nil {
			return err
		}
		if len(balanced.servers()) != 2 {
			return fmt.Errorf("the meshed client reached %d pods", len(balanced.servers()))
		}
		return nil
	})
	seen := fmt.Sprintf("without a proxy %d pod, with one %d", len(pinned.servers()), len(balanced.servers()))
	if err != nil {
		return seen, err
	}
	if len(pinned.servers()) != 1 {
		return seen, errors.New("one connection without a proxy reached several pods")
	}
	// A changed server fails the stream on the client's own account.
	stream := l.startCalls(ctx, "caller", call.Options{Target: o.Target, Hold: 25 * time.Second})
	if err := l.scale(ctx, l.ns, "web", 3); err != nil {
		return seen, err
	}
	if err := l.kube.WaitRollout(ctx, "deployment", l.ns, "web"); err != nil {
		return seen, err
	}
	got, err := stream.wait()
	seen += fmt.Sprintf("; a stream open while a third came: %s, %d messages of one pod", got, pingsOf(got))
	return seen, errors.Join(err, got.all(answered))
}
