package bundle

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"meshsim.dev/meshsim/clusters/bundle/pack"
	"meshsim.dev/meshsim/clusters/bundle/rootfs"
	"meshsim.dev/meshsim/clusters/progress"
)

// localHost is the registry name of images that were built here. It is never
// looked up: nodes are told to ask the bundle's own registry for it.
const localHost = "meshsim.local"

// defaultPath is the PATH of built images.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// imageFile is the record of an image component, beside its blobs.
const imageFile = "image.json"

// builtImage is what an image component says about itself.
type builtImage struct {
	Ref      string        `json:"ref"`
	Version  string        `json:"version"`
	Manifest v1.Descriptor `json:"manifest"`
	Config   v1.Hash       `json:"config"` // what an engine calls the image's id
	Baked    []Image       `json:"baked,omitempty"`
}

func buildImage(i LockedImage) builder {
	return func(_ context.Context, _ *workshop, c *component, out string, _ *progress.Task) (string, error) {
		version := i.Version
		switch {
		case version == "":
			version = c.key
		case i.Build.Package != "":
			v, err := packageVersion(c.dep("debian-"+i.Build.Tree), i.Build.Package)
			if err != nil {
				return "", err
			}
			version = v
		}
		img, err := cook(c, i.Name, *i.Build, filepath.Join(out, "blobs"), pack.Compressed)
		if err != nil {
			return "", err
		}
		return version, finishImage(out, localRef(i.Name, version), version, img, nil)
	}
}

// tagRule matches what a tag may not hold.
var tagRule = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

func localRef(name, version string) string {
	return localHost + "/" + name + ":" + tagRule.ReplaceAllString(version, "-")
}

// finishImage writes the rest of an image's blobs and its record.
func finishImage(out, ref, version string, img v1.Image, baked []Image) error {
	d, err := pack.WriteBlobs(filepath.Join(out, "blobs"), img)
	if err != nil {
		return fmt.Errorf("write the image %s: %w", ref, err)
	}
	config, err := img.ConfigName()
	if err != nil {
		return err
	}
	return writeJSON(filepath.Join(out, imageFile), builtImage{
		Ref: ref, Version: version, Manifest: d, Config: config, Baked: baked,
	})
}

// cook makes the image of a recipe, its layer below blobs.
func cook(c *component, name string, r Recipe, blobs string, level int) (v1.Image, error) {
	entries := []pack.Entry{pack.Dir("/tmp", fs.ModeSticky|0o777)}
	if r.Tree != "" {
		kept, err := keep(filepath.Join(c.dep("debian-"+r.Tree).dir, treeFolder), r)
		if err != nil {
			return nil, err
		}
		entries = append(entries, kept...)
	}
	if r.Program != "" {
		entries = append(entries, programEntry(c, name, r))
	}
	for _, l := range sortedKeys(r.Links) {
		entries = append(entries, pack.Symlink(unmerge(entries, l), r.Links[l]))
	}
	for _, s := range sortedKeys(r.Scripts) {
		entries = append(entries, pack.File(unmerge(entries, s), 0o755, []byte(r.Scripts[s])))
	}
	layer, err := pack.WriteLayer(blobs, entries, level)
	if err != nil {
		return nil, err
	}
	return pack.NewImage(r.config(), layer)
}

func programEntry(c *component, name string, r Recipe) pack.Entry {
	at := r.At
	if at == "" {
		at = "/" + name
	}
	from := path.Base(path.Dir(r.Program))
	if isOwn(r.Program) {
		from = path.Base(r.Program)
	}
	return pack.Copy(at, 0o755, filepath.Join(c.dep("go-"+from).dir, path.Base(r.Program)))
}

// unmerge follows the links of a merged /usr (/bin → usr/bin), so that a path
// below one is put where it leads.
func unmerge(entries []pack.Entry, p string) string {
	top, rest, below := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	i := slices.IndexFunc(entries, func(e pack.Entry) bool { return e.Path == "/"+top && e.Link != "" })
	if i < 0 || !below {
		return p
	}
	return path.Join("/", entries[i].Link, rest)
}

func (r Recipe) config() pack.Config {
	env := []string{}
	if _, given := r.Env["PATH"]; !given {
		env = append(env, "PATH="+defaultPath)
	}
	for _, k := range sortedKeys(r.Env) {
		env = append(env, k+"="+r.Env[k])
	}
	return pack.Config{Entrypoint: r.Entrypoint, Env: env, User: r.User, StopSignal: r.StopSignal}
}

// keep takes the wanted part of a Debian tree.
func keep(tree string, r Recipe) ([]pack.Entry, error) {
	dropped := func(p string) bool {
		for _, d := range r.Drop {
			if ok, _ := path.Match(d, p); ok {
				return true
			}
		}
		return p == "/tmp"
	}
	if slices.Equal(r.Keep, []string{"/*"}) {
		return pack.Tree(tree, "/", dropped)
	}
	paths, err := rootfs.Closure(tree, r.Keep)
	if err != nil {
		return nil, err
	}
	var entries []pack.Entry
	for _, p := range paths {
		if p == "/" || dropped(p) {
			continue
		}
		e, ok, err := pack.FromDisk(filepath.Join(tree, p), p)
		if err != nil {
			return nil, err
		}
		if ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}
