package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/progress"
)

// OverlayOptions say what Overlay puts in the place of what.
type OverlayOptions struct {
	Cache     cache.Dir
	Base      *Bundle
	Overrides Overrides
	Log       *slog.Logger
	Progress  *progress.Reporter
	Transport http.RoundTripper // as in PullOptions
}

// Overlay returns a bundle that is the base but for what is overridden. The
// base stays as it is, and stays the one that is used by default.
func Overlay(ctx context.Context, o OverlayOptions) (*Bundle, error) {
	if o.Overrides.Empty() {
		return o.Base, nil
	}
	lock, err := Locked()
	if err != nil {
		return nil, err
	}
	return overlay(ctx, lock, o)
}

func overlay(ctx context.Context, lock *Lock, o OverlayOptions) (*Bundle, error) {
	w := newWorkshop(o.Cache, lock, nil, o.Log, o.Progress)
	release, err := lockCache(ctx, o.Cache, w.sayWaiting)
	if err != nil {
		return nil, err
	}
	defer release()
	given, err := w.fetchOverrides(ctx, o.Overrides, o.Transport)
	if err != nil {
		return nil, err
	}
	rec := o.Base.rec
	rec.Images, rec.Charts = nil, nil
	rec.Hash = overlaidHash(o.Base.Hash, given)
	if rec.Base == "" {
		rec.Base = o.Base.Hash
	}
	if _, node := o.Overrides.Images["node"]; node {
		rec.Baked = nil
	}
	if b, err := openFolder(o.Cache, rec.Hash); err == nil {
		return b, nil
	}
	kept, err := o.Base.without(o.Overrides)
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", o.Base.Hash, err)
	}
	b, err := w.assemble(ctx, rec, &plan{lock: lock}, append(kept, given...))
	if err != nil {
		return nil, err
	}
	current, err := currentHash(o.Cache)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return b, dropBundles(o.Cache, b.Hash, o.Base.Hash, current)
}

// newRecord begins the record of a bundle that is made from a checkout, by the
// hash that it has without what is given.
func newRecord(lock *Lock, origin, hash string, only []string, given []fetched) record {
	rec := record{
		APIVersion: recordVersion, Hash: hash, Origin: origin, Partial: len(only) > 0,
		Architecture: goarch, Lock: lock.digest(),
	}
	if len(given) > 0 {
		rec.Hash, rec.Base = overlaidHash(hash, given), hash
	}
	return rec
}

// overlaidHash names a bundle by its base and by what is in the place of what.
func overlaidHash(base string, given []fetched) string {
	f := &fingerprint{}
	f.add("overlaid", base)
	for _, g := range given {
		f.add(g.image.Name, g.image.Ref, g.image.Source, g.chart.Name, g.chart.Version, g.chart.Source, g.digest())
	}
	return f.sum()[:16]
}

// without lists what the bundle holds, but for what comes from elsewhere.
func (b *Bundle) without(o Overrides) (kept []fetched, err error) {
	text, err := os.ReadFile(filepath.Join(b.Layout(), "index.json"))
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("read the image index: %w", err)
	}
	for _, i := range b.rec.Images {
		if _, elsewhere := o.Images[i.Name]; elsewhere {
			continue
		}
		at := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Annotations[annotationName] == i.Name })
		if at < 0 {
			return nil, fmt.Errorf("image %s is not in the index", i.Name)
		}
		blobs, err := b.blobsOf(i)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", i.Name, err)
		}
		kept = append(kept, fetched{image: i, index: index.Manifests[at], blobs: filepath.Join(b.Layout(), "blobs"), only: blobs})
	}
	for _, c := range b.rec.Charts {
		if _, elsewhere := o.Charts[c.Name]; !elsewhere {
			kept = append(kept, fetched{chart: c, folder: filepath.Join(b.Dir, "charts", c.Name)})
		}
	}
	return kept, nil
}

// blobsOf names the files of an image: manifest, configuration, layers.
func (b *Bundle) blobsOf(i Image) ([]string, error) {
	m, h, err := b.manifest(i)
	if err != nil {
		return nil, err
	}
	files := []string{h.Hex, m.Config.Digest.Hex}
	for _, l := range m.Layers {
		files = append(files, l.Digest.Hex)
	}
	return files, nil
}
