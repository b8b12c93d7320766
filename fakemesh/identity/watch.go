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
	read := func() [32]byte { return fingerprint(s.o.IssuerDir, s.o.Scheme) }
	seen := read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := read()
		if now == seen {
			continue
		}
		// Half of a swap must not be taken for the new issuer.
		if again := read(); again != now {
			continue
		}
		seen = now
		s.Reload()
	}
}

func fingerprint(dir string, scheme Scheme) [32]byte {
	h := sha256.New()
	cert, key := scheme.files()
	for _, name := range []string{cert, key} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			h.Write([]byte(err.Error()))
		}
		h.Write(text)
		h.Write([]byte{0})
	}
	return [32]byte(h.Sum(nil))
}
