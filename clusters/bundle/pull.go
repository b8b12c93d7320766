package bundle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"meshsim.dev/meshsim/clusters/bundle/pack"
	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/fault"
	"meshsim.dev/meshsim/clusters/progress"
)

// PullOptions say what Pull takes, and from where.
type PullOptions struct {
	Cache    cache.Dir
	Source   string // a checkout of this project: our own programs are built from it
	Runner   command.Runner
	Log      *slog.Logger
	Progress *progress.Reporter
	Only     []string // images and charts by name; empty means all
	// Mirror is a registry (HOST:PORT) that is asked for every image in the
	// place of the one that the image is named after; "" asks the real ones.
	Mirror string
	// Replace gives images other references, by image name.
	Replace map[string]string
	// Transport reaches registries and chart repositories; nil is Go's default.
	Transport http.RoundTripper
}

// Pull makes a bundle of the official images and charts; our own programs are
// built, as they are published nowhere. What is already there is not taken again.
func Pull(ctx context.Context, o PullOptions) (*Bundle, error) {
	lock, err := Locked()
	if err != nil {
		return nil, err
	}
	return pull(ctx, lock, o)
}

func pull(ctx context.Context, lock *Lock, o PullOptions) (*Bundle, error) {
	src, err := openCheckout(o.Source)
	if err != nil {
		return nil, err
	}
	for n := range o.Replace {
		if _, ok := lock.image(n); !ok {
			return nil, fault.NewInvalid(fmt.Errorf("the bundle has no image %q to replace", n), "`meshsim bundle list` shows them")
		}
	}
	p, err := newPlan(lock, src, o.Only, true)
	if err != nil {
		return nil, err
	}
	hash, err := pulledHash(lock, src, o.Only)
	if err != nil {
		return nil, err
	}
	if b, err := openFolder(o.Cache, hash); err == nil && len(o.Replace) == 0 {
		return b, setCurrent(o.Cache, hash)
	}
	w := newWorkshop(o.Cache, lock, o.Runner, o.Log, o.Progress)
	release, err := lockCache(ctx, o.Cache, w.sayWaiting)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := w.buildAll(ctx, p.order); err != nil {
		return nil, err
	}
	more, err := w.pullAll(ctx, o)
	if err != nil {
		return nil, err
	}
	rec := record{
		APIVersion: recordVersion, Hash: hash, Origin: OriginPulled, Partial: len(o.Only) > 0,
		Architecture: goarch, Lock: lock.digest(),
	}
	return w.assemble(ctx, rec, p, more)
}

// pulledHash names the bundle that Pull makes from a checkout.
func pulledHash(lock *Lock, src checkout, only []string) (string, error) {
	ours, err := newPlan(lock, src, only, true)
	if err != nil {
		return "", err
	}
	f := &fingerprint{}
	f.add("pulled", ours.hash)
	return f.sum()[:16], nil
}

func (w *workshop) pullAll(ctx context.Context, o PullOptions) ([]fetched, error) {
	wanted := func(n string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, n) }
	var more []fetched
	for _, i := range w.lock.Images {
		ref := i.Pull
		if r := o.Replace[i.Name]; r != "" {
			ref = r
		}
		if ref == "" || !wanted(i.Name) {
			continue
		}
		task := w.progress.Start("pull " + ref)
		f, err := w.pullImage(ctx, i.Name, ref, o)
		if err != nil {
			task.Fail(errors.New("not pulled"))
			return nil, fault.NewEnvironment(fmt.Errorf("pull %s: %w", ref, err),
				"check that the registry answers, or build the bundle without one: meshsim bundle build")
		}
		task.Done(f.image.Digest)
		more = append(more, f)
	}
	for _, c := range w.lock.Charts {
		if !wanted(c.Name) {
			continue
		}
		task := w.progress.Start("chart " + c.Name + " " + c.Version)
		f, err := w.pullChart(ctx, c, o)
		if err != nil {
			task.Fail(errors.New("not fetched"))
			return nil, fault.NewEnvironment(fmt.Errorf("fetch chart %s %s from %s: %w", c.Name, c.Version, c.Pull, err),
				"check that the chart repository answers")
		}
		task.Done("")
		more = append(more, f)
	}
	return more, nil
}

// pullImage takes one image into the cache, layer by layer, so that a pull that
// was cut off goes on where it was.
func (w *workshop) pullImage(ctx context.Context, imageName, ref string, o PullOptions) (fetched, error) {
	official, err := name.ParseReference(ref)
	if err != nil {
		return fetched{}, err
	}
	from, err := mirrored(official, o.Mirror)
	if err != nil {
		return fetched{}, err
	}
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: goarch}),
	}
	if o.Transport != nil {
		options = append(options, remote.WithTransport(o.Transport))
	}
	img, err := remote.Image(from, options...)
	if err != nil {
		return fetched{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return fetched{}, err
	}
	blobs := filepath.Join(w.cache.Build(), "pulled", digest.Hex)
	d, err := pack.WriteBlobs(blobs, img)
	if err != nil {
		return fetched{}, err
	}
	config, err := img.ConfigName()
	if err != nil {
		return fetched{}, err
	}
	return fetched{
		image: Image{
			Name: imageName, Ref: plainRef(ref), Digest: digest.String(), Config: config.String(),
			Version: versionOf(ref), Origin: OriginPulled,
		},
		index: d, blobs: blobs,
	}, nil
}

// mirrored is the reference with the mirror's host in the place of its own.
func mirrored(ref name.Reference, mirror string) (name.Reference, error) {
	if mirror == "" {
		return ref, nil
	}
	repo, err := name.NewRepository(mirror + "/" + ref.Context().RepositoryStr())
	if err != nil {
		return nil, fmt.Errorf("mirror %q: %w", mirror, err)
	}
	if d, ok := ref.(name.Digest); ok {
		return repo.Digest(d.DigestStr()), nil
	}
	return repo.Tag(ref.Identifier()), nil
}

// plainRef drops the digest behind a tag: pods name the tag.
func plainRef(ref string) string {
	plain, _, pinned := strings.Cut(ref, "@")
	if pinned && strings.LastIndex(plain, ":") > strings.LastIndex(plain, "/") {
		return plain
	}
	return ref
}

func versionOf(ref string) string {
	plain := plainRef(ref)
	if i := strings.LastIndex(plain, ":"); i > strings.LastIndex(plain, "/") && !strings.Contains(plain, "@") {
		return plain[i+1:]
	}
	return ref
}

func (w *workshop) pullChart(ctx context.Context, c LockedChart, o PullOptions) (fetched, error) {
	f := &fingerprint{}
	f.add(c.Pull, c.Version)
	dir := filepath.Join(w.cache.Build(), "chart-"+c.Name+"-pulled", f.sum()[:16])
	if _, err := os.Stat(dir); err == nil {
		return fetched{chart: Chart{Name: c.Name}, folder: dir}, nil
	}
	temp := dir + ".making"
	if err := os.RemoveAll(temp); err != nil {
		return fetched{}, err
	}
	if err := os.MkdirAll(temp, 0o755); err != nil {
		return fetched{}, err
	}
	if err := fetchChart(ctx, &http.Client{Transport: o.Transport}, c, temp); err != nil {
		return fetched{}, errors.Join(err, os.RemoveAll(temp))
	}
	return fetched{chart: Chart{Name: c.Name}, folder: dir}, os.Rename(temp, dir)
}
