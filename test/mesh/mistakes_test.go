//go:build conformance

package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"meshsim.dev/meshsim/harness/agent/call"
)

// policyMistakeScenes are the failure modes of Servers and policies.
func policyMistakeScenes() []scene {
	return []scene{
		{name: "p5", rows: []row{
			{
				id: "P5", says: "A Server without authorization denies all",
				expected: "denied, srv_kind=server; answered once a policy authorises the client", within: 3 * time.Minute, check: serverDeniesAll,
			},
			{
				id: "P5b", says: "A policy on a namespace covers only ports that have a Server",
				expected: "under deny: the port with a Server is answered, the other denied", within: 3 * time.Minute, check: namespacePolicy,
			},
		}},
		{
			name: "p6",
			prepare: func(ctx context.Context, l *lab) error {
				return l.up(ctx, l.server("web", meshed), l.client("caller", meshed), l.client("other", meshed), l.client("stranger"))
			},
			rows: []row{
				{
					id: "P6", says: "Mistakes of an AuthorizationPolicy deny: a missing reference, a wrong identity, references that are ANDed",
					expected: "right: caller answered, others denied; each mistake: caller denied; two policies are ORed", within: 5 * time.Minute, check: policyMistakes,
				},
				{
					id: "P6b", says: "Overlapping Servers are refused at admission", expected: "the second Server of the same pods and port is not admitted", check: overlappingServers,
				},
			},
		},
		{name: "p7", rows: []row{{
			id: "P7", says: "Tightening a policy cuts live TCP",
			expected: "a held unmeshed connection ends; inbound_tcp_authz_terminate_total; the authorised one lives on", within: 3 * time.Minute, check: liveTCPCut,
		}}},
	}
}

func serverDeniesAll(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("web", meshed), l.client("caller", meshed)); err != nil {
		return "", err
	}
	to := at("http", "web", portHTTP, "/")
	if text, err := l.matrix(ctx, edge{"caller", to, answered}); err != nil {
		return text, err
	}
	if err := l.apply(ctx, serverYAML("web-http", "web", portHTTP, "HTTP/1")); err != nil {
		return "", err
	}
	seen, err := l.matrix(ctx, edge{"caller", to, denied})
	if err != nil {
		return seen, err
	}
	text, err := l.metric(ctx, "web", 1, "inbound_http_authz_deny_total", "srv_kind=server", "srv_name=web-http", "srv_group=policy.linkerd.io")
	seen += "; " + text
	if err != nil {
		return seen, err
	}
	if err := l.apply(ctx, meshTLSYAML("caller", l.identity("caller"))+policyYAML("caller", "Server", "web-http", "MeshTLSAuthentication", "caller")); err != nil {
		return seen, err
	}
	text, err = l.matrix(ctx, edge{"caller", to, answered})
	return seen + "; with a policy: " + text, err
}

func namespacePolicy(ctx context.Context, l *lab) (string, error) {
	if err := l.up(ctx, l.server("closed", guarded("deny")), l.client("visitor")); err != nil {
		return "", err
	}
	rules := serverYAML("closed-http", "closed", portHTTP, "HTTP/1") + networkYAML("anyone", "0.0.0.0/0") +
		policyYAML("all-of-it", "Namespace", l.ns, "NetworkAuthentication", "anyone")
	if err := l.apply(ctx, rules); err != nil {
		return "", err
	}
	seen, err := l.matrix(ctx, edge{"visitor", at("http", "closed", portHTTP, "/"), answered}, edge{"visitor", at("grpc", "closed", portGRPC), denied})
	return seen, errors.Join(err, l.remove(ctx, rules))
}

// variant is a set of rules on the same Server, and who it is to let in.
type variant struct {
	name          string
	rules         string
	caller, other outcome
}

func (l *lab) variants() []variant {
	// Pods have addresses of the cluster's own; nobody calls from these.
	const nowhere, anywhere = "192.0.2.0/24", "0.0.0.0/0"
	const server, tls, network = "Server", "MeshTLSAuthentication", "NetworkAuthentication"
	caller := meshTLSYAML("caller", l.identity("caller"))
	policy := func(name string, references ...string) string {
		return policyYAML(name, server, "web-http", references...)
	}
	return []variant{
		{"right", caller + policy("p", tls, "caller"), answered, denied},
		{"missing reference", policy("p", tls, "nobody"), denied, denied},
		{"wrong identity", meshTLSYAML("caller", "wrong."+l.identity("caller")) + policy("p", tls, "caller"), denied, denied},
		{"two references, one does not fit", caller + networkYAML("net", nowhere) + policy("p", tls, "caller", network, "net"), denied, denied},
		{"two references, both fit", caller + networkYAML("net", anywhere) + policy("p", tls, "caller", network, "net"), answered, denied},
		{"two policies, one fits", caller + networkYAML("net", nowhere) + policy("p", tls, "caller") + policy("q", network, "net"), answered, denied},
		{"a policy on another Server", caller + policyYAML("p", server, "web-htpp", tls, "caller"), denied, denied},
	}
}

