package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/fault"
)

// Where an image or a chart comes from.
const (
	OriginBuilt  = "built"
	OriginPulled = "pulled"
	OriginLocal  = "local" // a file or folder that was given
)

const goarch = runtime.GOARCH

// Image is one container image of a bundle.
type Image struct {
	Name    string `json:"name"`
	Ref     string `json:"ref"`              // what pods and engines call it
	Digest  string `json:"digest"`           // of its manifest: sha256:…
	Config  string `json:"config,omitempty"` // of its configuration: an engine's image id
	Version string `json:"version"`          // of the software inside
	Origin  string `json:"origin"`           // built, pulled or local
	Source  string `json:"source,omitempty"` // what was given in the lock's place, "" for the lock's own
}

// Chart is one Helm chart of a bundle.
type Chart struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`           // over all its files: sha256:…
	Origin  string `json:"origin"`           // built, pulled or local
	Source  string `json:"source,omitempty"` // what was given in the lock's place, "" for the lock's own
}

// Bundle is a folder with every image and chart of a rehearsal.
type Bundle struct {
	Dir     string
	Hash    string // over the lock and all the sources
	Origin  string // built or pulled
	Partial bool   // made with Only: not everything is there
	rec     record
}

// record is bundle.json.
type record struct {
	APIVersion   string  `json:"apiVersion"`
	Hash         string  `json:"hash"`
	Base         string  `json:"base,omitempty"` // hash of the bundle without what was overridden
	Origin       string  `json:"origin"`
	Partial      bool    `json:"partial,omitempty"` // made with Only: not everything is there
	Architecture string  `json:"architecture"`
	Lock         string  `json:"lock"`  // digest of the lock file
	Index        string  `json:"index"` // digest of oci/index.json
	Images       []Image `json:"images"`
	Baked        []Image `json:"baked,omitempty"` // inside the node image
	Charts       []Chart `json:"charts"`
}

const (
	recordVersion = "meshsim.dev/v1alpha1"
	recordFile    = "bundle.json"
	currentFile   = "current"
)

// ErrNotBuilt says that there is no bundle for the present lock and sources.
var ErrNotBuilt = errors.New("the bundle is not there")

const notBuiltMend = "meshsim bundle build"

// Open returns the bundle for the checkout at source: the one that was built
// or pulled from just these sources. With source "" it is the one that was
// built, pulled or loaded last. ErrNotBuilt comes in a fault.Environment.
func Open(d cache.Dir, source string) (*Bundle, error) {
	if source == "" {
		hash, err := currentHash(d)
		if err != nil {
			return nil, fault.NewEnvironment(fmt.Errorf("%w: %w", ErrNotBuilt, err), notBuiltMend)
		}
		return openFolder(d, hash)
	}
	lock, err := Locked()
	if err != nil {
		return nil, err
	}
	return open(d, lock, source)
}

func open(d cache.Dir, lock *Lock, source string) (*Bundle, error) {
	src, err := openCheckout(source)
	if err != nil {
		return nil, err
	}
	hashes, err := hashes(lock, src)
	if err != nil {
		return nil, err
	}
	if current, err := currentHash(d); err == nil {
		b, err := openFolder(d, current)
		if err == nil && (slices.Contains(hashes, b.Hash) || slices.Contains(hashes, b.rec.Base)) {
			return b, nil
		}
	}
	for _, h := range hashes {
		if b, err := openFolder(d, h); err == nil {
			return b, nil
		}
	}
	return nil, fault.NewEnvironment(fmt.Errorf("%w: %s, made from %s as it is now", ErrNotBuilt, hashes[0], source), notBuiltMend)
}

// hashes names the bundles that serve a checkout: the built and the pulled one.
func hashes(lock *Lock, src checkout) ([]string, error) {
	built, err := newPlan(lock, src, selection{})
	if err != nil {
		return nil, err
	}
	pulled, err := pulledHash(lock, src, nil)
	if err != nil {
		return nil, err
	}
	return []string{built.hash, pulled}, nil
}

func openFolder(d cache.Dir, hash string) (*Bundle, error) {
	if !filepath.IsLocal(hash) || hash == "." {
		return nil, fault.NewEnvironment(fmt.Errorf("%w: %q is no bundle's hash", ErrNotBuilt, hash), notBuiltMend)
	}
	return readFolder(filepath.Join(d.Bundles(), hash))
}

func readFolder(dir string) (*Bundle, error) {
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.NewEnvironment(fmt.Errorf("%w: %w", ErrNotBuilt, err), notBuiltMend)
	}
	if err != nil {
		return nil, fmt.Errorf("open the bundle: %w", err)
	}
	b := &Bundle{Dir: dir}
	if err := json.Unmarshal(text, &b.rec); err != nil {
		return nil, fmt.Errorf("open the bundle: %s: %w", filepath.Join(dir, recordFile), err)
	}
	if b.rec.APIVersion != recordVersion {
		return nil, fmt.Errorf("open the bundle: %s has apiVersion %q, not %q", dir, b.rec.APIVersion, recordVersion)
	}
	b.Hash, b.Origin, b.Partial = b.rec.Hash, b.rec.Origin, b.rec.Partial
	return b, nil
}

// currentHash names the bundle that was made or used last.
func currentHash(d cache.Dir) (string, error) {
	hash, err := os.ReadFile(filepath.Join(d.Bundles(), currentFile))
	return strings.TrimSpace(string(hash)), err
}

// setCurrent notes which bundle was made or used last.
func setCurrent(d cache.Dir, hash string) error {
	name := filepath.Join(d.Bundles(), currentFile)
	if err := os.WriteFile(name+".part", []byte(hash+"\n"), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}

// Image returns the image called name. The error is a fault.Environment with a mend.
func (b *Bundle) Image(name string) (Image, error) {
	for _, i := range b.rec.Images {
		if i.Name == name {
			return i, nil
		}
	}
	return Image{}, b.missing("image", name)
}

// Images returns every image, in the lock's order.
func (b *Bundle) Images() []Image { return slices.Clone(b.rec.Images) }

// Baked returns the images that are inside the node image, when it was built.
func (b *Bundle) Baked() []Image { return slices.Clone(b.rec.Baked) }

// Charts returns every chart, in the lock's order.
func (b *Bundle) Charts() []Chart { return slices.Clone(b.rec.Charts) }

// Chart returns the folder of the chart called name.
func (b *Bundle) Chart(name string) (dir string, err error) {
	for _, c := range b.rec.Charts {
		if c.Name == name {
			return filepath.Join(b.Dir, "charts", name), nil
		}
	}
	return "", b.missing("chart", name)
}

// missing is the error for what the bundle does not hold.
func (b *Bundle) missing(kind, name string) error {
	mend := notBuiltMend
	if b.Origin == OriginBuilt && !b.Partial {
		mend = "it cannot be built; take the official one with `meshsim bundle pull`, or give one with --" + kind
	}
	return fault.NewEnvironment(fmt.Errorf("bundle %s has no %s %q", b.Hash, kind, name), mend)
}

// Layout is the folder of the OCI image layout.
func (b *Bundle) Layout() string { return filepath.Join(b.Dir, "oci") }

// MirrorHosts returns, for each registry host that the bundle's images are
// named after, the text of containerd's certs.d/HOST/hosts.toml that sends
// pulls to the bundle's own registry at url (http://HOST:PORT). A host that
// exists stays reachable for images that the bundle does not hold.
func (b *Bundle) MirrorHosts(url string) (map[string]string, error) {
	hosts := map[string]string{}
	for _, i := range b.rec.Images {
		ref, err := name.ParseReference(i.Ref)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", i.Name, err)
		}
		host, server := ref.Context().RegistryStr(), url
		if host == name.DefaultRegistry {
			host = "docker.io"
		}
		switch host {
		case localHost:
		case "docker.io":
			server = "https://registry-1.docker.io"
		default:
			server = "https://" + host
		}
		hosts[host] = fmt.Sprintf("server = %q\n\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", server, url)
	}
	return hosts, nil
}
