package stack

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func webhookConfiguration(kind, plural, bundle string) (string, object) {
	client := object{"service": object{"name": "w", "namespace": "n"}}
	if bundle != "" {
		client["caBundle"] = bundle
	}
	return "/apis/admissionregistration.k8s.io/v1/" + plural + "/cert-manager-webhook", object{
		"kind": kind, "apiVersion": "admissionregistration.k8s.io/v1", "metadata": object{"name": "cert-manager-webhook"},
		"webhooks": []any{object{"name": "webhook.cert-manager.io", "clientConfig": client}}}
}

func TestCertManagerIsReadyWhenItsWebhookTakesAnIssuer(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"cert-manager", "cert-manager-webhook", "cert-manager-cainjector"} {
		b.cluster.put(workloadReady("Deployment", NamespaceCertManager, name))
	}
	b.cluster.put(webhookConfiguration("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "Q0E="))
	b.cluster.put(webhookConfiguration("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", ""))
	b.cluster.dryRun = func(string, object) (object, error) {
		return nil, errors.New("x509: certificate signed by unknown authority")
	}
	b.Env.patience = 2 * time.Second
	c := reported{Component: certManager{}}
	require.ErrorContains(t, c.Ready(t.Context(), b.Env), "mutating webhook webhook.cert-manager.io has no CA yet")
	b.cluster.put(webhookConfiguration("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "Q0E="))
	require.ErrorContains(t, c.Ready(t.Context(), b.Env), "certificate signed by unknown authority", "pods alone are not enough")
	b.cluster.dryRun = nil
	b.Env.patience = 10 * time.Second
	require.NoError(t, c.Ready(t.Context(), b.Env))
}

func TestRemovingCertManagerTakesWhatItMadeItself(t *testing.T) {
	b := newBench(t)
	require.NoError(t, ensureNamespace(t.Context(), b.Env, NamespaceCertManager))
	b.cluster.put("/api/v1/namespaces/cert-manager/secrets/cert-manager-webhook-ca", object{"kind": "Secret"})
	b.cluster.put("/apis/coordination.k8s.io/v1/namespaces/cert-manager/leases/cert-manager-controller", object{"kind": "Lease"})
	for range 2 {
		require.NoError(t, certManager{}.Remove(t.Context(), b.Env))
	}
	require.Equal(t, []string{"/api/v1/namespaces/cert-manager", "/api/v1/namespaces/vault/secrets/vault-tls"}, b.cluster.paths())
}
