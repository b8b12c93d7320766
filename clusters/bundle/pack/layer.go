package pack

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Layer is one compressed layer in a folder of blobs.
type Layer struct {
	File   string  `json:"-"`      // where the compressed blob is
	Blob   v1.Hash `json:"digest"` // of the compressed blob
	Diff   v1.Hash `json:"diffID"` // of the tar stream inside
	Length int64   `json:"size"`   // bytes, compressed
}

var _ v1.Layer = Layer{}

// Digest implements v1.Layer.
func (l Layer) Digest() (v1.Hash, error) { return l.Blob, nil }

// DiffID implements v1.Layer.
func (l Layer) DiffID() (v1.Hash, error) { return l.Diff, nil }

// Size implements v1.Layer.
func (l Layer) Size() (int64, error) { return l.Length, nil }

// MediaType implements v1.Layer.
func (l Layer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

// Compressed implements v1.Layer.
func (l Layer) Compressed() (io.ReadCloser, error) { return os.Open(l.File) }

// Uncompressed implements v1.Layer.
func (l Layer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.File)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read layer %s: %w", l.Blob, err)
	}
	return &unzipped{Reader: z, file: f}, nil
}

type unzipped struct {
	*gzip.Reader
	file *os.File
}

func (u *unzipped) Close() error {
	err := u.Reader.Close()
	if cerr := u.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// How layers are compressed: for keeping, or not at all where the layer is
// unpacked again at once.
const (
	Compressed = gzip.BestSpeed
	Stored     = gzip.NoCompression
)

// WriteLayer packs entries into a layer blob below blobs/sha256.
func WriteLayer(blobs string, entries []Entry, level int) (Layer, error) {
	arranged, err := arrange(entries)
	if err != nil {
		return Layer{}, err
	}
	dir := filepath.Join(blobs, "sha256")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Layer{}, err
	}
	f, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return Layer{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	l, err := writeLayer(f, arranged, level)
	if err != nil {
		return Layer{}, fmt.Errorf("write a layer: %w", err)
	}
	if err := f.Chmod(0o644); err != nil {
		return Layer{}, err
	}
	if err := f.Close(); err != nil {
		return Layer{}, err
	}
	l.File = filepath.Join(dir, l.Blob.Hex)
	return l, os.Rename(f.Name(), l.File)
}

func writeLayer(w io.Writer, entries []Entry, level int) (Layer, error) {
	blob, diff := sha256.New(), sha256.New()
	count := &counter{}
	z, err := gzip.NewWriterLevel(io.MultiWriter(w, blob, count), level)
	if err != nil {
		return Layer{}, err
	}
	t := tar.NewWriter(io.MultiWriter(z, diff))
	inodes := map[uint64]string{}
	for _, e := range entries {
		if err := writeEntry(t, e, inodes); err != nil {
			return Layer{}, fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	if err := t.Close(); err != nil {
		return Layer{}, err
	}
	if err := z.Close(); err != nil {
		return Layer{}, err
	}
	return Layer{Blob: sum(blob), Diff: sum(diff), Length: count.n}, nil
}

func writeEntry(t *tar.Writer, e Entry, inodes map[uint64]string) error {
	h := &tar.Header{
		Name: strings.TrimPrefix(e.Path, "/"), Mode: unixMode(e.Mode), Uid: e.UID, Gid: e.GID,
		ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	}
	switch {
	case e.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
		return t.WriteHeader(h)
	case e.Mode.Type() == fs.ModeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Link
		return t.WriteHeader(h)
	}
	if first, linked := inodes[e.inode]; linked && e.inode != 0 {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return t.WriteHeader(h)
	}
	inodes[e.inode] = h.Name
	h.Typeflag, h.Size = tar.TypeReg, int64(len(e.Content))
	if e.Source == "" {
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := t.Write(e.Content)
		return err
	}
	f, err := os.Open(e.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = info.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

func unixMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for bit, flag := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			mode |= flag
		}
	}
	return mode
}

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
