package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"meshsim.dev/meshsim/clusters/fault"
)

// Verify reads the whole bundle again: every blob has its digest, every image
// has its blobs, every chart its files. All that is wrong is reported, in a
// fault.Environment.
func (b *Bundle) Verify(ctx context.Context) error {
	var errs []error
	sizes, err := b.verifyBlobs(ctx)
	if err != nil {
		errs = append(errs, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	errs = append(errs, b.verifyImages(sizes)...)
	for _, c := range b.rec.Charts {
		got, err := treeDigest(filepath.Join(b.Dir, "charts", c.Name))
		if err != nil {
			errs = append(errs, fmt.Errorf("chart %s: %w", c.Name, err))
		} else if got != c.Digest {
			errs = append(errs, fmt.Errorf("chart %s: its files have digest %s, not %s", c.Name, got, c.Digest))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fault.NewEnvironment(fmt.Errorf("bundle %s is damaged: %w", b.Hash, err),
			"remove "+b.Dir+" and build, pull or load it again")
	}
	return nil
}

// verifyBlobs digests every blob and returns the sizes of the good ones.
func (b *Bundle) verifyBlobs(ctx context.Context) (map[string]int64, error) {
	dir := filepath.Join(b.Layout(), "blobs", "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	var errs []error
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		got, size, err := fileDigest(filepath.Join(dir, e.Name()))
		switch {
		case err != nil:
			errs = append(errs, err)
		case got != "sha256:"+e.Name():
			errs = append(errs, fmt.Errorf("blob sha256:%s has digest %s", e.Name(), got))
		default:
			sizes[got] = size
		}
	}
	return sizes, errors.Join(errs...)
}

func (b *Bundle) verifyImages(sizes map[string]int64) (errs []error) {
	text, err := os.ReadFile(filepath.Join(b.Layout(), "index.json"))
	if err != nil {
		return []error{err}
	}
	if got := digestOf(text); got != b.rec.Index {
		return []error{fmt.Errorf("the image index has digest %s, not %s", got, b.rec.Index)}
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return []error{fmt.Errorf("read the image index: %w", err)}
	}
	for _, i := range b.rec.Images {
		at := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Annotations[annotationName] == i.Name })
		if at < 0 || index.Manifests[at].Digest.String() != i.Digest {
			errs = append(errs, fmt.Errorf("image %s is not in the index with digest %s", i.Name, i.Digest))
			continue
		}
		if err := b.verifyImage(i, sizes); err != nil {
			errs = append(errs, fmt.Errorf("image %s: %w", i.Name, err))
		}
	}
	return errs
}

func (b *Bundle) verifyImage(i Image, sizes map[string]int64) error {
	if _, ok := sizes[i.Digest]; !ok {
		return fmt.Errorf("its manifest %s is missing or damaged", i.Digest)
	}
	m, _, err := b.manifest(i)
	if err != nil {
		return err
	}
	if i.Config != "" && i.Config != m.Config.Digest.String() {
		return fmt.Errorf("its configuration is %s, not %s", m.Config.Digest, i.Config)
	}
	var errs []error
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if size, ok := sizes[d.Digest.String()]; !ok || size != d.Size {
			errs = append(errs, fmt.Errorf("blob %s is missing or damaged", d.Digest))
		}
	}
	return errors.Join(errs...)
}

// manifest reads an image's manifest, and its digest.
func (b *Bundle) manifest(i Image) (m v1.Manifest, h v1.Hash, err error) {
	if h, err = v1.NewHash(i.Digest); err != nil {
		return m, h, err
	}
	text, err := os.ReadFile(filepath.Join(b.Layout(), "blobs", h.Algorithm, h.Hex))
	if err != nil {
		return m, h, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, h, fmt.Errorf("read its manifest: %w", err)
	}
	return m, h, nil
}

func fileDigest(name string) (digest string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), size, err
}

func digestOf(b []byte) string {
	s := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(s[:])
}

// treeDigest is one digest over the names and contents of all files below dir.
func treeDigest(dir string) (string, error) {
	f := &fingerprint{}
	if err := f.addTree(dir); err != nil {
		return "", err
	}
	return "sha256:" + f.sum(), nil
}

// digest names the lock that a bundle was made by.
func (l *Lock) digest() string { return digestOf(l.text) }
