// Package meshtest makes certificates for the tests of the mesh.
package meshtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshtls"
)

// CA is a certificate that signs, with its key.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	// Chain is what leads from Cert to a root, Cert first, without the root.
	Chain [][]byte
}

// Spec changes what is made; zero values mean the usual.
type Spec struct {
	Key       crypto.Signer // ECDSA P-256
	NotBefore time.Time     // an hour ago
	NotAfter  time.Time     // in a day
	NotCA     bool
}

// Root makes a self-signed CA.
func Root(t testing.TB, name string) *CA { return make1(t, name, nil, Spec{}) }

// Issue makes an intermediate CA.
func (ca *CA) Issue(t testing.TB, name string, s Spec) *CA { return make1(t, name, ca, s) }

func make1(t testing.TB, name string, parent *CA, s Spec) *CA {
	t.Helper()
	if s.Key == nil {
		s.Key = Key(t)
	}
	if s.NotBefore.IsZero() {
		s.NotBefore = time.Now().Add(-time.Hour)
	}
	if s.NotAfter.IsZero() {
		s.NotAfter = time.Now().Add(24 * time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: s.NotBefore, NotAfter: s.NotAfter,
		IsCA: !s.NotCA, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	signer, signedBy := s.Key, template
	if parent != nil {
		signer, signedBy = parent.Key, parent.Cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signedBy, s.Key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	made := &CA{Cert: cert, Key: s.Key}
	if parent != nil {
		made.Chain = append([][]byte{der}, parent.Chain...)
	}
	return made
}

// Key makes an ECDSA P-256 key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n.Add(n, big.NewInt(1))
}

// Leaf makes a workload's certificate.
func (ca *CA) Leaf(t testing.TB, name string, life time.Duration) *tls.Certificate {
	t.Helper()
	return ca.LeafFor(t, Key(t), life, name)
}

// LeafFor makes a certificate of key for any number of names.
func (ca *CA) LeafFor(t testing.TB, key crypto.Signer, life time.Duration, names ...string) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(t), DNSNames: names,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, ca.Chain...), PrivateKey: key, Leaf: leaf}
}

// Pool holds the CA alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// Credentials are ready to use, trusting this CA.
func (ca *CA) Credentials(t testing.TB, name string) *meshtls.Credentials {
	t.Helper()
	c := meshtls.NewCredentials(name, ca.Pool())
	if err := c.Set(ca.Leaf(t, name, time.Hour)); err != nil {
		t.Fatal(err)
	}
	return c
}

// PEM are the certificate and its key as a Secret holds them; the chain
// follows the certificate.
func (ca *CA) PEM(t testing.TB) (cert, key []byte) {
	t.Helper()
	chain := ca.Chain
	if len(chain) == 0 {
		chain = [][]byte{ca.Cert.Raw}
	}
	for _, der := range chain {
		cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
