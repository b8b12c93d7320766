package stack

import (
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheIssuerAsksVaultForAnIntermediate(t *testing.T) {
	b := newBench(t)
	require.NoError(t, issuer{}.Install(t.Context(), b.Env))
	spec := b.cluster.get("/apis/cert-manager.io/v1/clusterissuers/vault-linkerd")["spec"].(object)["vault"].(object)
	require.Equal(t, "https://vault.vault.svc:8200", spec["server"])
	require.Equal(t, "pki/root/sign-intermediate", spec["path"])
	require.Equal(t, base64.StdEncoding.EncodeToString(b.vault.ca), spec["caBundle"])
	require.Equal(t, object{"mountPath": "/v1/auth/kubernetes", "role": "cert-manager",
		"secretRef": object{"name": "vault-issuer-token", "key": "token"}}, spec["auth"].(object)["kubernetes"])
	token := b.cluster.get("/api/v1/namespaces/cert-manager/secrets/vault-issuer-token")
	require.Equal(t, "kubernetes.io/service-account-token", token["type"])
	require.Equal(t, "vault-issuer", token["metadata"].(object)["annotations"].(object)["kubernetes.io/service-account.name"])

	c := b.cluster.get("/apis/cert-manager.io/v1/namespaces/linkerd/certificates/linkerd-identity-issuer")["spec"].(object)
	require.Equal(t, true, c["isCA"])
	require.Equal(t, "2160h", c["duration"])
	require.Equal(t, "168h", c["renewBefore"])
	require.Equal(t, "identity.linkerd.cluster.local", c["commonName"])
	require.Equal(t, object{"algorithm": "ECDSA", "size": 256.0, "rotationPolicy": "Always"}, c["privateKey"])
	require.Equal(t, object{"kind": "ClusterIssuer", "name": "vault-linkerd"}, c["issuerRef"])

	require.NoError(t, issuer{}.Install(t.Context(), b.Env), "installing is idempotent")
}

func TestACertificateThatWaitsOutAFailureIsMadeAnew(t *testing.T) {
	path := "/apis/cert-manager.io/v1/namespaces/linkerd/certificates/linkerd-identity-issuer"
	tests := map[string]struct {
		failures int
		ready    string
		deleted  bool
	}{
		"failed and not ready":    {2, "False", true},
		"ready after all":         {1, "True", false},
		"still at its first time": {0, "False", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.cluster.put(path, object{"kind": "Certificate", "apiVersion": "cert-manager.io/v1", "metadata": object{"name": identityIssuer},
				"status": object{"failedIssuanceAttempts": tc.failures, "conditions": []any{object{"type": "Ready", "status": tc.ready}}}})
			require.NoError(t, dropFailedIdentity(t.Context(), b.Env))
			require.Equal(t, tc.deleted, b.cluster.get(path) == nil)
		})
	}
}

func TestCheckIssuer(t *testing.T) {
	const days90 = 2160 * time.Hour
	anchor, anchorKey := testCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: trustAnchorName}, IsCA: true, BasicConstraintsValid: true}, nil, nil, 2*days90)
	other, _ := testCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: trustAnchorName}, IsCA: true, BasicConstraintsValid: true}, nil, nil, 2*days90)
	sign := func(curve elliptic.Curve, ca bool, life time.Duration) []byte {
		c, _ := testCertificateWith(t, curve, &x509.Certificate{Subject: pkix.Name{CommonName: "identity"}, IsCA: ca, BasicConstraintsValid: true}, anchor, anchorKey, life)
		return pemOf(c)
	}
	tests := map[string]struct {
		cert, anchor []byte
		err          string
	}{
		"what Linkerd wants":          {sign(elliptic.P256(), true, days90), pemOf(anchor), ""},
		"a leaf (C6)":                 {sign(elliptic.P256(), false, days90), pemOf(anchor), "the certificate is no CA"},
		"another curve (I9)":          {sign(elliptic.P384(), true, days90), pemOf(anchor), "not ECDSA P-256"},
		"cut to 30 days by the mount": {sign(elliptic.P256(), true, 720*time.Hour), pemOf(anchor), "lives 720h0m30s, not 2160h0m0s"},
		"another root (C7)":           {sign(elliptic.P256(), true, days90), pemOf(other), "does not chain to the trust anchor"},
		"no certificate":              {[]byte("x"), pemOf(anchor), "no certificate in tls.crt"},
		"no anchor":                   {sign(elliptic.P256(), true, days90), []byte("x"), "the trust anchor is no certificate"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := checkIssuer(tc.cert, tc.anchor, time.Now())
			if tc.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.err)
		})
	}
}

func FuzzCheckIssuer(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []byte("x"))
	f.Fuzz(func(t *testing.T, cert, anchor []byte) {
		if checkIssuer(cert, anchor, time.Now()) == nil && len(cert) == 0 {
			t.Fatal("nothing passed as an issuer")
		}
	})
}

func TestTheTrustAnchorIsVaultsOwn(t *testing.T) {
	b := newBench(t)
	anchor, err := TrustAnchor(t.Context(), b.Env)
	require.NoError(t, err)
	require.Equal(t, b.vault.anchor, anchor)
	b.vault.anchor = []byte("<html>")
	_, err = TrustAnchor(t.Context(), b.Env)
	require.ErrorContains(t, err, "Vault's answer is no certificate")
}

func TestTheIssuerIsNotReadyWithAnotherRootsCertificate(t *testing.T) {
	b := newBench(t)
	require.NoError(t, issuer{}.Install(t.Context(), b.Env))
	anchor, key := testCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: trustAnchorName}, IsCA: true, BasicConstraintsValid: true}, nil, nil, 9999*time.Hour)
	c, _ := testCertificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "identity"}, IsCA: true, BasicConstraintsValid: true}, anchor, key, 2160*time.Hour)
	b.cluster.put("/api/v1/namespaces/linkerd/secrets/linkerd-identity-issuer", object{"kind": "Secret", "apiVersion": "v1",
		"data": object{"tls.crt": base64.StdEncoding.EncodeToString(pemOf(c))}})
	require.ErrorContains(t, issuer{}.Ready(t.Context(), b.Env), "does not chain to the trust anchor")
	b.vault.anchor = pemOf(anchor)
	require.NoError(t, issuer{}.Ready(t.Context(), b.Env))
}

func TestRemovingTheIssuerTakesItsKey(t *testing.T) {
	b := newBench(t)
	require.NoError(t, issuer{}.Install(t.Context(), b.Env))
	b.cluster.put("/api/v1/namespaces/linkerd/secrets/linkerd-identity-issuer", object{"kind": "Secret"})
	for range 2 {
		require.NoError(t, issuer{}.Remove(t.Context(), b.Env))
	}
	require.Equal(t, []string{"/api/v1/namespaces/linkerd", "/api/v1/namespaces/vault/secrets/vault-tls"}, b.cluster.paths())
}
