package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"meshsim.dev/meshsim/clusters/fault"
)

// Override says where one image or chart comes from in the lock's place.
type Override struct {
	From string // as given: a reference, an address or a path
	By   string // who says so, for messages: "--image linkerd/proxy=./x.tar", "mine.yaml:7"

	path string // of a local one, resolved; "" for one that is fetched
}

// Overrides put other images and charts in the place of the lock's, by the
// lock's names.
//
// An image is a reference (HOST/REPOSITORY:TAG, a digest may follow or stand
// in the tag's place), a tar file as docker save or an OCI archive, or the
// folder of an OCI image layout. A chart is a folder, a .tgz file, an OCI
// reference (oci://HOST/REPOSITORY:TAG), the address of a .tgz, or a chart
// repository (https://HOST/PATH for the lock's version, or with @VERSION).
// What begins with ./, ../ or / or ends like an archive is a path.
type Overrides struct {
	Images map[string]Override
	Charts map[string]Override
}

// Empty says whether nothing is overridden.
func (o Overrides) Empty() bool { return len(o.Images) == 0 && len(o.Charts) == 0 }

// Over lays o over what has less say.
func (o Overrides) Over(lower Overrides) Overrides {
	join := func(low, high map[string]Override) map[string]Override {
		all := maps.Clone(low)
		if all == nil {
			all = map[string]Override{}
		}
		maps.Copy(all, high)
		return all
	}
	return Overrides{Images: join(lower.Images, o.Images), Charts: join(lower.Charts, o.Charts)}
}

// AddImage notes where an image comes from. given is its name in the lock, or
// the repository of its published image (linkerd/proxy). A path is relative to dir.
func (o *Overrides) AddImage(given, dir string, from Override) error {
	lock, err := Locked()
	if err != nil {
		return err
	}
	known, aliases := lock.imageNames()
	n, err := resolve("image", given, known, aliases)
	if err != nil {
		return err
	}
	if from.path = localPath(from.From, dir); from.path == "" {
		if _, err := name.ParseReference(from.From); err != nil {
			return fmt.Errorf("%q is neither an image's reference nor a path that begins with ./ or /: %w", from.From, err)
		}
	}
	return note(&o.Images, "image", n, from)
}

// AddChart notes where a chart comes from. given is its name in the lock. A
// path is relative to dir.
func (o *Overrides) AddChart(given, dir string, from Override) error {
	lock, err := Locked()
	if err != nil {
		return err
	}
	n, err := resolve("chart", given, lock.chartNames(), nil)
	if err != nil {
		return err
	}
	if from.path = localPath(from.From, dir); from.path == "" {
		if err := checkChartAddress(from.From); err != nil {
			return err
		}
	}
	return note(&o.Charts, "chart", n, from)
}

func note(into *map[string]Override, kind, n string, from Override) error {
	if before, twice := (*into)[n]; twice {
		return fmt.Errorf("%s %s is given twice, as %s and %s", kind, n, before.From, from.From)
	}
	if *into == nil {
		*into = map[string]Override{}
	}
	(*into)[n] = from
	return nil
}

// Check says which local files are not there. The error is a fault.Invalid.
func (o Overrides) Check() error {
	var errs []error
	for _, all := range []map[string]Override{o.Images, o.Charts} {
		for _, n := range sortedKeys(all) {
			if err := all[n].check(); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fault.NewInvalid(err, "name a file or folder that is there, or a reference")
	}
	return nil
}

func (o Override) check() error {
	if o.path == "" {
		return nil
	}
	_, err := os.Stat(o.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no %s", o.By, o.From)
	case err != nil:
		return fmt.Errorf("%s: %w", o.By, err)
	}
	return nil
}

// imageNames are the lock's, and by what else an image may be called: the
// repository of what is published.
func (l *Lock) imageNames() (known []string, aliases map[string]string) {
	aliases = map[string]string{}
	for _, i := range l.Images {
		known = append(known, i.Name)
		if ref, err := name.ParseReference(i.Pull); i.Pull != "" && err == nil {
			aliases[ref.Context().RepositoryStr()] = i.Name
		}
	}
	return known, aliases
}

func (l *Lock) chartNames() (known []string) {
	for _, c := range l.Charts {
		known = append(known, c.Name)
	}
	return known
}

func resolve(kind, given string, known []string, aliases map[string]string) (string, error) {
	if slices.Contains(known, given) {
		return given, nil
	}
	if n, ok := aliases[given]; ok {
		return n, nil
	}
	return "", fmt.Errorf("there is no %s %q; known are: %s", kind, given, strings.Join(known, ", "))
}

// localPath is where a file that was given lies, "" for what is no path.
func localPath(from, dir string) string {
	lead := slices.ContainsFunc([]string{"./", "../", "/"}, func(p string) bool { return strings.HasPrefix(from, p) })
	tail := slices.ContainsFunc([]string{".tar", ".tgz", ".tar.gz"}, func(p string) bool { return strings.HasSuffix(from, p) })
	switch {
	case from == "." || from == "..":
	case !lead && (!tail || strings.Contains(from, "://")):
		return ""
	}
	if filepath.IsAbs(from) {
		return filepath.Clean(from)
	}
	return filepath.Join(dir, from)
}

// ociScheme begins the reference of a chart in a registry.
const ociScheme = "oci://"

func checkChartAddress(from string) error {
	if ref, ok := strings.CutPrefix(from, ociScheme); ok {
		if _, err := name.ParseReference(ref); err != nil {
			return fmt.Errorf("%q is no chart's reference: %w", from, err)
		}
		return nil
	}
	u, err := url.Parse(from)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return fmt.Errorf("%q is no chart: want a path that begins with ./ or /, oci://… or https://…", from)
	}
	if u.User != nil {
		// It would stand in the record of every run.
		return errors.New("a chart's address must hold no user or password")
	}
	return nil
}
