// Package identity is the mesh's certificate authority: it signs the leaves of
// proxies with the issuer that cert-manager keeps in a Secret.
package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"meshsim.dev/meshsim/fakemesh/meshtls"
)

// Validity is how long leaves live.
type Validity struct {
	Lifetime  time.Duration // of a leaf
	ClockSkew time.Duration // allowance on both ends
}

// Scheme says under which names the issuer's Secret holds certificate and key.
type Scheme string

// The schemes of Linkerd's chart.
const (
	SchemeKubernetes Scheme = "kubernetes.io/tls"
	SchemeLinkerd    Scheme = "linkerd.io/tls"
)

// ParseScheme reads the value identity.issuer.scheme of the chart.
func ParseScheme(text string) (Scheme, error) {
	switch s := Scheme(text); s {
	case SchemeKubernetes, SchemeLinkerd:
		return s, nil
	default:
		return "", fmt.Errorf("%q is no issuer scheme: want %s or %s", text, SchemeKubernetes, SchemeLinkerd)
	}
}

// files are those of the certificate and of the key.
func (s Scheme) files() (cert, key string) {
	if s == SchemeLinkerd {
		return "crt.pem", "key.pem"
	}
	return "tls.crt", "tls.key"
}

// Issuer is a CA certificate with its key.
type Issuer struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // the issuer itself, then what leads to an anchor
}

// Certificate is the issuer's own.
func (i *Issuer) Certificate() *x509.Certificate { return i.cert }

// errUntrusted marks an issuer that is well made but leads to no anchor.
var errUntrusted = errors.New("the issuer does not chain to the trust anchors")

// LoadIssuer reads the files of a scheme in a folder and checks that it is a CA
// with an ECDSA P-256 key, valid now, that chains to roots.
func LoadIssuer(dir string, scheme Scheme, roots *x509.CertPool, skew time.Duration, now time.Time) (*Issuer, error) {
	certFile, keyFile := scheme.files()
	certPEM, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return nil, fmt.Errorf("read the issuer's certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("read the issuer's key: %w", err)
	}
	return ParseIssuer(certPEM, keyPEM, roots, skew, now)
}

// ParseIssuer does what LoadIssuer does with PEM texts.
func ParseIssuer(certPEM, keyPEM []byte, roots *x509.CertPool, skew time.Duration, now time.Time) (*Issuer, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read the issuer's key pair: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !meshtls.IsP256(&key.PublicKey) {
		return nil, errors.New("the issuer's key is not ECDSA P-256")
	}
	certs, err := meshtls.ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("read the issuer's certificate: %w", err)
	}
	cert := certs[0]
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("the issuer %q is not a CA that may sign certificates", cert.Subject.CommonName)
	}
	if now.Add(skew).Before(cert.NotBefore) {
		return nil, fmt.Errorf("the issuer is not valid before %s", cert.NotBefore.UTC().Format(time.RFC3339))
	}
	if now.After(cert.NotAfter) {
		return nil, fmt.Errorf("the issuer expired at %s", cert.NotAfter.UTC().Format(time.RFC3339))
	}
	issuer := &Issuer{cert: cert, key: key}
	between := x509.NewCertPool()
	for _, c := range certs {
		between.AddCert(c)
		// An anchor is no use to a peer, who trusts only its own.
		if c.Subject.String() != c.Issuer.String() {
			issuer.chain = append(issuer.chain, c.Raw)
		}
	}
	at := now
	if at.Before(cert.NotBefore) {
		at = cert.NotBefore
	}
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUntrusted, err)
	}
	return issuer, nil
}

// Sign makes a leaf for name and pub. It begins a clock skew ago and never
// outlives the issuer.
func (i *Issuer) Sign(name string, pub *ecdsa.PublicKey, v Validity, now time.Time) (*x509.Certificate, error) {
	if !now.Before(i.cert.NotAfter) {
		return nil, fmt.Errorf("the issuer expired at %s", i.cert.NotAfter.UTC().Format(time.RFC3339))
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	end := now.Add(v.Lifetime + v.ClockSkew)
	if end.After(i.cert.NotAfter) {
		end = i.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		DNSNames:     []string{name},
		NotBefore:    now.Add(-v.ClockSkew), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, pub, i.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", name, err)
	}
	return x509.ParseCertificate(der)
}
