package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"meshsim.dev/meshsim/clusters/fault"
)

// fetchOverrides takes into the cache what comes in the lock's place.
func (w *workshop) fetchOverrides(ctx context.Context, o Overrides, t http.RoundTripper) ([]fetched, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	var more []fetched
	for _, part := range []struct {
		from map[string]Override
		take func(context.Context, string, Override, http.RoundTripper) (fetched, error)
	}{{o.Images, w.givenImage}, {o.Charts, w.givenChart}} {
		for _, n := range sortedKeys(part.from) {
			from := part.from[n]
			task := w.progress.Start("take " + n + " from " + from.From)
			f, err := part.take(ctx, n, from, t)
			if err != nil {
				task.Fail(errors.New("not taken"))
				return nil, from.blame(n, err)
			}
			task.Done(f.digest())
			more = append(more, f)
		}
	}
	return more, nil
}

// blame gives an error its kind: what is wrong with a file is its giver's, what
// is wrong with a registry the environment's.
func (o Override) blame(n string, err error) error {
	err = fmt.Errorf("take %s from %s (%s): %w", n, o.From, o.By, err)
	switch {
	case fault.KindOf(err) != 0:
		return err
	case o.path != "":
		return fault.NewInvalid(err, "")
	}
	return fault.NewEnvironment(err, "check that it can be reached, and the reference; a file can be given in its place")
}

func (w *workshop) givenImage(ctx context.Context, n string, o Override, t http.RoundTripper) (fetched, error) {
	if o.path != "" {
		return w.localImage(n, o)
	}
	ref, err := name.ParseReference(o.From)
	if err != nil {
		return fetched{}, err
	}
	img, err := remoteImage(ctx, ref, t)
	if err != nil {
		return fetched{}, err
	}
	d, err := img.Digest()
	if err != nil {
		return fetched{}, err
	}
	i := Image{Name: n, Origin: OriginPulled, Source: o.From}
	i.Ref, i.Version = podRef(n, o.From, d)
	return w.storeImage(img, i)
}

// podRef is what pods call an image that was given by a reference. One by
// digest alone gets a name here: charts join a name and a tag by a colon.
func podRef(n, given string, digest v1.Hash) (ref, version string) {
	tag, err := name.NewTag(plainRef(given))
	if err != nil {
		version = digestTag(digest)
		return localRef(n, version), version
	}
	host := tag.RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	return host + "/" + tag.RepositoryStr() + ":" + tag.TagStr(), tag.TagStr()
}

// digestTag is a tag for an image that has none.
func digestTag(d v1.Hash) string { return d.Algorithm + "-" + d.Hex[:12] }

// localImage takes an image from a file: its tag stays, its registry's name
// does not, as nobody serves it there.
func (w *workshop) localImage(n string, o Override) (fetched, error) {
	folder := o.path
	if info, err := os.Stat(o.path); err != nil {
		return fetched{}, err
	} else if !info.IsDir() {
		img, tag, err := savedImage(o.path)
		if err == nil {
			return w.storeLocal(n, o, img, tag)
		}
		if !errors.Is(err, errNotSaved) {
			return fetched{}, err
		}
		folder, err = os.MkdirTemp(w.cache.Bundles(), ".archive-*") // swept when this is killed
		if err != nil {
			return fetched{}, err
		}
		defer os.RemoveAll(folder)
		if err := unpackArchive(o.path, folder); err != nil {
			return fetched{}, err
		}
	}
	img, tag, err := layoutImage(folder)
	if err != nil {
		return fetched{}, err
	}
	return w.storeLocal(n, o, img, tag)
}

func (w *workshop) storeLocal(n string, o Override, img v1.Image, tag string) (fetched, error) {
	d, err := img.Digest()
	if err != nil {
		return fetched{}, err
	}
	if tag == "" {
		tag = digestTag(d)
	}
	return w.storeImage(img, Image{Name: n, Ref: localRef(n, tag), Version: tag, Origin: OriginLocal, Source: o.From})
}
