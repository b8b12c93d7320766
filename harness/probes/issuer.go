package probes

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"meshsim.dev/meshsim/clusters/stack"
	"meshsim.dev/meshsim/results"
)

const (
	meshNamespace   = stack.NamespaceMesh
	issuerName      = "linkerd-identity-issuer" // the Certificate and its Secret
	trustRootsName  = "linkerd-identity-trust-roots"
	trustRootsKey   = "ca-bundle.crt"
	issuerSecretKey = "tls.crt"
)

var certificates = schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}

// Issuer reads the issuer's certificate as the mesh holds it, when
// cert-manager means to renew it, and whether it chains to the anchors that
// the proxies trust: the ConfigMap's, because the Secret's ca.crt may be
// another (failure modes I3, C7).
func Issuer(ctx context.Context, client kubernetes.Interface, dyn dynamic.Interface) (results.Issuer, error) {
	secret, err := client.CoreV1().Secrets(meshNamespace).Get(ctx, issuerName, metav1.GetOptions{})
	if err != nil {
		return results.Issuer{}, fmt.Errorf("read the issuer's Secret: %w", err)
	}
	chain, err := parseCertificates(secret.Data[issuerSecretKey])
	if err != nil {
		return results.Issuer{}, fmt.Errorf("read Secret %s/%s key %s: %w", meshNamespace, issuerName, issuerSecretKey, err)
	}
	anchors, err := trustAnchors(ctx, client)
	if err != nil {
		return results.Issuer{}, err
	}
	cert, err := dyn.Resource(certificates).Namespace(meshNamespace).Get(ctx, issuerName, metav1.GetOptions{})
	if err != nil {
		return results.Issuer{}, fmt.Errorf("read Certificate %s/%s: %w", meshNamespace, issuerName, err)
	}
	seen := describeIssuer(chain, anchors, time.Now())
	if err := readRenewal(cert, &seen); err != nil {
		return results.Issuer{}, fmt.Errorf("read Certificate %s/%s: %w", meshNamespace, issuerName, err)
	}
	return seen, nil
}

// describeIssuer describes the first certificate of the chain; now is the
// instant at which the chain must hold.
func describeIssuer(chain, anchors []*x509.Certificate, now time.Time) results.Issuer {
	leaf := chain[0]
	isCA := leaf.IsCA && leaf.KeyUsage&x509.KeyUsageCertSign != 0
	err := verifyChain(chain, anchors, now)
	chains := err == nil
	seen := results.Issuer{
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, IsCA: &isCA,
		KeyAlgorithm: leaf.PublicKeyAlgorithm.String(), ChainsToAnchor: &chains,
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
		seen.Curve = key.Curve.Params().Name
	}
	return seen
}

// verifyChain tells why the first certificate does not lead to an anchor.
func verifyChain(chain, anchors []*x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range anchors {
		roots.AddCert(a)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

func readRenewal(cert *unstructured.Unstructured, into *results.Issuer) error {
	text, found, err := unstructured.NestedString(cert.Object, "spec", "renewBefore")
	if err != nil || !found {
		return errors.Join(errors.New("spec.renewBefore is not set"), err)
	}
	before, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("spec.renewBefore: %w", err)
	}
	text, found, err = unstructured.NestedString(cert.Object, "status", "renewalTime")
	if err != nil || !found {
		return errors.Join(errors.New("status.renewalTime is not set"), err)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return fmt.Errorf("status.renewalTime: %w", err)
	}
	into.RenewBeforeSeconds, into.RenewalTime = int64(before.Seconds()), at
	return nil
}

// parseCertificates reads one PEM certificate or more, in order.
func parseCertificates(raw []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(raw)
		if block == nil {
			break
		}
		raw = rest
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return certs, nil
}
