package bundle

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func FuzzLoadFiles(f *testing.F) {
	seed := func(names ...string) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, n := range names {
			_ = w.WriteHeader(&tar.Header{Name: n, Mode: 0o644, Size: 2, Typeflag: tar.TypeReg})
			_, _ = w.Write([]byte("{}"))
		}
		_ = w.Close()
		return out.Bytes()
	}
	f.Add(seed(recordFile, "oci/index.json"))
	f.Add(seed(recordFile, "../outside"))
	f.Add(seed(recordFile, "/outside", "a/../../outside"))
	f.Add([]byte("no tar"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		parent := t.TempDir()
		_ = loadFiles(t.Context(), bytes.NewReader(stream), filepath.Join(parent, "in"))
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "in" {
				t.Fatalf("the stream wrote %s outside its folder", e.Name())
			}
		}
	})
}
