package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
)

func TestASavedBundleLoadsOnAMachineThatHasNothing(t *testing.T) {
	b, _ := builtTiny(t)
	var stream bytes.Buffer
	require.NoError(t, b.Save(t.Context(), &stream))
	var again bytes.Buffer
	require.NoError(t, b.Save(t.Context(), &again))
	require.Equal(t, stream.Bytes(), again.Bytes())

	d := cache.Dir(filepath.Join(t.TempDir(), "new"))
	loaded, err := Load(t.Context(), d, &stream)
	require.NoError(t, err)
	require.Equal(t, b.Hash, loaded.Hash)
	require.Equal(t, b.Images(), loaded.Images())
	require.Equal(t, filepath.Join(d.Bundles(), b.Hash), loaded.Dir)
	require.NoError(t, loaded.Verify(t.Context()))
	opened, err := Open(d, "")
	require.NoError(t, err)
	require.Equal(t, b.Hash, opened.Hash)
}

func TestADamagedStreamIsRefusedAndLeavesNothing(t *testing.T) {
	b, _ := builtTiny(t)
	var saved bytes.Buffer
	require.NoError(t, b.Save(t.Context(), &saved))
	whole := saved.Bytes()
	flip := func(at int) []byte {
		c := bytes.Clone(whole)
		c[at] ^= 1
		return c
	}
	blobs, err := filepath.Glob(filepath.Join(b.Dir, "oci/blobs/sha256/*"))
	require.NoError(t, err)
	var largest string
	var size int64
	for _, name := range blobs {
		if info, err := os.Stat(name); err == nil && info.Size() > size {
			largest, size = filepath.Base(name), info.Size()
		}
	}
	inBlob := bytes.Index(whole, []byte(largest)) + 4096
	for name, c := range map[string]struct {
		stream  []byte
		problem string
	}{
		"nothing":                  {nil, "read the stream"},
		"not a tar":                {bytes.Repeat([]byte("x"), 2048), "read the stream"},
		"cut off in a blob":        {whole[:len(whole)/2], "unexpected EOF"},
		"a changed blob":           {flip(inBlob), "has digest"},
		"a file outside":           {tarOf(t, recordFile, "{}", "../escaped", "x"), "has no place in a bundle"},
		"something before bundle":  {tarOf(t, "oci/index.json", "{}"), "not with bundle.json"},
		"one file twice":           {tarOf(t, recordFile, "{}", recordFile, "{}"), "file exists"},
		"a record of another kind": {tarOf(t, recordFile, `{"apiVersion":"v9"}`), `apiVersion "v9"`},
		"a hash that is a path":    {tarOf(t, recordFile, `{"apiVersion":"meshsim.dev/v1alpha1","hash":"../x"}`), "its hash"},
		"another processor":        {tarOf(t, recordFile, `{"apiVersion":"meshsim.dev/v1alpha1","hash":"x","architecture":"pdp11"}`), "made for pdp11"},
		"files missing":            {tarOf(t, recordFile, read(t, filepath.Join(b.Dir, recordFile))), "damaged"},
	} {
		d := cache.Dir(t.TempDir())
		_, err := Load(t.Context(), d, bytes.NewReader(c.stream))
		require.ErrorContains(t, err, c.problem, name)
		require.Equal(t, fault.Invalid, fault.KindOf(err), name)
		left, err := os.ReadDir(d.Bundles())
		require.NoError(t, err)
		require.Empty(t, left, name)
	}
}

func TestAnInterruptedLoadLeavesNothing(t *testing.T) {
	b, _ := builtTiny(t)
	var stream bytes.Buffer
	require.NoError(t, b.Save(t.Context(), &stream))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := cache.Dir(t.TempDir())
	_, err := Load(ctx, d, &stream)
	require.ErrorIs(t, err, context.Canceled)
	left, err := os.ReadDir(d.Bundles())
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestVerifyFindsEachKindOfDamage(t *testing.T) {
	good, _ := builtTiny(t)
	i := good.Images()[0]
	blob := func(digest string) string { return "oci/blobs/sha256/" + strings.TrimPrefix(digest, "sha256:") }
	for name, c := range map[string]struct {
		damage  func(dir string) error
		problem string
	}{
		"a changed blob": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, blob(i.Config)), []byte("{}"), 0o644)
		}, "has digest"},
		"a missing configuration": {func(dir string) error { return os.Remove(filepath.Join(dir, blob(i.Config))) }, "is missing or damaged"},
		"a missing manifest":      {func(dir string) error { return os.Remove(filepath.Join(dir, blob(i.Digest))) }, "manifest"},
		"a changed index": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "oci/index.json"), []byte("{}"), 0o644)
		}, "the image index has digest"},
		"no blobs at all": {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "oci/blobs")) }, "no such file"},
	} {
		dir := filepath.Join(t.TempDir(), good.Hash)
		require.NoError(t, os.CopyFS(dir, os.DirFS(good.Dir)))
		require.NoError(t, c.damage(dir))
		b, err := readFolder(dir)
		require.NoError(t, err)
		err = b.Verify(t.Context())
		require.ErrorContains(t, err, c.problem, name)
		require.Equal(t, fault.Environment, fault.KindOf(err), name)
	}
}

func TestVerifyChecksCharts(t *testing.T) {
	a := &assembly{dir: t.TempDir(), rec: record{APIVersion: recordVersion, Hash: "h"}}
	from := t.TempDir()
	put(t, filepath.Join(from, "templates/a.yaml"), "a: 1\n")
	require.NoError(t, a.addChart(Chart{Name: "some", Origin: OriginBuilt}, from))
	require.NoError(t, os.MkdirAll(filepath.Join(a.dir, "oci/blobs/sha256"), 0o755))
	require.NoError(t, a.finish())
	b, err := readFolder(a.dir)
	require.NoError(t, err)
	require.NoError(t, b.Verify(t.Context()))
	dir, err := b.Chart("some")
	require.NoError(t, err)
	put(t, filepath.Join(dir, "templates/b.yaml"), "b: 2\n")
	require.ErrorContains(t, b.Verify(t.Context()), "chart some: its files have digest")
}

func tarOf(t *testing.T, namesAndTexts ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(namesAndTexts); i += 2 {
		text := namesAndTexts[i+1]
		require.NoError(t, w.WriteHeader(&tar.Header{Name: namesAndTexts[i], Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}))
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(text)
}
