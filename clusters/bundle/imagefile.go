package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// errNotSaved says that a tar file is not one that docker save writes.
var errNotSaved = errors.New("there is no manifest.json in it")

// savedImage reads the one image of a file that docker save wrote.
func savedImage(file string) (_ v1.Image, tag string, err error) {
	opener := func() (io.ReadCloser, error) { return openArchive(file) }
	manifest, err := tarball.LoadManifest(opener)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errNotSaved, err)
	}
	if len(manifest) != 1 {
		return nil, "", fmt.Errorf("%s holds %d images, and one is wanted", filepath.Base(file), len(manifest))
	}
	if tags := manifest[0].RepoTags; len(tags) > 0 {
		if t, err := name.NewTag(tags[0]); err == nil {
			tag = t.TagStr()
		}
	}
	img, err := tarball.Image(opener, nil)
	return img, tag, err
}

// layoutImage reads the one image for this machine that an OCI layout holds.
func layoutImage(folder string) (_ v1.Image, tag string, err error) {
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, "", fmt.Errorf("it is no OCI image layout: %w", err)
	}
	found, err := imagesFor(index)
	if err != nil {
		return nil, "", err
	}
	if len(found) != 1 {
		return nil, "", fmt.Errorf("it holds %d images for linux/%s, and one is wanted", len(found), goarch)
	}
	return found[0].Image, found[0].tag, nil
}

type taggedImage struct {
	v1.Image
	tag string
}

// imagesFor lists the images for this machine, also those of an index within.
func imagesFor(index v1.ImageIndex) (found []taggedImage, err error) {
	m, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("read the image index: %w", err)
	}
	for _, d := range m.Manifests {
		tag := d.Annotations[annotationRef]
		tag = tag[strings.LastIndexAny(tag, ":/")+1:]
		switch {
		case d.MediaType.IsIndex():
			inner, err := index.ImageIndex(d.Digest)
			if err != nil {
				return nil, err
			}
			below, err := imagesFor(inner)
			if err != nil {
				return nil, err
			}
			for _, f := range below {
				found = append(found, taggedImage{f.Image, tag})
			}
		case d.MediaType.IsImage() && (d.Platform == nil || d.Platform.OS == "linux" && d.Platform.Architecture == goarch):
			img, err := index.Image(d.Digest)
			if err != nil {
				return nil, err
			}
			found = append(found, taggedImage{img, tag})
		}
	}
	return found, nil
}

// openArchive opens a tar file, also one that gzip made smaller.
func openArchive(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	buffered := bufio.NewReader(f)
	head, err := buffered.Peek(2)
	if err != nil || !bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return struct {
			io.Reader
			io.Closer
		}{buffered, f}, nil // what is too short for a head fails when it is read
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", filepath.Base(file), err), f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, nil
}

// unpackArchive puts the files of an OCI archive into folder.
func unpackArchive(file, folder string) error {
	in, err := openArchive(file)
	if err != nil {
		return err
	}
	defer in.Close()
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is no tar file of an image: %w", err)
		}
		at := path.Clean(h.Name)
		switch {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || !filepath.IsLocal(at):
			return fmt.Errorf("%q has no place in an image archive", h.Name)
		}
		if err := loadFile(t, filepath.Join(folder, at)); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
}
