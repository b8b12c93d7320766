package stack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// issuer lets cert-manager ask Vault for the mesh's identity issuer.
type issuer struct{}

func (issuer) Name() string { return "issuer" }

const (
	issuerAccount     = "vault-issuer" // cert-manager's account for Vault
	issuerTokenSecret = "vault-issuer-token"
	clusterIssuer     = "vault-linkerd"
	identityIssuer    = "linkerd-identity-issuer" // Certificate and Secret

	issuerDuration    = "2160h" // 90 days
	issuerRenewBefore = "168h"  // 7 days
)

func issuerManifest(vaultCA []byte) ([]byte, error) {
	return manifest("issuer.yaml", map[string]any{
		"Account": issuerAccount, "TokenSecret": issuerTokenSecret, "CertManagerNamespace": NamespaceCertManager,
		"Issuer": clusterIssuer, "Server": vaultAddress, "Path": pkiMount + "/root/sign-intermediate",
		"Role": issuerRole, "CABundle": base64.StdEncoding.EncodeToString(vaultCA),
	})
}

func identityManifest() ([]byte, error) {
	return manifest("identity-issuer.yaml", map[string]any{
		"Name": identityIssuer, "Namespace": NamespaceMesh, "TrustDomain": TrustDomain, "Issuer": clusterIssuer,
		"Duration": issuerDuration, "RenewBefore": issuerRenewBefore,
	})
}

func (i issuer) Install(ctx context.Context, env *Env) error {
	ca, err := vaultCA(ctx, env)
	if err != nil {
		return err
	}
	text, err := issuerManifest(ca)
	if err != nil {
		return err
	}
	if err := env.Kube.Apply(ctx, text, ""); err != nil {
		return err
	}
	// A Certificate whose first request is refused is not tried again for an
	// hour (failure mode C3), so the issuer comes first, and works.
	if err := waitIssuer(ctx, env, clusterIssuer); err != nil {
		return err
	}
	if err := ensureNamespace(ctx, env, NamespaceMesh); err != nil {
		return err
	}
	if err := dropFailedIdentity(ctx, env); err != nil {
		return err
	}
	text, err = identityManifest()
	if err != nil {
		return err
	}
	return env.Kube.Apply(ctx, text, "")
}

func waitIssuer(ctx context.Context, env *Env, name string) error {
	return until(ctx, "wait for ClusterIssuer "+name, 500*time.Millisecond, func(ctx context.Context) error {
		u, err := env.Kube.Dynamic.Resource(clusterIssuersAPI).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return conditionTrue(u, "Ready")
	})
}

// dropFailedIdentity deletes a Certificate that waits out a failure, so that
// applying it tries again at once.
func dropFailedIdentity(ctx context.Context, env *Env) error {
	certificates := env.Kube.Dynamic.Resource(certificatesAPI).Namespace(NamespaceMesh)
	u, err := certificates.Get(ctx, identityIssuer, metav1.GetOptions{})
	if err != nil {
		return ignoreNotFound(err)
	}
	failures, _, _ := unstructured.NestedInt64(u.Object, "status", "failedIssuanceAttempts")
	if failures == 0 || conditionTrue(u, "Ready") == nil {
		return nil
	}
	return ignoreNotFound(certificates.Delete(ctx, identityIssuer, metav1.DeleteOptions{}))
}

// Ready waits for the certificate and checks that the mesh can work with it.
func (issuer) Ready(ctx context.Context, env *Env) error {
	if err := waitCondition(ctx, env, certificatesAPI, NamespaceMesh, identityIssuer, "Ready"); err != nil {
		return err
	}
	anchor, err := TrustAnchor(ctx, env)
	if err != nil {
		return err
	}
	secret, err := env.Kube.Clientset.CoreV1().Secrets(NamespaceMesh).Get(ctx, identityIssuer, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read secret %s: %w", identityIssuer, err)
	}
	if err := checkIssuer(secret.Data["tls.crt"], anchor, time.Now()); err != nil {
		return fmt.Errorf("%s in namespace %s: %w", identityIssuer, NamespaceMesh, err)
	}
	return nil
}

// checkIssuer says what is wrong with an identity issuer's certificate: it must
// be a CA with a P-256 key, chain to the anchor, and live for the 90 days that
// were asked for.
func checkIssuer(certPEM, anchorPEM []byte, now time.Time) error {
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return errors.New("no certificate in tls.crt")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	if !cert.IsCA {
		return errors.New("the certificate is no CA")
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return fmt.Errorf("the key is %s, not ECDSA P-256", cert.PublicKeyAlgorithm)
	}
	want, err := time.ParseDuration(issuerDuration)
	if err != nil {
		return err
	}
	// Vault dates certificates back by 30 s, so that clocks may differ a little.
	if life := cert.NotAfter.Sub(cert.NotBefore); life < want || life > want+time.Hour {
		return fmt.Errorf("the certificate lives %s, not %s", life, want)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(anchorPEM) {
		return errors.New("the trust anchor is no certificate")
	}
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("the certificate does not chain to the trust anchor: %w", err)
	}
	return nil
}

// TrustAnchor returns the PEM of the mesh's trust anchor, read from Vault
// itself: the ca.crt beside a certificate may be an intermediate (failure mode C7).
func TrustAnchor(ctx context.Context, env *Env) ([]byte, error) {
	door, err := openVault(ctx, env)
	if err != nil {
		return nil, err
	}
	defer door.Close()
	anchor, err := door.Raw(ctx, pkiMount+"/ca/pem")
	if err != nil {
		return nil, fmt.Errorf("read the trust anchor: %w", err)
	}
	if block, _ := pem.Decode(anchor); block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("read the trust anchor: Vault's answer is no certificate")
	}
	return anchor, nil
}

// Remove takes the issuer's key away with everything else.
func (issuer) Remove(ctx context.Context, env *Env) error {
	text, err := identityManifest()
	if err != nil {
		return err
	}
	if err := env.Kube.Delete(ctx, text, ""); err != nil {
		return err
	}
	if text, err = issuerManifest(nil); err != nil {
		return err
	}
	if err := env.Kube.Delete(ctx, text, ""); err != nil {
		return err
	}
	return deleteSecrets(ctx, env, NamespaceMesh, identityIssuer)
}
