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
	// Mirror is a registry (HOST:PORT) that is asked for every image of the lock
	// in the place of the one that it is named after; "" asks the real ones.
	Mirror string
	// Overrides come in the place of the lock's, from just where they say.
	Overrides Overrides
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
	if o.Mirror != "" {
		if _, err := name.NewRegistry(o.Mirror); err != nil {
			return nil, fault.NewInvalid(fmt.Errorf("mirror %q is no registry: %w", o.Mirror, err), "give HOST or HOST:PORT")
		}
	}
	src, err := openCheckout(o.Source)
	if err != nil {
		return nil, err
	}
	p, err := newPlan(lock, src, selection{only: o.Only, ours: true, less: o.Overrides})
	if err != nil {
		return nil, err
	}
	hash, err := pulledHash(lock, src, o.Only)
	if err != nil {
		return nil, err
	}
	if b, err := openFolder(o.Cache, hash); err == nil && o.Overrides.Empty() {
		return b, setCurrent(o.Cache, hash)
	}
	w := newWorkshop(o.Cache, lock, o.Runner, o.Log, o.Progress)
	release, err := lockCache(ctx, o.Cache, w.sayWaiting)
	if err != nil {
		return nil, err
	}
	defer release()
	given, err := w.fetchOverrides(ctx, o.Overrides, o.Transport)
	if err != nil {
		return nil, err
	}
	rec := newRecord(lock, OriginPulled, hash, o.Only, given)
	if b, err := openFolder(o.Cache, rec.Hash); err == nil {
		return w.makeCurrent(b)
	}
	if err := w.buildAll(ctx, p.order); err != nil {
		return nil, err
	}
	more, err := w.pullAll(ctx, o)
	if err != nil {
		return nil, err
	}
	b, err := w.assemble(ctx, rec, p, append(more, given...))
	if err != nil {
		return nil, err
	}
	return w.makeCurrent(b)
}

// pulledHash names the bundle that Pull makes from a checkout.
func pulledHash(lock *Lock, src checkout, only []string) (string, error) {
	ours, err := newPlan(lock, src, selection{only: only, ours: true})
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
		if _, given := o.Overrides.Images[i.Name]; i.Pull == "" || given || !wanted(i.Name) {
			continue
		}
		task := w.progress.Start("pull " + i.Pull)
		f, err := w.pullImage(ctx, i.Name, i.Pull, o)
		if err != nil {
			task.Fail(errors.New("not pulled"))
			return nil, fault.NewEnvironment(fmt.Errorf("pull %s: %w", i.Pull, err),
				"check that the registry answers, give another image with --image, or build the bundle without a registry: meshsim bundle build")
		}
		task.Done(f.image.Digest)
		more = append(more, f)
	}
	for _, c := range w.lock.Charts {
		if _, given := o.Overrides.Charts[c.Name]; given || !wanted(c.Name) {
			continue
		}
		task := w.progress.Start("chart " + c.Name + " " + c.Version)
		f, err := w.pullChart(ctx, c, o)
		if err != nil {
			task.Fail(errors.New("not fetched"))
			return nil, fault.NewEnvironment(fmt.Errorf("fetch chart %s %s from %s: %w", c.Name, c.Version, c.Pull, err),
				"check that the chart repository answers, or give another chart with --chart")
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
	img, err := remoteImage(ctx, from, o.Transport)
	if err != nil {
		return fetched{}, err
	}
	return w.storeImage(img, Image{Name: imageName, Ref: plainRef(ref), Version: versionOf(ref), Origin: OriginPulled})
}

// remoteImage finds an image for this machine in its registry.
func remoteImage(ctx context.Context, ref name.Reference, t http.RoundTripper) (v1.Image, error) {
	options := []remote.Option{
		remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: goarch}),
	}
	if t != nil {
		options = append(options, remote.WithTransport(t))
	}
	return remote.Image(ref, options...)
}

// storeImage puts an image's blobs into the cache, each once.
func (w *workshop) storeImage(img v1.Image, i Image) (fetched, error) {
	if err := checkRunnable(img); err != nil {
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
	i.Digest, i.Config = digest.String(), config.String()
	return fetched{image: i, index: d, blobs: blobs}, nil
}

// checkRunnable refuses what a node could not run, or would refuse to unpack.
func checkRunnable(img v1.Image) error {
	raw, err := img.RawConfigFile()
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	m, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("read its manifest: %w", err)
	}
	if got := digestOf(raw); got != m.Config.Digest.String() {
		return fmt.Errorf("its configuration has digest %s, not %s", got, m.Config.Digest)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	if config.Architecture != "" && config.Architecture != goarch {
		return fmt.Errorf("it is made for %s, and this machine is %s", config.Architecture, goarch)
	}
	return nil
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
