package identity

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"
)

// Watch calls Reload whenever the issuer's files change, until ctx ends. It
// reads them each interval: a kubelet swaps mounted Secrets by renaming a
// link, and reading is what no missed notification can break.
func (s *Service) Watch(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	seen := fingerprint(s.o.IssuerDir)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := fingerprint(s.o.IssuerDir)
		if now == seen {
			continue
		}
		// Half of a swap must not be taken for the new issuer.
		if again := fingerprint(s.o.IssuerDir); again != now {
			continue
		}
		seen = now
		s.Reload()
	}
}

func fingerprint(dir string) [32]byte {
	h := sha256.New()
	for _, name := range []string{"tls.crt", "tls.key"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			h.Write([]byte(err.Error()))
		}
		h.Write(text)
		h.Write([]byte{0})
	}
	return [32]byte(h.Sum(nil))
}
