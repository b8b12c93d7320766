package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"meshsim.dev/meshsim/clusters/command"
)

// Annotations of an image in the layout's index.
const (
	annotationRef  = "org.opencontainers.image.ref.name"
	annotationName = "dev.meshsim.name"
)

// fetched is an image or chart that is there already, rather than built.
type fetched struct {
	image  Image
	index  v1.Descriptor
	blobs  string   // folder with sha256/… below
	only   []string // of the blobs, by their file names; nil is all
	chart  Chart
	folder string // of the chart
}

// digest is the image's or the chart's.
func (f fetched) digest() string {
	if f.folder != "" {
		return f.chart.Digest
	}
	return f.image.Digest
}

// assemble puts components and fetched parts into one bundle folder. Files are
// linked, not copied, where the filesystem can.
func (w *workshop) assemble(ctx context.Context, rec record, p *plan, more []fetched) (*Bundle, error) {
	task := w.progress.Start("bundle " + rec.Hash)
	b, err := w.assembleIn(ctx, rec, p, more)
	if err != nil {
		task.Fail(errors.New("not assembled"))
		return nil, fmt.Errorf("assemble the bundle: %w", err)
	}
	task.Done(fmt.Sprintf("%d images, %d charts", len(b.rec.Images), len(b.rec.Charts)))
	return b, nil
}

// makeCurrent notes a bundle that was asked for by itself as the one to use.
func (w *workshop) makeCurrent(b *Bundle) (*Bundle, error) {
	if err := setCurrent(w.cache, b.Hash); err != nil {
		return nil, err
	}
	return b, dropBundles(w.cache, b.Hash)
}

func (w *workshop) assembleIn(ctx context.Context, rec record, p *plan, more []fetched) (*Bundle, error) {
	final := filepath.Join(w.cache.Bundles(), rec.Hash)
	temp := filepath.Join(w.cache.Bundles(), ".making-"+rec.Hash)
	if err := os.RemoveAll(temp); err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	a := &assembly{dir: temp, rec: rec, index: v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}}
	for _, c := range p.images {
		if err := a.addBuilt(c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for _, c := range p.charts {
		if err := a.addChart(Chart{Name: strings.TrimPrefix(c.name, "chart-"), Origin: OriginBuilt}, c.dir); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for _, f := range more {
		if err := a.addFetched(f); err != nil {
			return nil, err
		}
	}
	a.setVersions(p.lock)
	a.sortAs(p.lock)
	if err := a.finish(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := os.RemoveAll(final); err != nil {
		return nil, err
	}
	if err := os.Rename(temp, final); err != nil {
		return nil, err
	}
	return readFolder(final)
}

// assembly is a bundle folder that is being filled.
type assembly struct {
	dir   string
	rec   record
	index v1.IndexManifest
}

func (a *assembly) addBuilt(c *component) error {
	var built builtImage
	text, err := os.ReadFile(filepath.Join(c.dir, imageFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &built); err != nil {
		return fmt.Errorf("read %s: %w", imageFile, err)
	}
	if err := a.addBlobs(filepath.Join(c.dir, "blobs", "sha256"), nil); err != nil {
		return err
	}
	a.rec.Baked = append(a.rec.Baked, built.Baked...)
	a.addImage(Image{
		Name: strings.TrimPrefix(c.name, "image-"), Ref: built.Ref, Version: built.Version, Origin: OriginBuilt,
		Digest: built.Manifest.Digest.String(), Config: built.Config.String(),
	}, built.Manifest)
	return nil
}

func (a *assembly) addImage(i Image, d v1.Descriptor) {
	d.Annotations = map[string]string{annotationName: i.Name, annotationRef: i.Ref}
	a.index.Manifests = append(a.index.Manifests, d)
	a.rec.Images = append(a.rec.Images, i)
}

func (a *assembly) addFetched(f fetched) error {
	if f.folder != "" {
		return a.addChart(f.chart, f.folder)
	}
	a.addImage(f.image, f.index)
	return a.addBlobs(filepath.Join(f.blobs, "sha256"), f.only)
}

// addBlobs takes files of a folder, all of them when only is nil.
func (a *assembly) addBlobs(from string, only []string) error {
	if only == nil {
		entries, err := os.ReadDir(from)
		if err != nil {
			return err
		}
		for _, e := range entries {
			only = append(only, e.Name())
		}
	}
	to := filepath.Join(a.dir, "oci", "blobs", "sha256")
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, n := range only {
		if err := linkFile(filepath.Join(from, n), filepath.Join(to, n)); err != nil {
			return err
		}
	}
	return nil
}

func (a *assembly) addChart(c Chart, from string) error {
	to := filepath.Join(a.dir, "charts", c.Name)
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, rel)), 0o755); err != nil {
			return err
		}
		return copyFile(p, filepath.Join(to, rel))
	})
	if err == nil {
		c.Digest, err = treeDigest(to)
	}
	if err != nil {
		return fmt.Errorf("chart %s: %w", c.Name, err)
	}
	a.rec.Charts = append(a.rec.Charts, c)
	return nil
}

// setVersions fills in the versions of the lock's charts.
func (a *assembly) setVersions(l *Lock) {
	for i, c := range a.rec.Charts {
		for _, locked := range l.Charts {
			if locked.Name == c.Name && c.Version == "" {
				a.rec.Charts[i].Version = locked.Version
			}
		}
	}
}

// finish writes the layout's files and the record.
func (a *assembly) finish() error {
	index, err := json.MarshalIndent(a.index, "", "  ")
	if err != nil {
		return err
	}
	layout := filepath.Join(a.dir, "oci")
	if err := os.MkdirAll(layout, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(layout, "index.json"), index, 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(layout, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		return err
	}
	a.rec.Index = digestOf(index)
	return writeJSON(filepath.Join(a.dir, recordFile), a.rec)
}

// linkFile links a file to a new name, or copies it to another filesystem.
func linkFile(from, to string) error {
	err := os.Link(from, to)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return nil
	case errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EMLINK):
		return copyFile(from, to)
	}
	return err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func writeJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(text, '\n'), 0o644)
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+500_000)/1_000_000) }

func (w *workshop) run(ctx context.Context, argv ...string) error {
	_, err := w.runner.Run(ctx, command.Cmd{Argv: argv})
	return err
}

// sortAs brings images and charts into the lock's order.
func (a *assembly) sortAs(l *Lock) {
	at := func(name string) int {
		return slices.IndexFunc(l.Images, func(i LockedImage) bool { return i.Name == name })
	}
	slices.SortStableFunc(a.rec.Images, func(x, y Image) int { return at(x.Name) - at(y.Name) })
	slices.SortStableFunc(a.index.Manifests, func(x, y v1.Descriptor) int {
		return at(x.Annotations[annotationName]) - at(y.Annotations[annotationName])
	})
	chart := func(name string) int {
		return slices.IndexFunc(l.Charts, func(c LockedChart) bool { return c.Name == name })
	}
	slices.SortStableFunc(a.rec.Charts, func(x, y Chart) int { return chart(x.Name) - chart(y.Name) })
}
