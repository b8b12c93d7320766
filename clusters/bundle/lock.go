package bundle

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"sort"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/clusters/fault"
)

//go:embed bundle.lock.yaml
var lockText []byte

// Lock names every image and chart of a bundle.
type Lock struct {
	APIVersion string        `yaml:"apiVersion"`
	Kind       string        `yaml:"kind"`
	Revision   int           `yaml:"revision"` // raised when the way of building changes
	Upstreams  []Upstream    `yaml:"upstreams"`
	Debian     Debian        `yaml:"debian"`
	Images     []LockedImage `yaml:"images"`
	Charts     []LockedChart `yaml:"charts"`

	text []byte // as read
}

// Upstream is a Go project that is built from its published module; the folder
// upstream/NAME pins it.
type Upstream struct {
	Name     string            `yaml:"name"`
	Version  string            `yaml:"version"`
	Programs []string          `yaml:"programs"` // what `go build tool` makes
	Tags     []string          `yaml:"tags"`     // Go build tags
	Stamps   map[string]string `yaml:"stamps"`   // Go variable → the value it is linked with
}

// Debian says which file trees are made from Debian packages.
type Debian struct {
	Suite string `yaml:"suite"`
	Trees []Tree `yaml:"trees"`
}

// Tree is a Debian minbase tree with packages and users added.
type Tree struct {
	Name     string   `yaml:"name"`
	Packages []string `yaml:"packages"`
	Users    []User   `yaml:"users"` // made before the packages are installed
}

// User is a system user; its group has the same name and number.
type User struct {
	Name string `yaml:"name"`
	ID   int    `yaml:"id"`
	Home string `yaml:"home"`
}

// LockedImage is one image: what is pulled, how it is built, or both.
type LockedImage struct {
	Name    string  `yaml:"name"`
	Version string  `yaml:"version"` // "" for our own programs: named by their sources' hash
	Pull    string  `yaml:"pull"`
	Build   *Recipe `yaml:"build"`
}

// Recipe says how an image is built: from a program, from parts of a Debian
// tree, from both, or as a node image.
type Recipe struct {
	Program    string            `yaml:"program"` // UPSTREAM/PROGRAM, or ./PACKAGE of ours
	At         string            `yaml:"at"`      // where the program is put; "" is /NAME
	Tree       string            `yaml:"tree"`    // Debian tree that keep takes from
	Package    string            `yaml:"package"` // Debian package whose version is the image's
	Keep       []string          `yaml:"keep"`    // globs in the tree, with all they need; "/*" is everything
	Drop       []string          `yaml:"drop"`    // globs taken away again
	Links      map[string]string `yaml:"links"`   // symlink → target
	Scripts    map[string]string `yaml:"scripts"` // path → text, executable
	Env        map[string]string `yaml:"env"`
	User       string            `yaml:"user"`
	Entrypoint []string          `yaml:"entrypoint"`
	StopSignal string            `yaml:"stopSignal"`
	Node       *NodeRecipe       `yaml:"node"`
}

// NodeRecipe says what a kind node image consists of.
type NodeRecipe struct {
	Tree       string       `yaml:"tree"`       // Debian tree it stands on
	Kubernetes string       `yaml:"kubernetes"` // upstream of kubelet, kubeadm and kubectl
	CNI        string       `yaml:"cni"`        // our own program that routes pods
	Images     []BakedImage `yaml:"images"`
}

// BakedImage is an image inside the node image's container runtime.
type BakedImage struct {
	Ref     string `yaml:"ref"`
	Version string `yaml:"version"` // when Ref does not say it truly
	Recipe  `yaml:",inline"`
}

// LockedChart is one Helm chart.
type LockedChart struct {
	Name    string     `yaml:"name"`
	Version string     `yaml:"version"`
	Pull    string     `yaml:"pull"`  // Helm repository
	Build   *ChartFrom `yaml:"build"` // nil: it can only be pulled
}

// ChartFrom names the Go module that carries a chart's sources.
type ChartFrom struct {
	Upstream string `yaml:"upstream"`
	Module   string `yaml:"module"`
}

// Locked returns the lock that this program was built with.
func Locked() (*Lock, error) { return ParseLock(lockText) }

// ParseLock reads a lock file. Every problem is reported; the error is a
// fault.Invalid.
func ParseLock(text []byte) (*Lock, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var l Lock
	if err := d.Decode(&l); err != nil {
		return nil, invalidLock(fmt.Errorf("read it: %w", err))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, invalidLock(errors.New("more than one document"))
	}
	if err := l.check(); err != nil {
		return nil, invalidLock(err)
	}
	l.text = bytes.Clone(text)
	return &l, nil
}

func invalidLock(err error) error {
	return fault.NewInvalid(fmt.Errorf("bundle lock: %w", err), "")
}

func (l *Lock) image(name string) (LockedImage, bool) {
	for _, i := range l.Images {
		if i.Name == name {
			return i, true
		}
	}
	return LockedImage{}, false
}

func (l *Lock) tree(name string) (Tree, bool) {
	for _, t := range l.Debian.Trees {
		if t.Name == name {
			return t, true
		}
	}
	return Tree{}, false
}

func (l *Lock) upstream(name string) (Upstream, bool) {
	for _, u := range l.Upstreams {
		if u.Name == name {
			return u, true
		}
	}
	return Upstream{}, false
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
