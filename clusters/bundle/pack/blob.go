package pack

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// copyChecked writes r to name when its digest is h; otherwise nothing is left.
func copyChecked(name string, h v1.Hash, r io.Reader) error {
	f, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	defer os.Remove(name + ".part")
	defer f.Close()
	s := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, s), r); err != nil {
		return err
	}
	if got := hex.EncodeToString(s.Sum(nil)); got != h.Hex {
		return fmt.Errorf("digest is sha256:%s, not %s", got, h)
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}
