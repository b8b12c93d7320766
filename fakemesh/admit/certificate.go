package admit

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// reread is how long a certificate that was read counts for the one on disk.
const reread = 5 * time.Second

// Certificate is the webhook's own, read again when it was replaced.
type Certificate struct {
	dir string
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	cert *tls.Certificate
	read time.Time // when the disk was looked at
	told string    // what was wrong then
}

// NewCertificate reads tls.crt and tls.key of a folder.
func NewCertificate(dir string, log *slog.Logger) *Certificate {
	return &Certificate{dir: dir, log: log, now: time.Now}
}

// Get is the certificate to show. While a replacement cannot be read, the one
// before it stays.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && c.now().Sub(c.read) < reread {
		return c.cert, nil
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(c.dir, "tls.crt"), filepath.Join(c.dir, "tls.key"))
	c.read = c.now()
	switch {
	case err == nil:
		c.cert, c.told = &cert, ""
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
