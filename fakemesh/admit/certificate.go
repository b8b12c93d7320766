package admit

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// reread is how long a certificate that was read counts for the one on disk.
const reread = 5 * time.Second

// Certificate is the webhook's own, read again when it was replaced.
type Certificate struct {
	dir string
	now func() time.Time

	mu   sync.Mutex
	cert *tls.Certificate
	read time.Time
}

// NewCertificate reads tls.crt and tls.key of a folder.
func NewCertificate(dir string) *Certificate { return &Certificate{dir: dir, now: time.Now} }

// Get is the certificate to show. While a replacement cannot be read, the one
// before it stays.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && c.now().Sub(c.read) < reread {
		return c.cert, nil
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(c.dir, "tls.crt"), filepath.Join(c.dir, "tls.key"))
	if err == nil {
		c.cert, c.read = &cert, c.now()
	}
	if c.cert == nil {
		return nil, fmt.Errorf("read the webhook's certificate: %w", err)
	}
	return c.cert, nil
}

// Config is TLS as API servers speak it to webhooks.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.Get, NextProtos: []string{"http/1.1"}}
}
