package loopmesh

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"meshsim.dev/meshsim/fakemesh/identity"
	"meshsim.dev/meshsim/fakemesh/meshid"
	"meshsim.dev/meshsim/fakemesh/meshtls"
)

// authority is an anchor and, below it, the issuer, as cert-manager keeps them.
type authority struct {
	anchor *x509.Certificate
	chain  [][]byte // the issuer's certificate
	issuer *identity.Issuer
	dir    string // tls.crt and tls.key, for the identity service
}

// caLife is longer than any run.
const caLife = 24 * time.Hour

func newAuthority(dir string) (*authority, error) {
	anchor, anchorKey, err := makeCA("anchor", nil, nil)
	if err != nil {
		return nil, err
	}
	cert, key, err := makeCA("issuer", anchor, anchorKey)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("pack the issuer's key: %w", err)
	}
	certPEM, keyPEM := packCertificate(cert), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for name, text := range map[string][]byte{"tls.crt": certPEM, "tls.key": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return nil, fmt.Errorf("write the issuer: %w", err)
		}
	}
	a := &authority{anchor: anchor, chain: [][]byte{cert.Raw}, dir: dir}
	a.issuer, err = identity.ParseIssuer(certPEM, keyPEM, a.roots(), 0, time.Now())
	return a, err
}

func packCertificate(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

func makeCA(name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the key of the %s: %w", name, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("make the certificate of the %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.anchor)
	return pool
}

// leaf makes a certificate that is good for the whole run.
func (a *authority) leaf(name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	cert, err := a.issuer.Sign(name, &key.PublicKey, identity.Validity{Lifetime: caLife, ClockSkew: time.Minute}, time.Now())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: append([][]byte{cert.Raw}, a.chain...), PrivateKey: key, Leaf: cert}, nil
}

// credentials are those of a service of the control plane.
func (a *authority) credentials(name string) (*meshtls.Credentials, error) {
	cert, err := a.leaf(name)
	if err != nil {
		return nil, err
	}
	c := meshtls.NewCredentials(name, a.roots())
	return c, c.Set(cert)
}

// anyToken takes a token for the name of the service account that shows it.
type anyToken struct{}

func (anyToken) TokenReview(_ context.Context, token, _ string) (string, error) {
	return "system:serviceaccount:" + Namespace + ":" + token, nil
}

// untold drops the events of the identity service.
type untold struct{}

func (untold) Issuer(bool, string, string) {}
func (untold) Issued(meshid.ID, string)    {}
