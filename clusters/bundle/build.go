package bundle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"meshsim.dev/meshsim/clusters/bundle/rootfs"
	"meshsim.dev/meshsim/clusters/cache"
	"meshsim.dev/meshsim/clusters/command"
	"meshsim.dev/meshsim/clusters/progress"
)

// BuildOptions say what Build builds, and with what.
type BuildOptions struct {
	Cache    cache.Dir
	Source   string // a checkout of this project
	Runner   command.Runner
	Log      *slog.Logger
	Progress *progress.Reporter
	Only     []string // images and charts by name; empty means all that can be built
	// Overrides come in the place of what would be built.
	Overrides Overrides
	// Transport reaches registries and chart repositories; nil is Go's default.
	Transport http.RoundTripper
}

// Build makes a bundle from Go modules and Debian packages and returns it.
// What an earlier build made and nothing has changed is reused; a build that
// is cut off goes on where it was. Making the Debian trees needs root on
// Debian; a fault.Environment says so.
func Build(ctx context.Context, o BuildOptions) (*Bundle, error) {
	lock, err := Locked()
	if err != nil {
		return nil, err
	}
	return build(ctx, lock, o)
}

func build(ctx context.Context, lock *Lock, o BuildOptions) (*Bundle, error) {
	src, err := openCheckout(o.Source)
	if err != nil {
		return nil, err
	}
	whole, err := newPlan(lock, src, selection{only: o.Only})
	if err != nil {
		return nil, err
	}
	if b, err := openFolder(o.Cache, whole.hash); err == nil && o.Overrides.Empty() {
		return b, setCurrent(o.Cache, b.Hash)
	}
	w := newWorkshop(o.Cache, lock, o.Runner, o.Log, o.Progress)
	release, err := lockCache(ctx, o.Cache, w.sayWaiting)
	if err != nil {
		return nil, err
	}
	defer release()
	more, err := w.fetchOverrides(ctx, o.Overrides, o.Transport)
	if err != nil {
		return nil, err
	}
	rec := newRecord(lock, OriginBuilt, whole.hash, o.Only, more)
	if b, err := openFolder(o.Cache, rec.Hash); err == nil {
		return w.makeCurrent(b) // made before, or by the build that was waited for
	}
	p, err := newPlan(lock, src, selection{only: o.Only, less: o.Overrides})
	if err != nil {
		return nil, err
	}
	if err := w.buildAll(ctx, p.order); err != nil {
		return nil, err
	}
	b, err := w.assemble(ctx, rec, p, more)
	if err != nil {
		return nil, err
	}
	return w.makeCurrent(b)
}

// builder makes one component into the empty folder out. It returns a few
// words for the progress line.
type builder func(ctx context.Context, w *workshop, c *component, out string, t *progress.Task) (string, error)

// workshop holds what builders work with.
type workshop struct {
	cache    cache.Dir
	lock     *Lock
	runner   command.Runner
	log      *slog.Logger
	progress *progress.Reporter
	debian   rootfs.Maker
}

func newWorkshop(d cache.Dir, lock *Lock, r command.Runner, log *slog.Logger, p *progress.Reporter) *workshop {
	return &workshop{
		cache: d, lock: lock, runner: r, log: log, progress: p,
		debian: rootfs.Maker{Runner: r, Suite: lock.Debian.Suite},
	}
}

func (w *workshop) sayWaiting() {
	w.progress.Say("another build is using the cache; waiting for it")
}

// buildAll makes every component that is not there yet, dependencies first,
// lanes beside each other. The first failure ends the rest.
func (w *workshop) buildAll(ctx context.Context, order []*component) error {
	w.findBuilt(order)
	if err := checkDisk(w.cache, order, freeDisk); err != nil {
		return err
	}
	for _, c := range order {
		if c.dir == "" && c.lane == laneDebian {
			if err := w.debian.Ready(ctx); err != nil {
				return err
			}
			break
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	ready := make(map[*component]chan struct{}, len(order))
	for _, c := range order {
		ready[c] = make(chan struct{})
	}
	for l := range lanes {
		g.Go(func() error { return w.runLane(ctx, l, order, ready) })
	}
	return g.Wait()
}

// runLane builds the components of one lane, one after another. As every lane
// keeps to the plan's order, none waits for what comes after it.
func (w *workshop) runLane(ctx context.Context, l lane, order []*component, ready map[*component]chan struct{}) error {
	for _, c := range order {
		if c.lane != l {
			continue
		}
		for _, d := range c.deps {
			select {
			case <-ready[d]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := w.buildOne(ctx, c); err != nil {
			return err
		}
		close(ready[c])
	}
	return nil
}

// findBuilt notes which components are in the cache, and drops from the work
// what only serves components that are there.
func (w *workshop) findBuilt(order []*component) {
	for _, c := range order {
		dir := filepath.Join(w.cache.Build(), c.name, c.key)
		if _, err := os.Stat(dir); err == nil {
			c.dir = dir
		}
	}
	needed := map[*component]bool{}
	for i := len(order) - 1; i >= 0; i-- {
		c := order[i]
		root := true
		for _, other := range order[i+1:] {
			for _, d := range other.deps {
				if d == c {
					root = false
				}
			}
		}
		if root {
			needed[c] = true
		}
		if needed[c] && c.dir == "" {
			for _, d := range c.deps {
				needed[d] = true
			}
		}
	}
	for _, c := range order {
		if c.dir == "" && !needed[c] {
			c.dir = filepath.Join(w.cache.Build(), c.name, c.key) // never looked into
		}
	}
}

func (w *workshop) buildOne(ctx context.Context, c *component) error {
	if c.dir != "" {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	task := w.progress.Start(c.name)
	began := time.Now()
	note, err := w.make(ctx, c, task)
	if err != nil {
		task.Fail(errors.New("not built"))
		return fmt.Errorf("build %s: %w", c.name, err)
	}
	task.Done(note)
	w.log.Info("component built", "component", c.name, "key", c.key, "took", time.Since(began))
	return nil
}

// make builds into a temporary folder and renames it, so that what has its
// name in the cache is whole.
func (w *workshop) make(ctx context.Context, c *component, task *progress.Task) (string, error) {
	parent := filepath.Join(w.cache.Build(), c.name)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", err
	}
	temp := filepath.Join(parent, ".making-"+c.key)
	if err := rootfs.Remove(temp); err != nil {
		return "", err
	}
	if err := os.Mkdir(temp, 0o755); err != nil {
		return "", err
	}
	note, err := c.build(ctx, w, c, temp, task)
	if err != nil {
		return "", errors.Join(err, rootfs.Remove(temp))
	}
	dir := filepath.Join(parent, c.key)
	if err := os.Rename(temp, dir); err != nil {
		return "", err
	}
	c.dir = dir
	return note, w.dropOld(parent, c.key)
}

// keepOld is how many earlier outputs of a component stay, for going back and forth.
const keepOld = 1

// dropOld removes what earlier builds left of a component, but the newest.
func (w *workshop) dropOld(parent, key string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	var newest time.Time
	keep := ""
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && e.Name() != key && e.Name()[0] != '.' && info.ModTime().After(newest) {
			newest, keep = info.ModTime(), e.Name()
		}
	}
	for _, e := range entries {
		if e.Name() == key || (keepOld > 0 && e.Name() == keep) {
			continue
		}
		if err := rootfs.Remove(filepath.Join(parent, e.Name())); err != nil {
			return fmt.Errorf("drop an old build: %w", err)
		}
	}
	return nil
}
