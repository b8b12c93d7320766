//go:build conformance

package mesh

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"time"

	"meshsim.dev/meshsim/harness/agent/leaf"
)

// identityScenes look at what a proxy shows of who it is.
func identityScenes() []scene {
	return []scene{{
		name: "identity",
		prepare: func(ctx context.Context, l *lab) error {
			return l.up(ctx, l.server("web", meshed), l.client("stranger"))
		},
		rows: []row{
			{
				id: "ID1", says: "A proxy's leaf on 4143 names its service account and chains to the ConfigMap's anchors",
				expected: "TLS 1.3; one DNS name <sa>.<ns>.serviceaccount.identity.linkerd.cluster.local; ECDSA P-256; verified",
				check:    identityLeaf,
			},
			{
				id: "ID2", says: "A leaf lives 24 h and does not outlive its issuer; the expiry is a metric",
				expected: "24 h, give or take the clock skew; identity_cert_expiration_timestamp_seconds is its notAfter", check: identityLife,
			},
			{
				id: "ID3", says: "4143 asks its clients for a certificate", expected: "the handshake asks for one", check: identityAsks,
			},
			{
				id: "ID4", says: "Each leaf that is issued is told by an event",
				expected: "IssuedLeafCertificate in the workload's namespace, naming its identity", check: identityEvent,
			},
			{
				id: "ID5", says: "A proxy counts the leaves it got", expected: "identity_cert_refresh_count ≥ 1", check: identityCount,
			},
		},
	}}
}

// shown is a proxy's leaf as a client in the cluster sees it.
type shown struct {
	leaf.Result
	chain []*x509.Certificate
}

// leafOf shakes hands with the proxy of a workload's newest pod.
func (l *lab) leafOf(ctx context.Context, from, app string) (shown, error) {
	pod, err := l.pod(ctx, app)
	if err != nil {
		return shown{}, err
	}
	var s shown
	err = l.agentJSON(ctx, &s.Result, from, "leaf", fmt.Sprintf("--target=%s:4143", pod.Status.PodIP), "--name="+l.identity(app))
	if err != nil {
		return s, err
	}
	s.chain, err = parsePEM([]byte(s.Chain))
	return s, err
}

func identityLeaf(ctx context.Context, l *lab) (string, error) {
	s, err := l.leafOf(ctx, "stranger", "web")
	if err != nil {
		return "", err
	}
	anchors, err := l.anchors(ctx)
	if err != nil {
		return "", err
	}
	cert := s.chain[0]
	seen := fmt.Sprintf("%s, %v, %s", s.Version, cert.DNSNames, keyKind(cert))
	if s.Version != "TLS 1.3" || len(cert.DNSNames) != 1 || cert.DNSNames[0] != l.identity("web") || keyKind(cert) != "ECDSA P-256" || cert.IsCA {
		return seen, errors.New("version, name or key are others")
	}
	return seen + ", verified", verify(s.chain, anchors, x509.VerifyOptions{DNSName: l.identity("web")})
}

func identityLife(ctx context.Context, l *lab) (string, error) {
	s, err := l.leafOf(ctx, "stranger", "web")
	if err != nil {
		return "", err
	}
	secret, err := l.issuerSecret(ctx)
	if err != nil {
		return "", err
	}
	issuers, err := parsePEM(secret.Data["tls.crt"])
	if err != nil {
		return "", err
	}
	metrics, err := l.scrapeApp(ctx, "web")
	if err != nil {
		return "", err
	}
	cert := s.chain[0]
	life, metric := cert.NotAfter.Sub(cert.NotBefore), metrics.Match("identity_cert_expiration_timestamp_seconds").Sum()
	seen := fmt.Sprintf("lives %s, until %s; metric %s", life, cert.NotAfter.UTC().Format(time.RFC3339), time.Unix(int64(metric), 0).UTC().Format(time.RFC3339))
	switch {
	case life < 24*time.Hour || life > 24*time.Hour+2*time.Minute:
		return seen, errors.New("that is not 24 h")
	case cert.NotAfter.After(issuers[0].NotAfter):
		return seen, errors.New("it outlives its issuer")
	case math.Abs(metric-float64(cert.NotAfter.Unix())) > 1:
		return seen, errors.New("the metric tells of another expiry")
	}
	return seen, nil
}

func identityAsks(ctx context.Context, l *lab) (string, error) {
	s, err := l.leafOf(ctx, "stranger", "web")
	if err != nil {
		return "", err
	}
	seen := "asked for a certificate; without one: "
	if s.Refused == "" {
		seen += "let in as nobody"
	} else {
		seen += "refused: " + s.Refused
	}
	if !s.Asked {
		return seen, errors.New("it asked for none")
	}
	return seen, nil
}

func identityEvent(ctx context.Context, l *lab) (string, error) {
	e, err := l.awaitEvent(ctx, l.ns, "IssuedLeafCertificate", l.identity("web"), settleWithin)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s on %s %s: %s", e.Reason, e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Message), nil
}

func identityCount(ctx context.Context, l *lab) (string, error) {
	return l.metric(ctx, "web", 1, "identity_cert_refresh_count")
}
