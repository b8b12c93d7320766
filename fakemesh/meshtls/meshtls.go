// Package meshtls is the mutual TLS of the mesh: TLS 1.3 with P-256, both
// sides showing a leaf whose one DNS name is a workload's identity.
package meshtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
)

// TransportProtocol is the ALPN name of connections that carry opaque bytes
// to the port named by a header in front of them.
const TransportProtocol = "transport.l5d.io/v1"

// ErrNoIdentity means that no certificate has been issued yet.
var ErrNoIdentity = errors.New("no certificate has been issued yet")

// Credentials holds the leaf that is valid now and the anchors that other
// leaves are verified against. Its methods may be called by many goroutines.
type Credentials struct {
	name  string
	roots *x509.CertPool
	leaf  atomic.Pointer[tls.Certificate]
}

// NewCredentials makes credentials without a leaf for the workload called name.
func NewCredentials(name string, roots *x509.CertPool) *Credentials {
	return &Credentials{name: name, roots: roots}
}

// Name is the workload's own identity.
func (c *Credentials) Name() string { return c.name }

// Roots are the anchors.
func (c *Credentials) Roots() *x509.CertPool { return c.roots }

// Leaf is the certificate in use, nil when there is none yet.
func (c *Credentials) Leaf() *tls.Certificate { return c.leaf.Load() }

// Set puts a new leaf to use for all handshakes that begin from now on.
// It refuses one that peers would refuse.
func (c *Credentials) Set(cert *tls.Certificate) error {
	if err := verifyLeaf(cert.Leaf, cert.Certificate[1:], c.roots, c.name); err != nil {
		return err
	}
	c.leaf.Store(cert)
	return nil
}

func verifyLeaf(leaf *x509.Certificate, chain [][]byte, roots *x509.CertPool, name string) error {
	between := x509.NewCertPool()
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse intermediate: %w", err)
		}
		between.AddCert(cert)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		DNSName: name, Roots: roots, Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("verify the certificate of %s: %w", name, err)
	}
	return nil
}

func base() *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.CurveP256},
		// Every handshake proves both identities anew.
		SessionTicketsDisabled: true,
		VerifyConnection:       onlyP256,
	}
}

// onlyP256 refuses a peer whose leaf has another key, whoever signed it.
func onlyP256(state tls.ConnectionState) error {
	if len(state.PeerCertificates) > 0 && !IsP256(state.PeerCertificates[0].PublicKey) {
		return errors.New("the key of the peer's certificate is not ECDSA P-256")
	}
	return nil
}

// Server is the side that is dialled: a client certificate of the mesh is required.
func (c *Credentials) Server() *tls.Config {
	cfg := base()
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.ClientCAs = c.roots
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		leaf := c.leaf.Load()
		if leaf == nil {
			return nil, ErrNoIdentity
		}
		return leaf, nil
	}
	return cfg
}

// Client is the side that dials: the peer must prove to be peer.
func (c *Credentials) Client(peer string, protocols ...string) *tls.Config {
	cfg := base()
	cfg.RootCAs = c.roots
	cfg.ServerName = peer
	cfg.NextProtos = protocols
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		leaf := c.leaf.Load()
		if leaf == nil {
			return nil, ErrNoIdentity
		}
		return leaf, nil
	}
	return cfg
}

// PeerName is the identity that the other side of a finished handshake proved.
func PeerName(state tls.ConnectionState) (string, error) {
	if len(state.PeerCertificates) == 0 {
		return "", errors.New("the peer showed no certificate")
	}
	names := state.PeerCertificates[0].DNSNames
	if len(names) != 1 {
		return "", fmt.Errorf("the peer's certificate has %d names, want one", len(names))
	}
	return names[0], nil
}

// ParseCertificates reads every certificate of a PEM text.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate in the PEM text")
	}
	return certs, nil
}

// ParseAnchors reads a trust bundle: one or more CA certificates in PEM.
func ParseAnchors(text []byte) (*x509.CertPool, error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("read the trust anchors: %w", err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		if !cert.IsCA {
			return nil, fmt.Errorf("trust anchor %q is not a CA", cert.Subject.CommonName)
		}
		pool.AddCert(cert)
	}
	return pool, nil
}

// IsP256 says whether key is an ECDSA public key on P-256.
func IsP256(key any) bool {
	pub, ok := key.(*ecdsa.PublicKey)
	return ok && pub.Curve == elliptic.P256()
}
