package pack

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"
)

func TestTheSameEntriesInAnyOrderGiveTheSameLayer(t *testing.T) {
	a := []Entry{File("/b/c", 0o644, []byte("c")), File("/a", 0o755, []byte("a")), Dir("/b", 0o700), Symlink("/l", "a")}
	b := []Entry{Symlink("/l", "a"), Dir("/b", 0o700), File("/a", 0o755, []byte("a")), File("/b/c", 0o644, []byte("c"))}
	first, err := WriteLayer(t.TempDir(), a, Compressed)
	require.NoError(t, err)
	second, err := WriteLayer(t.TempDir(), b, Compressed)
	require.NoError(t, err)
	require.Equal(t, first.Blob, second.Blob)
	require.Equal(t, first.Diff, second.Diff)

	changed, err := WriteLayer(t.TempDir(), append(a, File("/d", 0o644, nil)), Compressed)
	require.NoError(t, err)
	require.NotEqual(t, first.Blob, changed.Blob)
}

func TestALayerHoldsFilesLinksModesAndOwners(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "one"), []byte("content"), 0o640))
	require.NoError(t, os.Chmod(filepath.Join(root, "one"), 0o640|fs.ModeSetuid))
	require.NoError(t, os.Link(filepath.Join(root, "one"), filepath.Join(root, "two")))
	require.NoError(t, os.Symlink("one", filepath.Join(root, "link")))
	require.NoError(t, os.Mkdir(filepath.Join(root, "left-out"), 0o755))
	entries, err := Tree(root, "/opt", func(p string) bool { return p == "/opt/left-out" })
	require.NoError(t, err)
	l, err := WriteLayer(t.TempDir(), entries, Compressed)
	require.NoError(t, err)

	found := map[string]*tar.Header{}
	r, err := l.Uncompressed()
	require.NoError(t, err)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Zero(t, h.ModTime.Unix(), h.Name)
		found[h.Name] = h
	}
	require.Len(t, found, 4)
	require.Equal(t, byte(tar.TypeDir), found["opt/"].Typeflag)
	require.Equal(t, int64(0o4640), found["opt/one"].Mode)
	require.Equal(t, os.Getuid(), found["opt/one"].Uid)
	require.Equal(t, "opt/one", found["opt/two"].Linkname)
	require.Equal(t, byte(tar.TypeLink), found["opt/two"].Typeflag)
	require.Equal(t, "one", found["opt/link"].Linkname)
}

func TestWrongEntriesAreRefused(t *testing.T) {
	for name, entries := range map[string][]Entry{
		"a relative path":              {File("a", 0o644, nil)},
		"a path that is not clean":     {File("/a/../b", 0o644, nil)},
		"the root itself":              {Dir("/", 0o755)},
		"one path twice":               {File("/a", 0o644, nil), Symlink("/a", "b")},
		"a file below a file":          {File("/a", 0o644, nil), File("/a/b", 0o644, nil)},
		"a source that does not exist": {Copy("/a", 0o644, "/does/not/exist")},
	} {
		dir := t.TempDir()
		_, err := WriteLayer(dir, entries, Compressed)
		require.Error(t, err, name)
		left, _ := filepath.Glob(filepath.Join(dir, "sha256", "*"))
		require.Empty(t, left, name)
	}
}

func TestAnImageIsValidAndTheSameTwice(t *testing.T) {
	digests := map[v1.Hash]bool{}
	for range 2 {
		dir := t.TempDir()
		blobs := filepath.Join(dir, "blobs")
		l, err := WriteLayer(blobs, []Entry{File("/app", 0o755, []byte(strings.Repeat("app", 1000)))}, Compressed)
		require.NoError(t, err)
		img, err := NewImage(Config{Entrypoint: []string{"/app"}, Env: []string{"A=b"}, User: "1000", StopSignal: "SIGINT"}, l)
		require.NoError(t, err)
		require.NoError(t, validate.Image(img))
		d, err := WriteBlobs(blobs, img)
		require.NoError(t, err)
		digests[d.Digest] = true

		index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{d}})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644))
		p, err := layout.FromPath(dir)
		require.NoError(t, err)
		read, err := p.Image(d.Digest)
		require.NoError(t, err)
		require.NoError(t, validate.Image(read))
		file, err := read.ConfigFile()
		require.NoError(t, err)
		require.Equal(t, "linux", file.OS)
		require.Equal(t, []string{"/app"}, file.Config.Entrypoint)
		require.Equal(t, "SIGINT", file.Config.StopSignal)
		require.Equal(t, "1000", file.Config.User)
		require.Zero(t, file.Created.Unix())
	}
	require.Len(t, digests, 1)
}

func TestABlobWithTheWrongDigestIsNotStored(t *testing.T) {
	dir := t.TempDir()
	h, err := v1.NewHash("sha256:" + strings.Repeat("0", 64))
	require.NoError(t, err)
	err = copyChecked(filepath.Join(dir, h.Hex), h, strings.NewReader("something else"))
	require.ErrorContains(t, err, "not sha256:0000")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}
