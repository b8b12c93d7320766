package bundle

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"meshsim.dev/meshsim/clusters/fault"
)

// lane keeps work of one kind from running beside its like.
type lane int

const (
	laneGo     lane = iota // compilers: use every processor by themselves
	laneDebian             // downloads and package scripts
	lanePack               // compression
	lanes
)

// component is one thing that is built, kept and reused by itself.
type component struct {
	name     string // "go-kubernetes", "image-vault": also its folder in the cache
	key      string // hash of all it is made from
	lane     lane
	upstream bool // compiles a project that is not ours
	deps     []*component
	build    builder
	dir      string // where its output is; set once it is there
}

// dep returns the dependency with the given name; plans are built so that it exists.
func (c *component) dep(name string) *component {
	i := slices.IndexFunc(c.deps, func(d *component) bool { return d.name == name })
	return c.deps[i]
}

// plan is everything that a bundle consists of, and in which order.
type plan struct {
	lock   *Lock
	src    checkout
	parts  map[string]*component
	order  []*component // dependencies first
	images []*component // image-NAME, in the lock's order
	charts []*component
	hash   string
}

// selection says what of a lock is planned.
type selection struct {
	only []string  // images and charts by name; empty means all that can be built
	ours bool      // nothing but images of our own programs (for a pulled bundle)
	less Overrides // without what comes from elsewhere
}

func (s selection) image(i LockedImage) bool {
	_, elsewhere := s.less.Images[i.Name]
	return i.Build != nil && s.wanted(i.Name) && !elsewhere && (!s.ours || isOwn(i.Build.Program))
}

func (s selection) chart(c LockedChart) bool {
	_, elsewhere := s.less.Charts[c.Name]
	return c.Build != nil && s.wanted(c.Name) && !elsewhere && !s.ours
}

func (s selection) wanted(name string) bool { return len(s.only) == 0 || slices.Contains(s.only, name) }

// newPlan works out the components of a bundle that is built.
func newPlan(lock *Lock, src checkout, s selection) (*plan, error) {
	p := &plan{lock: lock, src: src, parts: map[string]*component{}}
	if err := p.checkNames(s.only); err != nil {
		return nil, err
	}
	for _, i := range lock.Images {
		if !s.image(i) {
			continue
		}
		c, err := p.image(i)
		if err != nil {
			return nil, fmt.Errorf("plan image %s: %w", i.Name, err)
		}
		p.images = append(p.images, c)
	}
	for _, c := range lock.Charts {
		if !s.chart(c) {
			continue
		}
		part, err := p.chart(c)
		if err != nil {
			return nil, fmt.Errorf("plan chart %s: %w", c.Name, err)
		}
		p.charts = append(p.charts, part)
	}
	f := &fingerprint{}
	f.add("bundle", string(lock.text), runtime.GOARCH, strings.Join(s.only, " "))
	for _, c := range append(append([]*component{}, p.images...), p.charts...) {
		f.add(c.name, c.key)
	}
	p.hash = f.sum()[:16]
	return p, nil
}

func (p *plan) checkNames(only []string) error {
	for _, n := range only {
		_, image := p.lock.image(n)
		chart := slices.ContainsFunc(p.lock.Charts, func(c LockedChart) bool { return c.Name == n })
		if !image && !chart {
			return fault.NewInvalid(fmt.Errorf("the bundle has no image or chart %q", n), "`meshsim bundle list` shows them")
		}
	}
	return nil
}

// part returns the component called name, planning it the first time.
func (p *plan) part(name string, l lane, fill func(*component, *fingerprint) error) (*component, error) {
	if c, ok := p.parts[name]; ok {
		return c, nil
	}
	c := &component{name: name, lane: l}
	f := &fingerprint{}
	f.add(name, fmt.Sprint(p.lock.Revision), runtime.GOARCH)
	if err := fill(c, f); err != nil {
		return nil, err
	}
	for _, d := range c.deps {
		f.add(d.name, d.key)
	}
	c.key = f.sum()[:16]
	p.parts[name] = c
	p.order = append(p.order, c)
	return c, nil
}

