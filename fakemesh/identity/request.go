package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"

	"meshsim.dev/meshsim/fakemesh/meshtls"
)

// maxRequest bounds what is parsed for a caller that has proved nothing yet.
const maxRequest = 16 << 10

// checkRequest reads a certificate request and makes sure that it asks for
// name alone, with an ECDSA P-256 key that the caller holds.
func checkRequest(der []byte, name string) (*ecdsa.PublicKey, error) {
	if len(der) > maxRequest {
		return nil, fmt.Errorf("the certificate request has %d bytes, more than %d", len(der), maxRequest)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check the certificate request's signature: %w", err)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || !meshtls.IsP256(pub) {
		return nil, errors.New("the key of the certificate request is not ECDSA P-256")
	}
	if len(csr.DNSNames) != 1 || csr.DNSNames[0] != name {
		return nil, fmt.Errorf("the certificate request asks for %q, not for %q alone", csr.DNSNames, name)
	}
	if len(csr.IPAddresses)+len(csr.EmailAddresses)+len(csr.URIs) > 0 {
		return nil, errors.New("the certificate request asks for names that are no DNS names")
	}
	if cn := csr.Subject.CommonName; cn != "" && cn != name {
		return nil, fmt.Errorf("the certificate request's common name is %q", cn)
	}
	return pub, nil
}
