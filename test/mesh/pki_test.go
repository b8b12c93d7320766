//go:build conformance

package mesh

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"meshsim.dev/meshsim/clusters/stack"
)

// authority is a CA of the suite's own: a trust anchor, or an issuer below one.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// validity is when a certificate begins and ends.
type validity struct{ from, until time.Time }

func lasting(d time.Duration) validity {
	return validity{time.Now().Add(-time.Minute), time.Now().Add(d)}
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "RSA":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "P-384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
}

// newAnchor makes a root; its name tells it from others of the run.
func newAnchor(name string) (*authority, error) {
	return newAuthority(nil, name, "P-256", lasting(24*time.Hour))
}

// issuer makes an issuer below an anchor. Its name is the one that the mesh's
// identity service wants of an issuer.
func (a *authority) issuer(key string, v validity) (*authority, error) {
	return newAuthority(a, "identity.linkerd."+trustDomain, key, v)
}

func newAuthority(parent *authority, name, kind string, v validity) (*authority, error) {
	key, err := newKey(kind)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: v.from, NotAfter: v.until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = &authority{cert: template, key: key}
	}
	cert, err := parent.sign(template, key.Public())
	return &authority{cert: cert, key: key}, err
}

func (a *authority) sign(template *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *authority) certPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) keyPEM() ([]byte, error) { return keyPEM(a.key) }

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parsePEM reads certificates, at least one.
func parsePEM(text []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return all, nil
}

// verify holds a chain, leaf first, against anchors.
func verify(chain []*x509.Certificate, anchors []byte, o x509.VerifyOptions) error {
	o.Roots, o.Intermediates = x509.NewCertPool(), x509.NewCertPool()
	o.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	if !o.Roots.AppendCertsFromPEM(anchors) {
		return errors.New("the anchors hold no certificate")
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	return err
}

func keyKind(c *x509.Certificate) string {
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
		return "ECDSA " + key.Curve.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

// anchors are those of the mesh's ConfigMap, as PEM.
func (w *world) anchors(ctx context.Context) ([]byte, error) {
	c, err := w.kube.Clientset.CoreV1().ConfigMaps(stack.NamespaceMesh).Get(ctx, "linkerd-identity-trust-roots", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	bundle := c.Data["ca-bundle.crt"]
	if bundle == "" {
		return nil, fmt.Errorf("config map %s has no ca-bundle.crt", c.Name)
	}
	return []byte(bundle), nil
}

const issuerName = "linkerd-identity-issuer"

func (w *world) issuerSecret(ctx context.Context) (*corev1.Secret, error) {
	return w.kube.Clientset.CoreV1().Secrets(stack.NamespaceMesh).Get(ctx, issuerName, metav1.GetOptions{})
}

func join(pems ...[]byte) string { return string(bytes.Join(pems, nil)) }
