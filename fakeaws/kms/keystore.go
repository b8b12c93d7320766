package kms

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

const (
	stateFile    = "kms-key.json"
	materialSize = 32
	keyIDSize    = 36 // a UUID in its text form
)

// Key is one symmetric customer key. Its material never leaves the package.
type Key struct {
	ID      string // a UUID
	Created time.Time

	material [materialSize]byte
}

// storedKey is the key as written to the state folder.
type storedKey struct {
	Version  int       `json:"version"`
	ID       string    `json:"id"`
	Created  time.Time `json:"created"`
	Material []byte    `json:"material"`
}

// OpenKey reads the key kept in dir, or makes one at the first start. The
// file is readable by its owner alone. A file that is there but unreadable is
// an error, never a reason for a new key: what the old one sealed would be lost.
func OpenKey(dir string, now func() time.Time) (*Key, error) {
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return createKey(dir, now().UTC().Truncate(time.Second))
	}
	if err != nil {
		return nil, fmt.Errorf("read the key file: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return key, nil
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// parseKey reads a key file. Its errors never hold any of the content.
func parseKey(data []byte) (*Key, error) {
	var s storedKey
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, errors.New("is not the JSON this program writes")
	}
	switch {
	case s.Version != 1:
		return nil, fmt.Errorf("has version %d, want 1", s.Version)
	case !uuidForm.MatchString(s.ID):
		return nil, errors.New("has no valid key id")
	case len(s.Material) != materialSize:
		return nil, fmt.Errorf("holds %d bytes of material, want %d", len(s.Material), materialSize)
	}
	k := &Key{ID: s.ID, Created: s.Created}
	copy(k.material[:], s.Material)
	return k, nil
}

func createKey(dir string, created time.Time) (*Key, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	k := &Key{ID: newUUID(), Created: created}
	rand.Read(k.material[:])
	data, err := json.Marshal(storedKey{Version: 1, ID: k.ID, Created: created, Material: k.material[:]})
	if err != nil {
		return nil, fmt.Errorf("encode the key file: %w", err)
	}
	if err := writeOnce(filepath.Join(dir, stateFile), data); err != nil {
		return nil, fmt.Errorf("write the key file: %w", err)
	}
	return k, nil
}

// writeOnce makes path appear whole or not at all, also over a power cut.
func writeOnce(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), stateFile+".*") // CreateTemp gives mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// newUUID returns a random version 4 UUID.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
