package bundle

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
)

// Save writes the bundle to w as one tar stream that Load reads.
func (b *Bundle) Save(ctx context.Context, w io.Writer) error {
	t := tar.NewWriter(w)
	// The record goes first: it tells Load what is coming.
	if err := saveFile(t, b.Dir, recordFile); err != nil {
		return fmt.Errorf("save the bundle: %w", err)
	}
	err := filepath.WalkDir(b.Dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(b.Dir, p)
		if err != nil || rel == recordFile {
			return err
		}
		return saveFile(t, b.Dir, filepath.ToSlash(rel))
	})
	if err != nil {
		return fmt.Errorf("save the bundle: %w", err)
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("save the bundle: %w", err)
	}
	return nil
}

func saveFile(t *tar.Writer, root, rel string) error {
	f, err := os.Open(filepath.Join(root, rel))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: rel, Mode: 0o644, Size: info.Size(), Format: tar.FormatPAX}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// Load reads what Save wrote into the cache, verifies it and makes it the
// current bundle. Nothing stays of a stream that is cut off or damaged; the
// error is a fault.Invalid then.
func Load(ctx context.Context, d cache.Dir, r io.Reader) (*Bundle, error) {
	release, err := lockCache(ctx, d, nil)
	if err != nil {
		return nil, fmt.Errorf("load a bundle: %w", err)
	}
	defer release()
	temp, err := os.MkdirTemp(d.Bundles(), ".loading-*")
	if err != nil {
		return nil, fmt.Errorf("load a bundle: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := loadFiles(ctx, r, temp); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("load a bundle: %w", err)
		}
		return nil, notABundle(err)
	}
	b, err := readFolder(temp)
	if err != nil {
		return nil, notABundle(err)
	}
	if !filepath.IsLocal(b.Hash) || strings.ContainsAny(b.Hash, `/\.`) {
		return nil, notABundle(fmt.Errorf("its hash %q is none", b.Hash))
	}
	if b.rec.Architecture != goarch {
		return nil, notABundle(fmt.Errorf("it was made for %s, and this machine is %s", b.rec.Architecture, goarch))
	}
	if err := b.Verify(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, notABundle(errors.Unwrap(err))
	}
	final := filepath.Join(d.Bundles(), b.Hash)
	if err := os.Chmod(temp, 0o755); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(final); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, final); err != nil {
		return nil, err
	}
	if err := setCurrent(d, b.Hash); err != nil {
		return nil, err
	}
	return readFolder(final)
}

func notABundle(err error) error {
	return fault.NewInvalid(fmt.Errorf("load a bundle: %w", err), "give it a whole file that `meshsim bundle save` wrote")
}

func loadFiles(ctx context.Context, r io.Reader, dir string) error {
	t := tar.NewReader(r)
	for first := true; ; first = false {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) && !first {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		if first && h.Name != recordFile {
			return fmt.Errorf("the stream begins with %q, not with %s", h.Name, recordFile)
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			return fmt.Errorf("%q has no place in a bundle", h.Name)
		}
		if err := loadFile(t, filepath.Join(dir, h.Name)); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func loadFile(r io.Reader, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