// need plans a dependency of c.
func (c *component) need(d *component, err error) error {
	if err == nil && !slices.Contains(c.deps, d) {
		c.deps = append(c.deps, d)
	}
	return err
}

// describe adds a part of the lock to a hash.
func describe(f *fingerprint, v any) error {
	text, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	f.add(string(text))
	return nil
}

func (p *plan) upstream(name string) (*component, error) {
	return p.part("go-"+name, laneGo, func(c *component, f *fingerprint) error {
		u, _ := p.lock.upstream(name)
		if err := describe(f, u); err != nil {
			return err
		}
		c.upstream, c.build = true, buildUpstream(u, p.src.upstream(name))
		return f.addFiles(p.src.upstream(name), "go.mod", "go.sum")
	})
}

func (p *plan) own(program string) (*component, error) {
	return p.part("go-"+path.Base(program), laneGo, func(c *component, f *fingerprint) error {
		files, err := p.src.programFiles(program)
		if err != nil {
			return err
		}
		c.build = buildOwn(program, p.src)
		return f.addFiles(string(p.src), append(files, "go.mod", "go.sum")...)
	})
}

func (p *plan) program(program string) (*component, error) {
	if isOwn(program) {
		return p.own(program)
	}
	return p.upstream(path.Dir(program))
}

func (p *plan) base() (*component, error) {
	return p.part("debian-base", laneDebian, func(c *component, f *fingerprint) error {
		f.add(p.lock.Debian.Suite)
		c.build = buildBase
		return nil
	})
}

func (p *plan) tree(name string) (*component, error) {
	return p.part("debian-"+name, laneDebian, func(c *component, f *fingerprint) error {
		t, _ := p.lock.tree(name)
		if err := c.need(p.base()); err != nil {
			return err
		}
		c.build = buildTree(t)
		return describe(f, t)
	})
}

// recipe plans what a recipe needs.
func (p *plan) recipe(c *component, r Recipe) error {
	if r.Program != "" {
		if err := c.need(p.program(r.Program)); err != nil {
			return err
		}
	}
	if r.Tree != "" {
		return c.need(p.tree(r.Tree))
	}
	return nil
}

func (p *plan) image(i LockedImage) (*component, error) {
	return p.part("image-"+i.Name, lanePack, func(c *component, f *fingerprint) error {
		if err := describe(f, i.Build); err != nil {
			return err
		}
		f.add(i.Version)
		if n := i.Build.Node; n != nil {
			c.build = buildNode(i, *n)
			return p.node(c, f, *n)
		}
		c.build = buildImage(i)
		return p.recipe(c, *i.Build)
	})
}

// cniProgram is the package of the CNI program that a node recipe names.
func cniProgram(n NodeRecipe) string { return "./clusters/" + n.CNI + "/cmd/" + n.CNI }

func (p *plan) node(c *component, f *fingerprint, n NodeRecipe) error {
	kind, err := p.src.requires("sigs.k8s.io/kind")
	if err != nil {
		return err
	}
	f.add("kind", kind, nodeFiles())
	for _, need := range []func() (*component, error){
		func() (*component, error) { return p.nodeBase(n, kind) },
		func() (*component, error) { return p.upstream(n.Kubernetes) },
		func() (*component, error) { return p.own(cniProgram(n)) },
	} {
		if err := c.need(need()); err != nil {
			return err
		}
	}
	for _, b := range n.Images {
		if err := p.recipe(c, b.Recipe); err != nil {
			return err
		}
	}
	return nil
}

// nodeBase is the node image without anything of Kubernetes.
func (p *plan) nodeBase(n NodeRecipe, kind string) (*component, error) {
	return p.part("node-base", lanePack, func(c *component, f *fingerprint) error {
		f.add(kind, nodeFiles())
		c.build = buildNodeBase(n, p.src)
		return c.need(p.tree(n.Tree))
	})
}

func (p *plan) chart(l LockedChart) (*component, error) {
	return p.part("chart-"+l.Name, lanePack, func(c *component, f *fingerprint) error {
		if err := describe(f, l); err != nil {
			return err
		}
		c.build = buildChart(l, p.src)
		return f.addFiles(p.src.upstream(l.Build.Upstream), "go.mod", "go.sum")
	})
}
