//go:build conformance

package mesh

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/stack"
)

// webhookScenes are about the webhooks' certificates and the chart's upgrade.
func webhookScenes() []scene {
	return []scene{
		{name: "upgrade", prepare: func(ctx context.Context, l *lab) error {
			return l.up(ctx, l.server("web", meshed), l.client("caller", meshed))
		}, rows: []row{
			{
				id: "I8", says: "An upgrade that changes nothing keeps webhooks, certificates and pods",
				expected: "0 calls failed; the same CA, Secrets and pods", within: 4 * time.Minute, check: upgradeOfNothing,
			},
			{
				id: "I8b", says: "An upgrade with a changed value fails no call", expected: "0 calls failed while the control plane rolls; the same CA and Secrets",
				within: 5 * time.Minute, check: upgradeOfSomething,
			},
		}},
		{name: "expired-webhook", rows: []row{{
			id: "I7", says: "An expired webhook certificate with Fail means no pods",
			expected: "creation refused: x509: certificate has expired; injected again with cert-manager's certificate", within: 8 * time.Minute, check: expiredWebhook,
		}}},
	}
}

// webhookState is what an upgrade must not change: the CAs that the API server
// was given and the Secrets' versions.
func (w *world) webhookState(ctx context.Context) (string, error) {
	state := ""
	for _, name := range []string{"linkerd-proxy-injector", "linkerd-sp-validator", "linkerd-policy-validator"} {
		hooks, err := w.webhooks(ctx, name+"-webhook-config")
		if err != nil {
			return "", err
		}
		for _, h := range hooks {
			state += h.name + string(h.client.CABundle)
		}
		secret, err := w.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh).Get(ctx, name+"-k8s-tls", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		state += string(secret.Data["tls.crt"])
	}
	return state, nil
}

// upgradeUnderLoad upgrades while a client calls, and compares the webhooks.
func (l *lab) upgradeUnderLoad(ctx context.Context, lasts time.Duration, upgrade func(context.Context) error) (string, error) {
	before, err := l.webhookState(ctx)
	if err != nil {
		return "", err
	}
	got, err := l.during(ctx, "caller", lasts, func() error { return upgrade(ctx) })
	seen := got.String()
	if err != nil {
		return seen, err
	}
	after, err := l.webhookState(ctx)
	if err != nil {
		return seen, err
	}
	if before != after {
		return seen, errors.New("a webhook's CA or certificate is another")
	}
	return seen + "; the same CA and certificates", nil
}

func upgradeOfNothing(ctx context.Context, l *lab) (string, error) {
	pods := func() (string, error) {
		all := ""
		for _, component := range []string{"identity", "destination", "proxy-injector"} {
			some, err := l.planePods(ctx, component)
			if err != nil {
				return "", err
			}
			all += some + ", "
		}
		return all, nil
	}
	before, err := pods()
	if err != nil {
		return "", err
	}
	seen, err := l.upgradeUnderLoad(ctx, 45*time.Second, func(ctx context.Context) error { return l.upgrade(ctx, nil) })
	if err != nil {
		return seen, err
	}
	after, err := pods()
	if err != nil {
		return seen, err
	}
	if before != after {
		return seen, fmt.Errorf("pods were made anew: %s, before %s", after, before)
	}
	return seen + "; the same pods", nil
}

func upgradeOfSomething(ctx context.Context, l *lab) (string, error) {
	return l.upgradeUnderLoad(ctx, 100*time.Second, func(ctx context.Context) error {
		if err := l.plane(ctx, map[string]any{"proxy": map[string]any{"logLevel": "warn,linkerd=debug"}}); err != nil {
			return err
		}
		for _, name := range []string{"linkerd-identity", "linkerd-destination", "linkerd-proxy-injector"} {
			if err := l.restartPlane(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
}

const injectorSecret, injectorCertificate = "linkerd-proxy-injector-k8s-tls", "linkerd-proxy-injector"

func expiredWebhook(ctx context.Context, l *lab) (string, error) {
	secrets := l.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh)
	l.later(func(ctx context.Context) error {
		// Made anew by cert-manager, as the Certificate comes back with the mesh.
		if err := secrets.Delete(ctx, injectorSecret, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return l.renewWebhook(ctx)
	})
	ca, err := l.webhookCA(ctx)
	if err != nil {
		return "", err
	}
	web := l.server("web", meshed)
	if err := l.announce(ctx, web); err != nil {
		return "", err
	}
	// Else cert-manager would mend the Secret at once.
	certificates := l.kube.Dynamic.Resource(certificatesAPI).Namespace(stack.NamespaceMesh)
	if err := certificates.Delete(ctx, injectorCertificate, metav1.DeleteOptions{}); err != nil {
		return "", err
	}
	cert, key, err := ca.expired("linkerd-proxy-injector." + stack.NamespaceMesh + ".svc")
	if err != nil {
		return "", err
	}
	if err := l.putTLS(ctx, injectorSecret, cert, key, ca.certPEM()); err != nil {
		return "", err
	}
	if err := l.restartPlane(ctx, "linkerd-proxy-injector"); err != nil {
		return "", err
	}
	// The API server keeps its connection to the old pod, which answers to its end.
	err = eventually(ctx, time.Minute, func(ctx context.Context) error {
		pods, err := l.planePods(ctx, "proxy-injector")
		if err == nil && strings.Contains(pods, ", ") {
			err = fmt.Errorf("there is still an old injector: %s", pods)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if err := l.resources.Create(ctx, web); err != nil {
		return "", err
	}
	e, err := l.awaitEvent(ctx, l.ns, "FailedCreate", "certificate has expired", 90*time.Second)
	if err != nil {
		return "", err
	}
	seen := e.InvolvedObject.Kind + " " + e.Reason + ": " + e.Message
	if err := secrets.Delete(ctx, injectorSecret, metav1.DeleteOptions{}); err != nil {
		return seen, err
	}
	if err := l.renewWebhook(ctx); err != nil {
		return seen, err
	}
	if err := l.ready(ctx, web); err != nil {
		return seen, err
	}
	return seen + "; with cert-manager's certificate: ready", nil
}

// renewWebhook has cert-manager make the injector's certificate again.
func (l *lab) renewWebhook(ctx context.Context) error {
	c, err := stack.ByName("mesh")
	if err != nil {
		return err
	}
	if err := c.Install(ctx, l.stack); err != nil {
		return err
	}
	if err := l.restartPlane(ctx, "linkerd-proxy-injector"); err != nil {
		return err
	}
	return c.Ready(ctx, l.stack)
}

// webhookCA is the CA that cert-manager signs the webhooks' certificates with.
func (w *world) webhookCA(ctx context.Context) (*authority, error) {
	secret, err := w.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh).Get(ctx, "linkerd-webhook-ca", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the webhooks' CA has no ECDSA key")
	}
	return &authority{cert: pair.Leaf, key: key}, nil
}

// expired makes a server's certificate that ended an hour ago.
func (a *authority) expired(name string) (cert, key []byte, err error) {
	own, err := newKey("P-256")
	if err != nil {
		return nil, nil, err
	}
	signed, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, own.Public())
	if err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(own)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Raw}), key, err
}
