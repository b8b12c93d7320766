package admit

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// reread is how long a certificate that was read counts for the one on disk.
const reread = 5 * time.Second

// Certificate is the webhook's own, read again when it was replaced.
type Certificate struct {
	dir  string
	log  *slog.Logger
	now  func() time.Time
	sec1 bool // an ECDSA key may be in the form SEC 1

	mu   sync.Mutex
	cert *tls.Certificate
	read time.Time // when the disk was looked at
	told string    // what was wrong then
}

// NewCertificate reads tls.crt and tls.key of a folder.
func NewCertificate(dir string, log *slog.Logger) *Certificate {
	return &Certificate{dir: dir, log: log, now: time.Now, sec1: true}
}

// NewPolicyCertificate is NewCertificate for the policy controller. Linkerd's is
// another program than its other webhooks, and reads an ECDSA key in the form
// PKCS #8 alone: what would keep it from starting must not pass here.
func NewPolicyCertificate(dir string, log *slog.Logger) *Certificate {
	c := NewCertificate(dir, log)
	c.sec1 = false
	return c
}

func (c *Certificate) load() (*tls.Certificate, error) {
	chain, err := os.ReadFile(filepath.Join(c.dir, "tls.crt"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(c.dir, "tls.key"))
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(key); !c.sec1 && block != nil && block.Type == "EC PRIVATE KEY" {
		return nil, errors.New("tls.key is in the form SEC 1, and has to be in PKCS #8 (a Certificate's privateKey.encoding)")
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	return &cert, nil
}

// Get is the certificate to show. While a replacement cannot be read, the one
// before it stays.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && c.now().Sub(c.read) < reread {
		return c.cert, nil
	}
	cert, err := c.load()
	c.read = c.now()
	switch {
	case err == nil:
		c.cert, c.told = cert, ""
	case c.cert == nil:
		return nil, fmt.Errorf("read the webhook's certificate: %w", err)
	case err.Error() != c.told:
		c.told = err.Error()
		c.log.Warn("the new certificate cannot be read, the one before stays", "folder", c.dir, "error", err)
	}
	return c.cert, nil
}

// Config is TLS as API servers speak it to webhooks.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.Get, NextProtos: []string{"http/1.1"}}
}