func policyMistakes(ctx context.Context, l *lab) (string, error) {
	if err := l.apply(ctx, serverYAML("web-http", "web", portHTTP, "HTTP/1")); err != nil {
		return "", err
	}
	to := at("http", "web", portHTTP, "/")
	var seen []string
	for _, v := range l.variants() {
		if err := l.apply(ctx, v.rules); err != nil {
			return strings.Join(seen, "; "), fmt.Errorf("%s: %w", v.name, err)
		}
		text, err := l.matrix(ctx, edge{"caller", to, v.caller}, edge{"other", to, v.other}, edge{"stranger", to, denied})
		if err != nil {
			return strings.Join(append(seen, text), "; "), fmt.Errorf("%s: %w", v.name, err)
		}
		seen = append(seen, fmt.Sprintf("%s: caller %s, other %s", v.name, v.caller.name, v.other.name))
		if err := l.remove(ctx, v.rules); err != nil {
			return strings.Join(seen, "; "), err
		}
		// Denied again, so that the next variant is not judged by this one.
		if text, err := l.matrix(ctx, edge{"caller", to, denied}); err != nil {
			return strings.Join(append(seen, text), "; "), err
		}
	}
	return strings.Join(seen, "; "), l.remove(ctx, serverYAML("web-http", "web", portHTTP, "HTTP/1"))
}

func overlappingServers(ctx context.Context, l *lab) (string, error) {
	if err := l.apply(ctx, serverYAML("one", "web", portTCP, "opaque")); err != nil {
		return "", err
	}
	err := l.apply(ctx, serverYAML("two", "web", portTCP, "opaque"))
	if err == nil {
		return "", errors.New("the second Server was admitted")
	}
	if !strings.Contains(err.Error(), "admission webhook") {
		return err.Error(), errors.New("it was not refused by the webhook")
	}
	return err.Error(), nil
}

func liveTCPCut(ctx context.Context, l *lab) (string, error) {
	opaque := annotate(annotationOpaque, fmt.Sprint(portTCP))
	if err := l.up(ctx, l.server("web", meshed, opaque), l.client("caller", meshed), l.client("stranger")); err != nil {
		return "", err
	}
	tcp := l.startCalls(ctx, "stranger", call.Options{Target: at("tcp", "web", portTCP), Hold: 40 * time.Second})
	meshedTCP := l.startCalls(ctx, "caller", call.Options{Target: at("tcp", "web", portTCP), Hold: 25 * time.Second})
	if _, err := l.metric(ctx, "web", 2, "tcp_open_connections", "direction=inbound", "peer=src", fmt.Sprintf("target_port=%d", portTCP)); err != nil {
		return "", err
	}
	begun := time.Now()
	// Authorization before the Server, so that the allowed connection meets no gap.
	for _, rules := range []string{
		meshTLSYAML("mesh", "*") + policyYAML("mesh-only", "Server", "web-tcp", "MeshTLSAuthentication", "mesh"),
		serverYAML("web-tcp", "web", portTCP, "opaque"),
	} {
		if err := l.apply(ctx, rules); err != nil {
			return "", err
		}
	}
	cut, err := tcp.wait()
	if err != nil {
		return "", err
	}
	seen := fmt.Sprintf("unmeshed connection, %.1f s after the Server: %s", time.Since(begun).Seconds(), cut)
	if cut[0].OK {
		return seen, errors.New("it was not cut")
	}
	text, err := l.metric(ctx, "web", 1, "inbound_tcp_authz_terminate_total", fmt.Sprintf("target_port=%d", portTCP))
	seen += "; " + text
	if err != nil {
		return seen, err
	}
	kept, err := meshedTCP.wait()
	if err == nil {
		err = kept.all(answered)
	}
	return seen + fmt.Sprintf("; the authorised one: %s, %d messages", kept, pingsOf(kept)), err
}
